"""The plan: how rows are cut, and what is refused before any work."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srch_dist.config.loading import build_config
from srch_dist.errors import PlanError
from tests.helpers.plans import make_plan

DIMS = {"image": 1280, "text": 384}
GIB = 1 << 30
ALL_COLUMNS = {"method": {"embedding_rank": 0}}


def plan(rows, dims=None, workers=2, memory=4 * GIB, **options):
    return make_plan(rows, dims or DIMS, build_config(options), workers, memory)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 5000),
    partition=st.integers(1, 6000),
    blocks=st.one_of(st.none(), st.integers(1, 40)),
    workers=st.integers(1, 9),
)
def test_partitions_and_blocks_cover_every_row_once(rows, partition, blocks, workers):
    found = plan(rows, {"a": 8, "b": 4}, workers, partition_rows=partition, blocks=blocks)
    spans = [found.span(p) for p in found.partitions]
    assert [row for low, high in spans for row in range(low, high)] == list(range(rows))
    assert all(high - low == partition for low, high in spans[:-1])
    assert [p for b in found.blocks for p in found.block_partitions(b)] == list(found.partitions)
    for b in found.blocks:
        inside = found.block_partitions(b)
        assert len(inside) >= 1
        assert found.block_span(b) == (spans[inside[0]][0], spans[inside[-1]][1])
    assert found.rows == rows
    if blocks is not None:
        assert len(found.blocks) == min(blocks, len(spans))


@pytest.mark.parametrize("dims", [{"a": 64, "b": 64}, DIMS, {"a": 4096, "b": 4096, "c": 4096}])
def test_default_partition_is_about_32_mib_of_all_modalities(dims):
    found = plan(1_000_000, dims, memory=64 * GIB)
    size = found.partition_rows * sum(dims.values()) * found.dtype.itemsize
    assert 16 << 20 < size <= 32 << 20
    assert found.partition_rows < 1024 or found.partition_rows % 1024 == 0


def test_small_data_is_one_partition_and_one_block():
    found = plan(1525)
    assert (len(found.partitions), len(found.blocks)) == (1, 1)


@pytest.mark.parametrize(
    ("rows", "dims", "expected"),
    [
        (1_525, DIMS, {"image": "exact", "text": "exact"}),
        (15_000, {"a": 512, "b": 384}, {"a": "exact", "b": "exact"}),
        (151_000, {"a": 512, "b": 384}, {"a": "partitioned", "b": "partitioned"}),
    ],
)
def test_neighbour_search_is_chosen_by_rows_and_dimensions_alone(rows, dims, expected):
    for workers, memory in ((1, 16 * GIB), (8, 64 * GIB)):
        found = plan(rows, dims, workers, memory)
        assert dict(found.methods) == expected
        assert dict(plan(rows, dims, workers, memory, partition_rows=500).methods) == expected
    forced = plan(rows, dims, memory=64 * GIB, graph={"method": "exact"})
    assert set(forced.methods.values()) == {"exact"}


def test_arithmetic_follows_from_the_data_alone():
    assert plan(1000).dtype == np.float64
    assert plan(1_000_000, memory=64 * GIB).dtype == np.float32
    assert plan(1000, precision="float32").dtype == np.float32
    assert plan(100_000, {"a": 64, "b": 1280}, memory=64 * GIB, precision="float64").dtype == (
        np.float64
    )
    for memory in (2 * GIB, 64 * GIB):
        assert plan(10_000, memory=memory).dtype == plan(10_000).dtype


def test_icons151k_fits_two_workers_of_two_gib():
    """The size that the project promises: 151,040 rows at 64 bits."""
    dims = {"image": 96, "text": 128}
    found = plan(151_040, dims, workers=2, memory=2 * GIB, bits=64)
    assert 1 <= len(found.blocks) <= 2


def test_plan_that_does_not_fit_is_refused_with_stage_and_both_numbers():
    with pytest.raises(PlanError) as refusal:
        plan(5_000_000, workers=2, memory=GIB, bits=64)
    text = str(refusal.value)
    found = re.search(
        r"the (\S+) stage needs (\d+) MiB .*only (\d+) MiB are allowed: 80% of the 1024 MiB", text
    )
    assert found
    assert found[1] in {"features", "neighbours", "graph", "Z-step", "S-step", "B-step"}
    assert int(found[2]) > int(found[3])
    assert int(found[3]) < 1024
    assert "--memory-limit" in text


@pytest.mark.parametrize("memory", [1, 64 << 20, 200 << 20])
def test_worker_smaller_than_its_own_imports_is_refused(memory):
    with pytest.raises(PlanError, match="only 0 MiB are allowed"):
        plan(100, {"a": 8, "b": 8}, memory=memory)


def test_needs_grow_with_rows_bits_and_neighbours_and_shrink_with_workers():
    dims = {"a": 64, "b": 64}

    def solve(rows, workers, **options):
        options = {"graph": {"method": "exact"}, "blocks": workers, **options}
        found = plan(rows, dims, workers, 64 * GIB, partition_rows=1000, **options)
        return {stage.name: stage.projected_bytes for stage in found.stages}["Z-step"]

    base = solve(100_000, 2)
    assert solve(200_000, 2) > 1.9 * base
    # One task aggregates a zone, with any number of workers.
    alone = {"solver": {"coarse": "off"}}
    assert solve(100_000, 4, **alone) < 0.6 * solve(100_000, 2, **alone)
    assert solve(100_000, 2, method={"loop_bits": 128, "embedding_rank": 0}) > base
    assert solve(100_000, 2, graph={"method": "exact", "k": 40}) > base


def test_columns_are_solved_in_groups_only_if_memory_is_short():
    dims = {"a": 64, "b": 64}
    options = {**ALL_COLUMNS, "bits": 64, "graph": {"method": "exact"}}
    wide = plan(1_500_000, dims, 1, 16 * GIB, **options)
    narrow = plan(1_500_000, dims, 1, 4 * GIB, **options)
    assert wide.columns == 64
    assert narrow.columns < 64
    groups = narrow.column_groups(64)
    assert [c for group in groups for c in range(64)[group]] == list(range(64))
    assert plan(1_500_000, dims, 2, 16 * GIB, columns=24, **options).columns == 24


@pytest.mark.parametrize(("workers", "columns"), [(1, 64), (2, 32), (3, 24), (8, 8), (50, 8)])
def test_workers_share_the_columns_if_one_block_fits(workers, columns):
    options = {**ALL_COLUMNS, "bits": 64, "graph": {"method": "exact"}}
    found = plan(300_000, {"a": 64, "b": 64}, workers, 32 * GIB, **options)
    groups = len(found.column_groups(64))
    solve = next(stage for stage in found.stages if stage.name == "Z-step")
    assert (len(found.blocks), found.columns, found.groups_at_once) == (1, columns, workers)
    assert solve.at_once == min(groups, workers)


@pytest.mark.parametrize(("workers", "columns"), [(1, 32), (2, 16), (3, 16), (8, 8)])
def test_workers_share_the_directions_of_the_embedding(workers, columns):
    options = {"bits": 64, "graph": {"method": "exact"}, "method": {"embedding_rank": 32}}
    found = plan(300_000, {"a": 64, "b": 64}, workers, 32 * GIB, **options)
    assert (len(found.blocks), found.columns) == (1, columns)
    assert len(found.column_groups(32)) == 32 // columns


def test_a_pass_of_the_s_step_has_several_groups_of_a_solve_if_they_fit():
    dims = {"a": 64, "b": 64}
    options = {**ALL_COLUMNS, "bits": 64, "graph": {"method": "exact"}, "columns": 8}
    for workers, blocks, memory, widest in ((1, 1, 32, 64), (2, 1, 32, 32), (2, 2, 2, 32)):
        found = plan(4_000_000, dims, workers, memory * GIB, spill="on", blocks=blocks, **options)
        groups = found.length_groups(64)
        assert [c for group in groups for c in range(64)[group]] == list(range(64))
        assert found.length_columns == widest
        assert found.length_columns % found.columns == 0


@pytest.mark.parametrize(("workers", "blocks"), [(2, 1), (8, 1), (16, 16)])
def test_one_block_is_read_from_files_if_every_worker_has_columns(workers, blocks):
    options = {**ALL_COLUMNS, "bits": 64, "graph": {"method": "exact"}, "spill": "on"}
    found = plan(4_000_000, {"a": 64, "b": 64}, workers, 4 * GIB, **options)
    assert found.spilled
    assert len(found.blocks) == blocks


def test_several_blocks_on_one_worker_need_their_halos_and_new_vectors():
    def solve(blocks):
        options = {"bits": 64, "graph": {"method": "exact"}, "solver": {"coarse": "off"}}
        options |= ALL_COLUMNS
        found = plan(300_000, {"a": 64, "b": 64}, 1, 64 * GIB, blocks=blocks, **options)
        return {stage.name: stage.projected_bytes for stage in found.stages}["Z-step"]

    vectors = 300_000 * 64 * 4
    assert solve(2) - solve(1) > 6 * vectors


def test_few_rows_are_solved_by_one_worker():
    found = plan(5000, {"a": 64, "b": 64}, 4, 32 * GIB, bits=64, **ALL_COLUMNS)
    assert (len(found.blocks), found.columns) == (1, 64)


def test_disk_holds_at_least_the_normalised_features():
    found = plan(10_000)
    assert found.disk_bytes >= 10_000 * sum(DIMS.values()) * found.dtype.itemsize
