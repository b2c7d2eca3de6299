"""How rows are split: partitions, runs of partitions for the edges, blocks and column groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from srch_dist.config.options import GraphConfig
from srch_dist.errors import ConfigError
from srch_dist.kernels.tiling import even_splits
from srch_dist.plan.graph_memory import edge_bytes, s_step_bytes, system_file_bytes, z_step_bytes
from srch_dist.plan.memory_model import MIB
from srch_dist.plan.problem import ProblemSize
from srch_dist.plan.search_memory import whole_index_row

# Size of a partition of all modalities together.
_PARTITION_BYTES = 32 * MIB
# Exact search up to this number of multiplications, n² d: about 10 s on 2 cores. Below it,
# compiling NN-descent (about 22 s per process) costs more than it saves.
_EXACT_PRODUCTS = 5e11
# One index of all rows up to this size, which fits a worker of 2 GiB; one per cluster above.
_INDEX_BYTES = 600 * MIB
# Columns of a column group, at least: narrower groups read the graph more often but save little.
_LEAST_COLUMNS = 8
# Fewer rows are solved faster by one worker than by several.
_SHARED_ROWS = 1 << 15

# First partition of each block with the number of partitions, and the sizes with these blocks.
_Cut = tuple[tuple[int, ...], ProblemSize]


def default_partition(width: int) -> int:
    """Rows of a partition of about 32 MiB, for rows of ``width`` bytes.

    A multiple of 1024 rows if it has as many.
    """
    rows = max(1, _PARTITION_BYTES // width)
    return rows // 1024 * 1024 if rows >= 1024 else rows


def search_method(graph: GraphConfig, rows: int, dims: int) -> str:
    """Choose the neighbour search of ``rows`` rows of ``dims`` dimensions.

    "auto" is "exact" for n² d ≤ 5e11, "pynndescent" for an index of at most 600 MiB, else
    "partitioned".

    Raises
    ------
    ConfigError : clusters are too small for k.
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
            f"graph.cluster_rows is {graph.cluster_rows}, but clusters need "
            f"{4 * (graph.k + 1)} rows at least with graph.k = {graph.k}. Raise graph.cluster_rows."
        )
    return method


def cut_edges(starts: tuple[int, ...], sizes: ProblemSize, allowed: int) -> tuple[int, ...]:
    """Split the partitions into runs; one task writes the edges of a run.

    Each task reads all neighbours, so there are as few runs as fit: one per worker, or a multiple.

    Parameters
    ----------
    starts : first row of each partition, then n.
    sizes : sizes of the run.
    allowed : allowed memory of a worker, in bytes.

    Returns
    -------
    First partition of each run, then the number of partitions.
    """
    partitions = len(starts) - 1
    runs = min(sizes.workers, partitions)
    while (
        runs < partitions
        and edge_bytes(sizes, _most_rows(starts, even_splits(partitions, runs))) > allowed
    ):
        runs = min(runs + sizes.workers, partitions)
    return even_splits(partitions, runs)


def cut_solve(starts: tuple[int, ...], sizes: ProblemSize, allowed: int, headroom: int) -> _Cut:
    """Split the Z-step into blocks of partitions and groups of columns.

    The first of these that fits the allowed memory is chosen:

    1. One block in memory, the widest column groups. Workers share the columns: these are solved
       independently, while most rows of a block have neighbours in other blocks.
    2. One block on disk, if every worker has columns and the page cache can hold the file that
       each product reads.
    3. The fewest blocks with all columns; then as many blocks as workers, which is the most that
       helps, with the widest column groups.
    4. One block on disk, or as many as workers, however large the file is.

    Parameters
    ----------
    starts : first row of each partition, then n.
    sizes : sizes of the run. If ``config.spill`` is "on", splits that keep the graph in memory are
        left out.
    allowed : allowed memory of a worker, in bytes.
    headroom : bytes of a worker's limit that no stage may use.

    Returns
    -------
    First partition of each block, then the number of partitions; and ``sizes`` with the blocks,
    their rows, the columns of the Z- and S-step, and where the graph is.
    """
    candidates = list(_cuts(starts, sizes, allowed + headroom))
    cuts, chosen = next((c for c in candidates if _fits(c[1], allowed)), candidates[-1])
    return cuts, _with_length_columns(chosen, allowed)


