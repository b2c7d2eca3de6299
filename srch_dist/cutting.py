"""How rows are cut: partitions, runs whose edges are written together, blocks of the Z-step."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from srch_dist.config import GraphConfig, TrainConfig
from srch_dist.errors import ConfigError
from srch_dist.graph_footprints import graph_bytes, length_bytes, solve_bytes, whole_index_row
from srch_dist.sizes import MIB, Sizes

_PARTITION_BYTES = 32 * MIB
# Exact search up to this many multiplications (some 10 s on two cores): below it, the start-up
# of NN-descent (compilation, about 22 s a process) costs more than it saves.
_EXACT_PRODUCTS = 5e11
# One index of all rows up to this size, so that it fits a worker of 2 GiB; beyond, one a cluster.
_INDEX_BYTES = 768 * MIB
# Narrower groups of columns read the graph more often than they save memory.
_LEAST_COLUMNS = 8


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


def cut_edges(starts: tuple[int, ...], sizes: Sizes, workers: int, usable: int) -> tuple[int, ...]:
    """First partition of each run of rows whose edges one task writes, and their number.

    As few runs a worker as fit: each reads all neighbours.
    """
    partitions = len(starts) - 1
    runs = min(workers, partitions)
    while (
        runs < partitions and graph_bytes(sizes, _longest(starts, cut(partitions, runs))) > usable
    ):
        runs = min(runs + workers, partitions)
    return cut(partitions, runs)


def cut_solve(
    starts: tuple[int, ...], sizes: Sizes, config: TrainConfig, workers: int, usable: int
) -> tuple[tuple[int, ...], Sizes]:
    """Blocks of the Z-step, and ``sizes`` with their rows, columns a group, and where edges are.

    The fewest blocks, then the widest groups; where not even the narrowest of as many blocks as
    workers fit (more would not help), the graph goes to disk, and groups are the widest there.
    A block more did not pay for itself at 250,000 rows, where most rows of either half have a
    neighbour in the other.
    """
    partitions = len(starts) - 1
    least = min(_LEAST_COLUMNS, config.loop_bits)

    def of(blocks: int, columns: int, spilled: bool) -> tuple[tuple[int, ...], Sizes]:
        cuts = cut(partitions, min(blocks, partitions))
        rows = _longest(starts, cuts) * -(-(len(cuts) - 1) // workers)
        given = config.columns or columns
        return cuts, replace(
            sizes, resident=rows, columns=min(given, config.loop_bits), spilled=spilled
        )

    def fits(found: tuple[tuple[int, ...], Sizes]) -> bool:
        return max(solve_bytes(found[1]), length_bytes(found[1])) <= usable

    counts = [config.blocks] if config.blocks else range(1, workers + 1)
    widths = [config.loop_bits]
    while widths[-1] > least:
        widths.append(max(least, widths[-1] // 2))
    tries = [of(blocks, widths[0], False) for blocks in counts]
    tries += [of(counts[-1], width, False) for width in widths]
    if config.spill == "on":
        tries = []
    tries += [of(counts[-1], width, True) for width in widths]
    return next((found for found in tries if fits(found)), tries[-1])


def cut(partitions: int, runs: int) -> tuple[int, ...]:
    """First partition of each of ``runs`` even runs, and the number of partitions."""
    return tuple(round(run * partitions / runs) for run in range(runs + 1))


def _longest(starts: tuple[int, ...], cuts: tuple[int, ...]) -> int:
    """Rows of the longest run."""
    return max(starts[stop] - starts[start] for start, stop in pairwise(cuts))
