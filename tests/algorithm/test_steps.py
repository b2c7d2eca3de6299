"""Each step of Algorithm 1, over partitions and blocks, against the dense reference."""

import shutil
from dataclasses import fields, replace
from itertools import combinations_with_replacement

import numpy as np
import pytest

from srch_dist.algorithm.b_step import b_step
from srch_dist.algorithm.features.reader import load_features
from srch_dist.algorithm.iteration import Iteration
from srch_dist.algorithm.s_step import s_step
from srch_dist.algorithm.w_step import w_step
from srch_dist.algorithm.z_step import z_step
from srch_dist.config.loading import build_config
from srch_dist.kernels.code_basis import first_basis, leading_basis
from srch_dist.runtime import tasks
from tests.helpers import reference

pytestmark = pytest.mark.slow

N, BITS, K = 90, 8, 5
CUTS = {"one block": {}, "three blocks": {"partition_rows": 20, "blocks": 3}}


class State:
    """A prepared run with its loaded graph, and its dense data for the reference."""

    def __init__(self, prepare, dims, preset, method=None, tolerance=1e-10, n=N, **cut):
        raw = reference.paired_features(0, n, dims)
        self.run = prepare(
            raw,
            preset=preset,
            bits=BITS,
            graph={"k": K},
            method=method or {},
            solver={"tolerance": tolerance},
            **cut,
        )
        self.graph = self.run.graph()
        self.x = {g: reference.normalise(values) for g, values in raw.items()}
        self.graphs = {g: reference.adjacency(reference.nearest(x, K)) for g, x in self.x.items()}
        self.b = self.run.first_codes.astype(np.float64)
        known = {field.name for field in fields(reference.Options)}
        self.options = reference.Options(
            **{
                **vars(reference.PAPER if preset == "paper" else reference.BALANCED),
                "k": K,
                **{name: value for name, value in (method or {}).items() if name in known},
            }
        )

    def z_step(self, rebased=None, warm=None, basis=None):
        iteration = Iteration(1, self.run.config.solver.tolerance, basis)
        return z_step(self.run.job, self.graph, iteration, rebased, warm)

    def s_step(self, z):
        return s_step(self.run.job, self.graph, [self.parts(z)])

    def parts(self, values):
        spans = [self.run.plan.block_span(b) for b in self.run.plan.blocks]
        return [tasks.as_task_input(values[slice(*span)].astype(np.float32)) for span in spans]

    def system(self, s=None):
        """The dense βI + λH, and β, for S by modality; S = 1 by default."""
        beta = self.options.beta * len(self.x) / 2
        h = reference.full_laplacian(self.graphs, s or reference.unit_weights(self.graphs))
        return beta * np.eye(len(self.b)) + self.options.lam * h, beta


@pytest.fixture(scope="module", params=CUTS)
def cut(request):
    return CUTS[request.param]


@pytest.fixture(scope="module")
def three(prepare, cut):
    """Three modalities with the printed scaling and a β at which Z changes the codes."""
    return State(prepare, (12, 9, 7), "paper", {"beta": 0.3, "alpha": 0.5}, **cut)


@pytest.fixture(scope="module", params=["balanced", "paper", "three modalities"])
def state(request, prepare, cut, three):
    if request.param == "three modalities":
        return three
    return State(prepare, (12, 9), request.param, **cut)


def values_of(blocks):
    return np.concatenate(tasks.run_all(blocks))


def test_first_statistics_equal_products_over_all_rows(state):
    statistics, x = state.run.statistics, state.x
    for g in x:
        np.testing.assert_allclose(statistics.cross_covariance[g], x[g].T @ state.b, atol=1e-10)
    assert list(statistics.grams) == list(combinations_with_replacement(x, 2))
    for (g, h), gram in statistics.grams.items():
        np.testing.assert_allclose(gram, x[g].T @ x[h], atol=1e-10)


def test_w_step_solves_equation_11(state):
    w = w_step(state.run.statistics.cross_covariance)
    for g, x in state.x.items():
        np.testing.assert_allclose(w[g], reference.w_step(x, state.b), atol=1e-9)


def test_z_step_solves_equation_14(state):
    found = state.z_step()
    matrix, beta = state.system()
    z = np.linalg.solve(matrix, beta * state.b)
    np.testing.assert_allclose(values_of(found.groups[0]), z, atol=1e-6)
    assert found.cg_residual <= 1e-10
    assert found.cg_iterations > 0


def test_z_step_weighs_rebased_edges_with_the_square_of_s(state):
    z = np.random.default_rng(0).normal(size=state.b.shape).astype(np.float32)
    rebased = state.s_step(z)
    found = state.z_step(rebased)
    _, s = reference.s_step(state.graphs, z.astype(np.float64), state.options)
    matrix, beta = state.system(s)
    expected = np.linalg.solve(matrix, beta * state.b)
    np.testing.assert_allclose(values_of(found.groups[0]), expected, atol=1e-6)