def _fits(sizes: ProblemSize, allowed: int) -> bool:
    return max(z_step_bytes(sizes), s_step_bytes(sizes)) <= allowed


def _cuts(starts: tuple[int, ...], sizes: ProblemSize, cached: int) -> Iterator[_Cut]:
    """The splits that `cut_solve` tries, in order; ``cached`` bytes hold a solve and its file."""
    config, workers, bits = sizes.config, sizes.workers, sizes.config.loop_bits
    counts = [config.blocks] if config.blocks else range(1, workers + 1)
    few_rows = sizes.rows < _SHARED_ROWS
    widest = bits if few_rows else _columns_a_worker(bits, workers)
    one_block = [(1, width) for width in _widths(widest)] if 1 in counts else []
    all_columns = [(blocks, bits) for blocks in counts if blocks > 1]
    most_blocks = [(counts[-1], width) for width in _widths(bits)]
    # A file is worth while only if no worker is without columns.
    busy = 1 if few_rows else workers
    shared = [one for one in one_block if len(range(0, bits, config.columns or one[1])) >= busy]
    in_cache = [
        cut
        for cut in (_cut(starts, sizes, *one, True) for one in shared)
        if z_step_bytes(cut[1]) + system_file_bytes(cut[1]) <= cached
    ]
    if config.spill == "on":
        yield from in_cache
    else:
        yield from (_cut(starts, sizes, *one, False) for one in one_block)
        yield from in_cache
        yield from (_cut(starts, sizes, *one, False) for one in (*all_columns, *most_blocks))
    yield from (_cut(starts, sizes, *one, True) for one in (*shared, *most_blocks))


def _cut(
    starts: tuple[int, ...], sizes: ProblemSize, blocks: int, columns: int, spilled: bool
) -> _Cut:
    """Cut the partitions into at most ``blocks`` even blocks; ``config.columns`` overrides."""
    partitions = len(starts) - 1
    cuts = even_splits(partitions, min(blocks, partitions))
    count = len(cuts) - 1
    rows = _most_rows(starts, cuts) * -(-count // sizes.workers)
    width = min(sizes.config.columns or columns, sizes.config.loop_bits)
    return cuts, replace(sizes, resident_rows=rows, blocks=count, columns=width, spilled=spilled)


def _with_length_columns(sizes: ProblemSize, allowed: int) -> ProblemSize:
    """``sizes`` with the columns per S-step pass: as many as fit.

    Each further pass reads and rewrites the partial edge lengths. A pass has whole column groups of
    the Z-step, at most the share of one worker.
    """
    bits = sizes.config.loop_bits
    count = -(-len(range(0, bits, sizes.columns)) // sizes.groups_at_once)
    widths = [sizes.columns * -(-count // passes) for passes in range(1, count + 1)]
    tries = [replace(sizes, length_columns=min(bits, width)) for width in widths]
    return next((one for one in tries if s_step_bytes(one) <= allowed), tries[-1])


def _columns_a_worker(bits: int, workers: int) -> int:
    """Columns of a group if every worker has one: `_LEAST_COLUMNS` or a multiple."""
    return min(bits, -(-bits // (workers * _LEAST_COLUMNS)) * _LEAST_COLUMNS)


def _widths(widest: int) -> list[int]:
    """Columns of a group to try: the widest, then halves down to `_LEAST_COLUMNS`."""
    widths = [widest]
    while widths[-1] > _LEAST_COLUMNS:
        widths.append(max(_LEAST_COLUMNS, widths[-1] // 2))
    return widths


def _most_rows(starts: tuple[int, ...], cuts: tuple[int, ...]) -> int:
    """Rows of the longest of the runs of partitions that begin at ``cuts``."""
    return max(starts[stop] - starts[start] for start, stop in pairwise(cuts))
