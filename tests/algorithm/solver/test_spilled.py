"""The graph in scratch files: the same bytes as in memory, and written again where it is lost."""

import shutil

import numpy as np
import pytest

from srch_dist.algorithm import s_step
from srch_dist.algorithm.solver.assembly import make_system
from srch_dist.kernels.graph import block as graph_block
from srch_dist.kernels.graph import neighbours, rebase
from srch_dist.kernels.graph.laplacian import SystemRule, system_block
from srch_dist.runtime import tasks
from srch_dist.storage.scratch import SpilledValues
from tests.helpers import reference
from tests.helpers.prepared import read_array, read_codes

pytestmark = pytest.mark.slow

N = 150
CUTS = {
    "one block": {"partition_rows": 64},
    "three blocks": {"partition_rows": 20, "blocks": 3},
    "groups of columns": {"partition_rows": 20, "blocks": 2, "columns": 3},
    "columns that workers share": {
        "partition_rows": 20,
        "blocks": 1,
        "columns": 3,
        "workers": 2,
    },
}
EDGE_FIELDS = ("columns", "weights", "multiplicity", "counted_once")


@pytest.fixture(scope="module", params=CUTS)
def pair(request, prepare):
    """A function that prepares the same run with the graph in memory and on disk."""

    def prepared(**options):
        features = reference.paired_features(2, N, (8, 6))
        cut = CUTS[request.param]
        return [prepare(features, spill=spill, **cut, **options) for spill in ("auto", "on")]

    return prepared


@pytest.fixture(autouse=True)
def _short_tiles(monkeypatch):
    monkeypatch.setattr(graph_block, "TILE_ROWS", 7)
    monkeypatch.setattr(rebase, "DISTANCE_EDGES", 17)
    monkeypatch.setattr(s_step, "TERM_EDGES", 19)
    monkeypatch.setattr(neighbours, "REFINE_VALUES", 100)


def test_blocks_on_disk_hold_what_those_in_memory_do(pair):
    kept, spilled = ([*tasks.run_all(run.graph().blocks)] for run in pair())
    for block, other in zip(kept, spilled, strict=True):
        np.testing.assert_array_equal(block.indptr, other.indptr)
        np.testing.assert_array_equal(block.halo, other.halo)
        for name in EDGE_FIELDS:
            found = getattr(other, name)
            assert isinstance(found, SpilledValues)
            assert found.dtype == getattr(block, name).dtype
            np.testing.assert_array_equal(found[:], getattr(block, name))


@pytest.mark.parametrize("drop", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_are_the_same_to_the_bit(pair, tmp_path, dtype, drop):
    kept, spilled = (tasks.run_all(run.graph().blocks) for run in pair())
    rng = np.random.default_rng(0)
    for b, (block, other) in enumerate(zip(kept, spilled, strict=True)):
        lengths = rng.random(len(block.columns)).astype(np.float32)
        rule = SystemRule(1.0, 10.0, np.dtype(dtype), drop)
        known = {"lengths": lengths, "alpha": 0.3, "rule": rule}
        system = make_system(block, **known, folder=None)
        streamed = make_system(other, **known, folder=tmp_path / str(b))
        own = rng.normal(size=(block.rows, 5)).astype(dtype)
        halo = rng.normal(size=(len(block.halo), 5)).astype(dtype)
        np.testing.assert_array_equal(system.diagonal, streamed.diagonal)
        np.testing.assert_array_equal(streamed.apply(own, halo), system.apply(own, halo))
        whole = system_block(block, None, rule).off_diagonal
        assert (system.off_diagonal != whole).nnz > 0  # the lengths count


@pytest.mark.parametrize("preset", ["balanced", "paper"])
def test_a_run_with_the_graph_on_disk_learns_the_same_codes(pair, preset):
    options = {"preset": preset, "method": {"iterations": 3}, "solver": {"coarse": "on"}}
    kept, spilled = pair(**options)
    ends = [run.learn() for run in (kept, spilled)]
    assert [run.plan.spilled for run in (kept, spilled)] == [False, True]
    for kind in ("z", "codes"):
        paths = [run.directory.checkpoint(ends[0].iteration, kind) for run in (kept, spilled)]
        np.testing.assert_array_equal(read_array(paths[0]), read_array(paths[1]))
    histories = [run.directory.history() for run in (kept, spilled)]
    for one, other in zip(*histories, strict=True):
        assert (one["terms"], one["alpha"]) == (other["terms"], other["alpha"])


def test_files_of_a_step_do_not_outlive_it(pair):
    _, spilled = pair(method={"iterations": 3})
    spilled.learn()
    folder = spilled.directory.scratch("solve")
    blocks = [f"graph-{b:06d}" for b in spilled.plan.blocks]
    left = sorted(path.name for path in folder.iterdir())
    assert left[: len(blocks)] == blocks
    assert len(left) == len(blocks) + 1  # the lengths that the next Z-step would take
    assert left[-1].startswith("lengths-")


def test_a_block_whose_files_are_lost_is_written_again(pair):
    """As after a worker was killed: nothing but the run's stores is needed."""
    kept, spilled = pair(method={"iterations": 2})
    first = spilled.graph()
    tasks.run_all(first.blocks)
    shutil.rmtree(first.folder)
    spilled.learn()
    kept.learn()
    np.testing.assert_array_equal(read_codes(spilled.directory, 2), read_codes(kept.directory, 2))