def test_z_step_solves_for_the_coordinates_of_the_codes_in_a_basis(prepare, cut):
    state = State(prepare, (12, 9), "balanced", {"embedding_rank": 3}, **cut)
    gram = state.b.T @ state.b
    basis = leading_basis(gram, first_basis(BITS, 3))
    directions = np.linalg.eigh(gram)[1][:, -3:]
    found = state.z_step(basis=basis)
    matrix, beta = state.system()
    projected = state.b @ directions @ directions.T
    z = np.linalg.solve(matrix, beta * projected)
    coordinates = values_of(found.groups[0])
    assert coordinates.shape == (N, 3)
    np.testing.assert_allclose(coordinates @ basis.T, z, atol=2e-5)
    np.testing.assert_allclose(found.mean, z.mean(axis=0), atol=2e-5)
    assert found.rms == pytest.approx(reference.rms(z - z.mean(axis=0)), rel=1e-4)
    np.testing.assert_allclose(
        reference.edge_lengths(state.graphs["m0"], coordinates.astype(float)),
        reference.edge_lengths(state.graphs["m0"], z),
        atol=1e-4,
    )
    rule = state.run.rule(w_step(state.run.statistics.cross_covariance), found)
    np.testing.assert_allclose(rule.embedding(coordinates), z, atol=2e-5)


def test_z_step_stores_the_embedding_and_returns_its_mean_and_rms(state):
    found = state.z_step()
    z = values_of(found.groups[0])
    assert z.dtype == np.float32
    np.testing.assert_array_equal(state.run.embedding(1), z)
    wide = z.astype(np.float64)
    np.testing.assert_allclose(found.mean, wide.mean(axis=0), atol=1e-12)
    assert found.rms == pytest.approx(reference.rms(wide - wide.mean(axis=0)), rel=1e-6)


def test_warm_start_needs_fewer_iterations_for_the_same_embedding(state, tmp_path):
    cold = state.z_step()
    before = values_of(cold.groups[0])
    # The step removes the Z of its own checkpoint; a run keeps the last Z in the one before.
    last = shutil.copytree(cold.path, tmp_path / "z")
    warm = state.z_step(warm=replace(cold, path=last))
    assert warm.cg_iterations < cold.cg_iterations
    np.testing.assert_allclose(values_of(warm.groups[0]), before, atol=2e-7)


@pytest.mark.parametrize("preset", ["balanced", "paper"])
def test_embedding_is_as_exact_as_the_tolerance(prepare, preset):
    """The default tolerance bounds the error, in spite of the precision of the vectors."""
    tolerance = build_config({}).solver.tolerance
    state = State(prepare, (12, 9), preset, tolerance=tolerance, n=400)
    found = state.z_step()
    z = values_of(found.groups[0])
    matrix, beta = state.system()
    exact = np.linalg.solve(matrix, beta * state.b)
    assert np.linalg.norm(z - exact) <= tolerance * np.linalg.norm(exact)
    assert found.cg_residual <= tolerance


def test_s_step_solves_equation_15_with_the_terms_of_equations_4_and_7(state):
    rng = np.random.default_rng(3)
    z = (0.1 * rng.normal(size=state.b.shape)).astype(np.float32).astype(np.float64)
    rebased = state.s_step(z)
    alpha, s = reference.s_step(state.graphs, z, state.options)
    w = {g: reference.w_step(x, state.b) for g, x in state.x.items()}
    terms = reference.objective(state.x, w, z, s, state.b, state.graphs, alpha, state.options)
    assert rebased.alpha == pytest.approx(alpha, rel=1e-6)
    assert rebased.semantic == pytest.approx(terms["semantic"], rel=1e-6)
    assert rebased.sparsity == pytest.approx(terms["sparsity"], rel=1e-6)


@pytest.fixture(scope="module")
def balanced(prepare, cut):
    return State(prepare, (12, 9), "balanced", **cut)


def test_median_of_the_edges_has_half_of_them_above_one_half(balanced):
    z = np.random.default_rng(3).normal(size=balanced.b.shape).astype(np.float32)
    alpha = balanced.s_step(z).alpha
    lengths = np.concatenate(
        [reference.edge_lengths(graph, z.astype(float)) for graph in balanced.graphs.values()]
    )
    s = alpha / (alpha + 10 * lengths)
    assert abs(np.mean(s > 0.5) - 0.5) <= 2 / len(s)


def test_an_embedding_that_is_constant_leaves_every_edge_at_one(balanced):
    rebased = balanced.s_step(np.ones((N, BITS)))
    assert np.isinf(rebased.alpha)
    assert rebased.semantic == 0.0
    assert rebased.sparsity == 0.0
    matrix, beta = balanced.system()
    z = np.linalg.solve(matrix, beta * balanced.b)
    np.testing.assert_allclose(values_of(balanced.z_step(rebased).groups[0]), z, atol=1e-6)


def test_alpha_is_the_smallest_positive_length_if_the_median_is_zero(balanced):
    z = np.ones((N, BITS))
    z[5] = 2.0
    z[40, 0] = 1.5
    lengths = [reference.edge_lengths(graph, z) for graph in balanced.graphs.values()]
    assert np.median(np.concatenate(lengths)) == 0
    alpha = balanced.s_step(z).alpha
    assert alpha == pytest.approx(10 * 0.25, rel=1e-7)


