"""Partitions, blocks and bytes, worked out from shapes and options before any work.

The plan decides how work is cut, never what is computed: codes do not depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from srch_dist.config import GraphConfig, TrainConfig
from srch_dist.errors import ConfigError, PlanError

_PARTITION_BYTES = 32 << 20
# Up to this many feature values (512 MiB) training is done in float64.
_DOUBLE_VALUES = 1 << 26
# Exact search up to this many multiplications (some 10 s on two cores): below it, the start-up
# of NN-descent (compilation, about 22 s a process) costs more than it saves.
_EXACT_PRODUCTS = 5e11
# One index up to this many feature values (512 MiB in float32); beyond, one a cluster of rows.
_INDEX_VALUES = 1 << 27
# Resident memory of an idle worker with its imports, and what compiling NN-descent adds.
_IDLE_BYTES = 250 << 20
_COMPILED_BYTES = 500 << 20
# Narrower groups of columns read the graph more often than they save memory.
_LEAST_COLUMNS = 8
# Rows that are aggregated together in the Z-step, whatever the plan is.
ZONE_ROWS = 1 << 18
# A worker spills and pauses as it nears its limit; tasks are planned to stay below this share.
_USABLE = 0.8


@dataclass(frozen=True)
class Stage:
    """Memory of one stage: the largest process at its fullest, in bytes."""

    name: str
    worker_bytes: int


@dataclass(frozen=True)
class Plan:
    """How a run is cut.

    Attributes
    ----------
    starts : first row of each partition, and n at the end.
    block_starts : first partition of each Z-step block, and the number of partitions at the end.
    columns : columns of Z that are solved at a time.
    dtype : arithmetic of features and vectors. methods : neighbour search by modality.
    stages : memory by stage. disk_bytes : the run directory at its largest.
    """

    starts: tuple[int, ...]
    block_starts: tuple[int, ...]
    columns: int
    dtype: np.dtype[Any]
    methods: Mapping[str, str]
    stages: tuple[Stage, ...]
    disk_bytes: int

    @property
    def rows(self) -> int:
        """N."""
        return self.starts[-1]

    @property
    def partitions(self) -> range:
        """Numbers of the partitions."""
        return range(len(self.starts) - 1)

    @property
    def partition_rows(self) -> int:
        """Rows of a whole partition: the chunk of every array of the run."""
        return self.starts[1]

    def span(self, partition: int) -> tuple[int, int]:
        """First row and end of a partition."""
        return self.starts[partition], self.starts[partition + 1]

    @property
    def blocks(self) -> range:
        """Numbers of the blocks."""
        return range(len(self.block_starts) - 1)

    def block_partitions(self, block: int) -> range:
        """The partitions of a block."""
        return range(self.block_starts[block], self.block_starts[block + 1])

    def block_span(self, block: int) -> tuple[int, int]:
        """First row and end of a block."""
        low, high = self.block_starts[block], self.block_starts[block + 1]
        return self.starts[low], self.starts[high]

    def column_groups(self, bits: int) -> list[slice]:
        """The columns (of ``bits``) that are solved together, group by group."""
        starts = range(0, bits, self.columns)
        return [slice(start, min(start + self.columns, bits)) for start in starts]

    def summary(self) -> str:
        """One line for a person."""
        fullest = max(self.stages, key=lambda stage: stage.worker_bytes)
        memory, disk = fullest.worker_bytes / 2**20, self.disk_bytes / 2**20
        return (
            f"plan: partitions {len(self.partitions)} of {self.partition_rows} rows, "
            f"blocks {len(self.blocks)} × {self.columns} columns, {self.dtype.name}; "
            f"fullest stage {fullest.name} with {memory:.0f} MiB a worker; disk {disk:.0f} MiB"
        )


def make_plan(
    rows: int, dims: Mapping[str, int], config: TrainConfig, workers: int, memory_limit: int
) -> Plan:
    """Cut n rows of features for workers of ``memory_limit`` bytes each.

    Raises
    ------
    PlanError : a stage that cannot fit, with both numbers.
    """
    values = rows * sum(dims.values())
    double = config.precision == "float64" or (
        config.precision == "auto" and values <= _DOUBLE_VALUES
    )
    dtype: np.dtype[Any] = np.dtype(np.float64) if double else np.dtype(np.float32)
    width = sum(dims.values()) * dtype.itemsize
    size = config.partition_rows or _default_partition(width)
    starts = (*range(0, rows, size), rows)
    methods = {g: _search_method(config.graph, rows, d) for g, d in dims.items()}
    usable = int(memory_limit * _USABLE) - _IDLE_BYTES
    cuts, columns = _cut_solve(starts, dims, config, workers, usable)
    resident = _resident_rows(starts, cuts, workers)
    stages = _stage_bytes(
        min(size, rows), resident, columns, rows, dims, config, dtype.itemsize, methods
    )
    disk = rows * (width + len(dims) * config.graph.k * 40 + config.loop_bits * 9)
    plan = Plan(starts, cuts, columns, dtype, methods, stages, disk)
    _refuse_misfit(stages, memory_limit, usable)
    return plan


def _cut_solve(
    starts: tuple[int, ...],
    dims: Mapping[str, int],
    config: TrainConfig,
    workers: int,
    usable: int,
) -> tuple[tuple[int, ...], int]:
    """Blocks of the Z-step and columns a group: the fewest blocks, then the widest groups.

    More blocks than workers would not help, since their graphs stay in memory.
    """
    partitions = len(starts) - 1
    least = min(_LEAST_COLUMNS, config.loop_bits)
    for blocks in [config.blocks] if config.blocks else range(1, workers + 1):
        cuts = _cut(partitions, min(blocks, partitions))
        columns = config.loop_bits
        resident = _resident_rows(starts, cuts, workers)
        if _solve_bytes(resident, columns, dims, config) <= usable:
            break
    while columns > least and _solve_bytes(resident, columns, dims, config) > usable:
        columns = max(least, columns // 2)
    return cuts, min(config.columns or columns, config.loop_bits)


def _cut(partitions: int, blocks: int) -> tuple[int, ...]:
    """First partition of each of ``blocks`` even runs, and the number of partitions."""
    return tuple(round(block * partitions / blocks) for block in range(blocks + 1))


def _resident_rows(starts: tuple[int, ...], cuts: tuple[int, ...], workers: int) -> int:
    """Rows whose graph and vectors the fullest worker holds in the Z-step."""
    largest = max(starts[stop] - starts[start] for start, stop in pairwise(cuts))
    return largest * -(-(len(cuts) - 1) // workers)


def _default_partition(width: int) -> int:
    """Rows of a partition of about 32 MiB, a multiple of 1024 where it is that large."""
    rows = max(1, _PARTITION_BYTES // width)
    return rows // 1024 * 1024 if rows >= 1024 else rows


def _search_method(graph: GraphConfig, rows: int, dims: int) -> str:
    method = graph.method
    if method == "auto":
        if float(rows) ** 2 * dims <= _EXACT_PRODUCTS:
            method = "exact"
        else:
            method = "pynndescent" if rows * dims <= _INDEX_VALUES else "partitioned"
    if method == "partitioned" and graph.cluster_rows < 4 * (graph.k + 1):
        raise ConfigError(
            f"graph.cluster_rows is {graph.cluster_rows}, but with graph.k = {graph.k} clusters "
            f"have to be of {4 * (graph.k + 1)} rows at least; raise it"
        )
    return method


def _stage_bytes(
    partition: int,
    resident: int,
    columns: int,
    rows: int,
    dims: Mapping[str, int],
    config: TrainConfig,
    itemsize: int,
    methods: Mapping[str, str],
) -> tuple[Stage, ...]:
    """What a worker holds at the fullest moment of each stage, beyond its idle size.

    ``partition`` rows are in memory in a pass, ``resident`` rows of graph and vectors in the
    Z-step.
    """
    total, widest, bits = sum(dims.values()), max(dims.values()), config.loop_bits
    k, count = config.graph.k, len(dims)
    prepare = partition * (total * (itemsize + 8) + widest * 16) + total * total * 8
    search = 0
    searched = {"pynndescent": rows}
    most = config.graph.overlap_max
    searched["partitioned"] = min(rows, config.graph.cluster_rows * most)
    for g, method in methods.items():
        if method in searched:
            # The rows, the copy in the index, its trees and graph, and the result.
            wide = dims[g] * (itemsize + 4 * (itemsize > 4)) + 80 * k
            search = max(search, _COMPILED_BYTES + searched[method] * wide)
            # A partition's rows, and once more for each cluster that they are sent to.
            search = max(search, partition * dims[g] * (itemsize * (1 + most) + 8))
        else:
            search = max(search, partition * dims[g] * 2 * (itemsize + 4) + (96 << 20))
    # Keys of outgoing and incoming edges, sorted and merged, before they are one CSR.
    # And the order of all rows with its inverse.
    edges = resident * count * k * 2 * 8 * 4 + rows * 16
    solve = _solve_bytes(resident, columns, dims, config)
    codes = partition * (total * itemsize + bits * (4 + 8 + 2 * itemsize)) + total * bits * 24
    return (
        Stage("features", prepare),
        Stage("neighbours", search),
        Stage("graph", edges),
        Stage("Z-step", solve),
        Stage("B-step", codes),
    )


def _solve_bytes(resident: int, columns: int, dims: Mapping[str, int], config: TrainConfig) -> int:
    """Memory of the Z-step: vectors of ``columns`` columns, the graph, and what aggregates need.

    A step holds six vectors and makes five; three more are the halo and its rows joined.
    An edge stands in the graph (14), as its length (4) and in the matrix; while rows are
    aggregated, the edges of a zone are copied about twice.
    """
    itemsize = vector_dtype(config).itemsize
    edges = 2 * config.graph.k * len(dims)
    graph = resident * edges * (14 + 4 + itemsize)
    aggregates = min(resident, ZONE_ROWS) * edges * 48 + resident * 24
    return resident * 14 * columns * itemsize + graph + aggregates


def vector_dtype(config: TrainConfig) -> np.dtype[Any]:
    """Arithmetic of the Z-step's vectors.

    float32 halves memory and traffic, and serves where its rounding of λH against βI stays well
    below the tolerance: for ``balanced`` it does, for the printed β = 1e-3 it does not (a residual
    of 1e-4 was 2e-3 in truth). No partitioning changes a result in float32 either: products add
    along a row in one order, and sums over rows are in float64.
    """
    method, tolerance = config.method, config.solver.tolerance
    rounding = float(np.finfo(np.float32).eps) * (1 + method.lam * config.graph.k / method.beta)
    return np.dtype(np.float32 if tolerance >= max(1e-5, 2 * rounding) else np.float64)


def _refuse_misfit(stages: tuple[Stage, ...], memory_limit: int, usable: int) -> None:
    worst = max(stages, key=lambda stage: stage.worker_bytes)
    if worst.worker_bytes > usable:
        raise PlanError(
            f"the {worst.name} stage needs {worst.worker_bytes / 2**20:.0f} MiB in a worker, but "
            f"of its {memory_limit / 2**20:.0f} MiB only {max(usable, 0) / 2**20:.0f} MiB are "
            "usable; "
            "give workers more memory (--memory-limit), or use more of them"
        )
