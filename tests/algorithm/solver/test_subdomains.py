"""Rows of several zones, over several blocks: one preconditioner, and few more iterations."""

import numpy as np
import pytest

from srch_dist.algorithm.solver import aggregation
from srch_dist.algorithm.solver.preconditioner import build_preconditioner
from srch_dist.config.options import SolverConfig
from srch_dist.kernels.graph.laplacian import SystemRule, system_block
from srch_dist.kernels.multigrid import subdomains
from srch_dist.kernels.multigrid.preconditioner import row_unknowns
from srch_dist.runtime import tasks
from tests.helpers import reference
from tests.helpers.prepared import read_array

pytestmark = pytest.mark.slow

N, BETA, LAM = 300, 1.0, 10.0
BLOCKS = [1, 2, 3, 5]
METHOD = {"iterations": 3, "threshold": 0.0}


@pytest.fixture(params=[64, 130], ids=["five zones", "three zones"])
def _short_zones(request, monkeypatch):
    monkeypatch.setattr(subdomains, "SUBDOMAIN_ROWS", request.param)


@pytest.fixture(scope="module")
def run_of(prepare):
    """A function from a number of blocks to a prepared run; no block ends where a zone does."""

    def prepared(blocks, **options):
        features = reference.paired_features(3, N, (8, 6))
        cut = {"partition_rows": 31, "blocks": blocks}
        return prepare(features, bits=16, method=METHOD, solver={"coarse": "on"}, **cut, **options)

    return prepared


def applied(run):
    """M⁻¹ of random vectors (n, 4), and the coarse unknown (n,) of each row."""
    graph, plan = run.graph(), run.plan
    kind = np.dtype(np.float64)
    systems = [tasks.task(system_block, b, None, SystemRule(BETA, LAM, kind)) for b in graph.blocks]
    found = build_preconditioner(graph, systems, BETA, SolverConfig(coarse="on"))
    *levels, space = tasks.run_all([*found.levels, found.space])
    vectors = np.random.default_rng(5).normal(size=(N, 4))
    parts = [vectors[slice(*plan.block_span(b))] for b in plan.blocks]
    sums = space.add_up([c.restrict(part) for c, part in zip(levels, parts, strict=True)])
    coarse = space.solve(sums)
    result = [
        one.precondition(part, space.correct(sums, coarse, slots))
        for one, part, slots in zip(levels, parts, space.slots, strict=True)
    ]
    first = len(space.smoother) - len(space.coarse_inverse)
    labels = [row_unknowns(one, first) for one in levels]
    return np.concatenate(result), np.concatenate(labels)


@pytest.mark.usefixtures("_short_zones")
def test_the_preconditioner_does_not_depend_on_the_blocks(run_of):
    whole, unknowns = applied(run_of(1))
    assert unknowns.max() > 0
    for blocks in BLOCKS[1:]:
        found, labels = applied(run_of(blocks))
        np.testing.assert_array_equal(labels, unknowns)
        np.testing.assert_allclose(found, whole, atol=1e-12)


def test_zones_of_more_rows_than_are_matched_together(run_of, monkeypatch):
    """Each has its aggregates and coarse unknowns, and none over two zones."""
    monkeypatch.setattr(subdomains, "SUBDOMAIN_ROWS", 64)
    monkeypatch.setattr(aggregation, "JOINT_ROWS", N - 1)
    whole, unknowns = applied(run_of(1))
    found, labels = applied(run_of(3))
    np.testing.assert_array_equal(labels, unknowns)
    np.testing.assert_allclose(found, whole, atol=1e-12)
    zone = np.arange(N) // 64
    for one in range(unknowns.max() + 1):
        assert len(np.unique(zone[unknowns == one])) == 1


@pytest.mark.usefixtures("_short_zones")
def test_codes_and_iterations_do_not_depend_on_the_blocks(run_of):
    ends = []
    shared = {"spill": "on", "columns": 8, "workers": 3}
    cases = [(1, {}), (2, {}), (3, {"spill": "on"}), (5, {"spill": "on"}), (1, shared)]
    for blocks, options in cases:
        run = run_of(blocks, **options)
        last = run.learn().iteration
        counts = [record["cg_iterations"] for record in run.directory.history()]
        ends.append((run.codes(last), counts, read_array(run.directory.checkpoint(last, "z"))))
    for codes, counts, z in ends[1:]:
        np.testing.assert_array_equal(codes, ends[0][0])
        assert counts == ends[0][1]
        np.testing.assert_allclose(z, ends[0][2], atol=1e-5)


@pytest.mark.parametrize("rows", [64, 130])
def test_zones_take_few_iterations_more_than_one(run_of, monkeypatch, rows):
    counts = []
    for zone in (N, rows):
        monkeypatch.setattr(subdomains, "SUBDOMAIN_ROWS", zone)
        run = run_of(2)
        run.learn()
        counts.append([record["cg_iterations"] for record in run.directory.history()])
    assert max(counts[1]) <= 1.5 * max(counts[0])