def test_without_rebase_every_edge_stays_at_one(prepare):
    state = State(prepare, (12, 9), "balanced", {"rebase": False})
    z = np.random.default_rng(3).normal(size=state.b.shape).astype(np.float32)
    rebased = state.s_step(z)
    lengths = {
        g: reference.edge_lengths(graph, z.astype(float)) for g, graph in state.graphs.items()
    }
    pull = sum(np.sum(reference.edge_weights(state.graphs[g]) * d) for g, d in lengths.items())
    assert np.isinf(rebased.alpha)
    assert rebased.sparsity == 0.0
    assert rebased.semantic == pytest.approx(10 * pull, rel=1e-6)


def run_b_step(state):
    """The result of a B-step after a first Z-step, and the reference's scores."""
    run = state.run
    w = w_step(run.statistics.cross_covariance)
    found = state.z_step()
    z = values_of(found.groups[0]).astype(np.float64)
    rule = run.rule(w, found)
    result = b_step(run.job, 1, rule)
    wanted = reference.scores(
        state.x, {g: reference.w_step(x, state.b) for g, x in state.x.items()}, z, state.options
    )
    return result, wanted, z


def test_b_step_takes_the_signs_of_equation_17(state):
    _, wanted, _ = run_b_step(state)
    assert np.abs(wanted).min() > reference.SCORE_TOLERANCE
    np.testing.assert_array_equal(state.run.codes(1), reference.sign(wanted))


def test_b_step_returns_sums_over_all_rows_and_a_checksum_a_partition(state):
    result, _, z = run_b_step(state)
    sums = result.sums
    b = state.run.codes(1).astype(np.float64)
    for g, x in state.x.items():
        np.testing.assert_allclose(sums.cross_covariance[g], x.T @ b, atol=1e-10)
    np.testing.assert_array_equal(sums.code_gram, b.T @ b)
    np.testing.assert_array_equal(sums.bit_sums, b.sum(axis=0))
    assert sums.changed == np.sum(b != state.b)
    assert sums.embedding_error == pytest.approx(np.sum((z - b) ** 2), rel=1e-9)
    assert len(result.checksums) == len(state.run.plan.partitions)


def test_b_step_is_the_same_from_memory_and_from_reading_ahead(prepare):
    results = []
    for cache in ("auto", "off"):
        state = State(prepare, (12, 9), "balanced", partition_rows=20, blocks=3, cache=cache)
        run = state.run
        w, found = w_step(run.statistics.cross_covariance), state.z_step()
        kept = None
        if cache == "auto":
            assert run.plan.cached
            kept = load_features(run.job)
        else:
            assert any(len(some) > 1 for some in run.plan.passes)
        rule = run.rule(w, found)
        update = b_step(run.job, 1, rule, kept)
        results.append((update.sums, update.checksums, run.codes(1)))
    (left, first, codes), (right, second, same) = results
    np.testing.assert_array_equal(codes, same)
    assert first == second
    for g, part in left.cross_covariance.items():
        np.testing.assert_allclose(part, right.cross_covariance[g], rtol=1e-12, atol=1e-12)


def rule_of(state, z):
    """The rule of the B-step for a dense embedding ``z``."""
    run = state.run
    found = state.z_step()
    changed = type(found)(
        **{**vars(found), "mean": z.mean(axis=0), "rms": reference.rms(z - z.mean(axis=0))}
    )
    w = w_step(run.statistics.cross_covariance)
    return run.rule(w, changed)


def test_balanced_rule_brings_both_terms_to_rms_one(balanced):
    z = np.random.default_rng(0).normal(size=(N, BITS)) * 1e-3 + 0.2
    rule = rule_of(balanced, z)
    projected = sum(x @ rule.projections[g].T for g, x in balanced.x.items())
    assert reference.rms(projected) == pytest.approx(1.0, rel=1e-9)
    assert reference.rms(rule.z_scale * (z - rule.z_mean)) == pytest.approx(1.0, rel=1e-9)


def test_omega_scales_the_embedding(prepare):
    z = np.random.default_rng(0).normal(size=(N, BITS))
    for omega in (0.0, 2.5):
        rule = rule_of(State(prepare, (12, 9), "balanced", {"omega": omega}), z)
        assert reference.rms(rule.z_scale * (z - rule.z_mean)) == pytest.approx(omega, rel=1e-9)


def test_a_constant_embedding_is_not_scaled_up(balanced):
    assert rule_of(balanced, np.full((N, BITS), 0.7)).z_scale == 0.0
    assert rule_of(balanced, np.zeros((N, BITS))).z_scale == 0.0


def test_printed_rule_is_beta_and_two(three):
    z = np.random.default_rng(0).normal(size=(N, BITS)) + 0.2
    rule = rule_of(three, z)
    w = w_step(three.run.statistics.cross_covariance)
    assert rule.z_scale == pytest.approx(0.3 * 3 / 2)
    np.testing.assert_array_equal(rule.z_mean, 0.0)
    for g in three.x:
        np.testing.assert_allclose(rule.projections[g], 2 * w[g])
