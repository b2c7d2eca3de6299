"""How rows are cut: partitions, runs whose edges are written together, blocks of the Z-step."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from srch_dist.config.options import GraphConfig, TrainConfig
from srch_dist.errors import ConfigError
from srch_dist.kernels.tiling import even_splits
from srch_dist.plan.graph_memory import (
    graph_bytes,
    length_bytes,
    solve_bytes,
    system_file_bytes,
    whole_index_row,
)
from srch_dist.plan.memory_model import MIB
from srch_dist.plan.problem import ProblemSize

_PARTITION_BYTES = 32 * MIB
# Exact search up to this many multiplications (some 10 s on two cores): below it, the start-up
# of NN-descent (compilation, about 22 s a process) costs more than it saves.
_EXACT_PRODUCTS = 5e11
# One index of all rows up to this size, so that it fits a worker of 2 GiB; beyond, one a cluster.
_INDEX_BYTES = 600 * MIB
# Narrower groups of columns read the graph more often than they save memory.
_LEAST_COLUMNS = 8
# Fewer rows are solved sooner by one worker than shared.
_SHARED_ROWS = 1 << 15


def default_partition(width: int) -> int:
    """Rows of a partition of about 32 MiB, a multiple of 1024 where it is that large."""
    rows = max(1, _PARTITION_BYTES // width)
    return rows // 1024 * 1024 if rows >= 1024 else rows


def search_method(graph: GraphConfig, rows: int, dims: int) -> str:
    """How the neighbours of ``rows`` rows of ``dims`` dimensions are searched.

    Raises
    ------
    ConfigError : clusters that are too small for k.
    """
    method = graph.method
    if method == "auto":
        if float(rows) ** 2 * dims <= _EXACT_PRODUCTS:
            method = "exact"
        else:
            whole = rows * (4 * dims + whole_index_row(graph.k)) <= _INDEX_BYTES
            method = "pynndescent" if whole else "partitioned"
    if method == "partitioned" and graph.cluster_rows < 4 * (graph.k + 1):
        raise ConfigError(
            f"graph.cluster_rows is {graph.cluster_rows}, but with graph.k = {graph.k} clusters "
            f"have to be of {4 * (graph.k + 1)} rows at least; raise it"
        )
    return method


def cut_edges(
    starts: tuple[int, ...], sizes: ProblemSize, workers: int, usable: int
) -> tuple[int, ...]:
    """First partition of each run of rows whose edges one task writes, and their number.

    As few runs a worker as fit: each reads all neighbours.
    """
    partitions = len(starts) - 1
    runs = min(workers, partitions)
    while (
        runs < partitions
        and graph_bytes(sizes, _longest(starts, even_splits(partitions, runs))) > usable
    ):
        runs = min(runs + workers, partitions)
    return even_splits(partitions, runs)


def cut_solve(
    starts: tuple[int, ...],
    sizes: ProblemSize,
    config: TrainConfig,
    workers: int,
    usable: int,
    spare: int,
) -> tuple[tuple[int, ...], ProblemSize]:
    """Blocks of the Z-step, and ``sizes`` with their rows, columns a group, and where edges are.

    One block, whose groups of columns workers share among them, the widest that fit: columns have
    nothing in common, while most rows of a block have a neighbour in another. That holds with the
    graph on disk too, where there are groups for all workers, and the ``spare`` bytes of a worker
    that no stage is given keep the file at hand. Then the fewest blocks with all columns, then the
    widest groups of as many blocks as workers (more would not help). Where none of these fits, the
    graph goes to disk anyway.
    """
    partitions = len(starts) - 1

    def of(blocks: int, columns: int, spilled: bool) -> tuple[tuple[int, ...], ProblemSize]:
        cuts = even_splits(partitions, min(blocks, partitions))
        count = len(cuts) - 1
        rows = _longest(starts, cuts) * -(-count // workers)
        width = min(config.columns or columns, config.loop_bits)
        return cuts, replace(sizes, resident=rows, blocks=count, columns=width, spilled=spilled)

    def fits(found: tuple[tuple[int, ...], ProblemSize]) -> bool:
        return max(solve_bytes(found[1]), length_bytes(found[1])) <= usable

    def at_hand(found: ProblemSize) -> bool:
        return solve_bytes(found) + system_file_bytes(found) <= usable + spare

    bits = config.loop_bits
    shared = bits if sizes.rows < _SHARED_ROWS else _columns_a_worker(bits, workers)
    counts = [config.blocks] if config.blocks else range(1, workers + 1)
    alone = [(1, width) for width in _widths(shared)] if 1 in counts else []
    widest = [(blocks, bits) for blocks in counts if blocks > 1]
    most = [(counts[-1], width) for width in _widths(bits)]
    # From files only where every worker has columns of its own, or one is enough.
    busy = 1 if sizes.rows < _SHARED_ROWS else workers
    filed = [one for one in alone if len(range(0, bits, config.columns or one[1])) >= busy]
    near = [found for found in (of(*one, True) for one in filed) if at_hand(found[1])]
    if config.spill == "on":
        tries = near
    else:
        tries = [of(*one, False) for one in alone]
        tries += [*near, *(of(*one, False) for one in (*widest, *most))]
    tries += [of(*one, True) for one in (*filed, *most)]
    cuts, chosen = next((found for found in tries if fits(found)), tries[-1])
    return cuts, _with_lengths(chosen, usable)


def _with_lengths(sizes: ProblemSize, usable: int) -> ProblemSize:
    """``sizes`` with the columns that edge lengths are worked out of at a time.

    Groups of a solve, as many as fit up to the share of one of those at once: the fewer times, the
    less often are the lengths so far read and written.
    """
    bits = sizes.config.loop_bits
    count = -(-len(range(0, bits, sizes.columns)) // sizes.groups_at_once)
    widths = [sizes.columns * -(-count // times) for times in range(1, count + 1)]
    tries = [replace(sizes, length_columns=min(bits, width)) for width in widths]
    return next((found for found in tries if length_bytes(found) <= usable), tries[-1])


def _columns_a_worker(bits: int, workers: int) -> int:
    """Columns of a group where every worker has one, of `_LEAST_COLUMNS` or a multiple."""
    return min(bits, -(-bits // (workers * _LEAST_COLUMNS)) * _LEAST_COLUMNS)


def _widths(widest: int) -> list[int]:
    """Columns of a group, from the widest on: halves, down to `_LEAST_COLUMNS`."""
    widths = [widest]
    while widths[-1] > _LEAST_COLUMNS:
        widths.append(max(_LEAST_COLUMNS, widths[-1] // 2))
    return widths


def _longest(starts: tuple[int, ...], cuts: tuple[int, ...]) -> int:
    """Rows of the longest run."""
    return max(starts[stop] - starts[start] for start, stop in pairwise(cuts))
