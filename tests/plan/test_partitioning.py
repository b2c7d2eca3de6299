"""Plans for many workers and partitions: the splits of the plain search, found quickly."""

from __future__ import annotations

import time

import pytest

from srch_dist.config.loading import build_config
from srch_dist.errors import ConfigError
from srch_dist.kernels.tiling import even_splits
from srch_dist.plan.graph_memory import edge_bytes
from srch_dist.plan.partitioning import _block_counts, _most_rows, cut_edges
from srch_dist.plan.planner import draft_plan
from srch_dist.plan.problem import ProblemSize
from srch_dist.runtime.cluster import Cluster

DIMS = {"a": 768, "b": 768}


def sizes_of(rows: int, partition_rows: int, workers: int) -> ProblemSize:
    methods = dict.fromkeys(DIMS, "exact")
    return ProblemSize(rows, partition_rows, DIMS, 4, methods, build_config({}), workers)


@pytest.mark.parametrize("workers", [1, 3, 7, 200])
@pytest.mark.parametrize("rows", [100, 1_001, 9_999])
def test_edges_are_cut_into_the_fewest_runs_that_fit(rows, workers):
    sizes = sizes_of(rows, 10, workers)
    starts = (*range(0, rows, 10), rows)
    count = len(starts) - 1
    for allowed in range(0, edge_bytes(sizes, rows) + 1, edge_bytes(sizes, rows) // 40):
        runs = min(workers, count)
        while (
            runs < count
            and edge_bytes(sizes, _most_rows(starts, even_splits(count, runs))) > allowed
        ):
            runs = min(runs + workers, count)
        assert cut_edges(starts, sizes, allowed) == even_splits(count, runs)


@pytest.mark.parametrize("partitions", [1, 2, 7, 97, 180])
def test_numbers_of_blocks_are_those_at_which_the_longest_block_becomes_shorter(partitions):
    starts = (*range(0, 10 * partitions, 10), 10 * partitions - 3)
    for most in range(1, partitions + 1):
        longest = [
            _most_rows(starts, even_splits(partitions, blocks)) for blocks in range(1, most + 1)
        ]
        first = {rows: blocks for blocks, rows in reversed(list(enumerate(longest, 1)))}
        assert {*first.values(), most} <= set(_block_counts(partitions, most))


def test_a_hundred_million_workers_are_planned_at_once():
    started = time.process_time()
    plan = draft_plan(100_000_000, DIMS, build_config({}), Cluster(100_000_000, 2 << 30, True))
    assert len(plan.partitions) == 19_532
    assert time.process_time() - started < 3


def test_more_partitions_than_a_run_can_have_are_refused_with_both_numbers():
    with pytest.raises(ConfigError, match=r"195312500 partitions, expected at most 2097152"):
        draft_plan(10**12, DIMS, build_config({}), Cluster(2, 2 << 30, True))
