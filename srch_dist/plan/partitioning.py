"""Split rows into partitions, partitions into sequences and blocks, and Z into column groups."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from srch_dist.config.options import GraphConfig
from srch_dist.errors import ConfigError
from srch_dist.kernels.tiling import even_splits
from srch_dist.plan.graph_memory import edge_bytes, s_step_bytes, system_file_bytes, z_step_bytes
from srch_dist.plan.memory_model import MIB
from srch_dist.plan.problem import ProblemSize

# Size of a partition, over all modalities.
PARTITION_BYTES = 32 * MIB
# Sizes in an object store; the first that fits in memory is used. The requests of the shuffles grow
# with the square of the number of partitions.
STORED_PARTITION_BYTES = (128 * MIB, 64 * MIB, PARTITION_BYTES)
# Exact search up to this number of multiplications, n² d: about 10 s on 2 cores.
_EXACT_PRODUCTS = 5e11
# Minimum columns of a column group. Narrower groups read the graph more often, and save little.
_LEAST_COLUMNS = 8
# With fewer rows, one worker solves faster than several workers.
_SHARED_ROWS = 1 << 15

# First partition of each block, then the number of partitions; and the sizes with these blocks.
_Cut = tuple[tuple[int, ...], ProblemSize]


def default_partition(width: int, size: int = PARTITION_BYTES) -> int:
    """Choose the rows of a partition: about ``size`` bytes of rows of ``width`` bytes each.

    A number of 1024 or more is rounded down to a multiple of 1024.
    """
    rows = max(1, size // width)
    return rows // 1024 * 1024 if rows >= 1024 else rows


def search_method(graph: GraphConfig, rows: int, dims: int) -> str:
    """Choose the search method for n = ``rows`` rows of d = ``dims`` dimensions.

    "auto" means "exact" if n² d ≤ 5e11, and "partitioned" if not.

    Raises
    ------
    ConfigError : ``graph.cluster_rows`` is too small for ``graph.k``.
    """
    method = graph.method
    if method == "auto":
        few = float(rows) ** 2 * dims <= _EXACT_PRODUCTS
        method = "exact" if few else "partitioned"
    if method == "partitioned" and graph.cluster_rows < 4 * (graph.k + 1):
        raise ConfigError(
            f"graph.cluster_rows is {graph.cluster_rows}, but with graph.k = {graph.k}, clusters "
            f"need at least {4 * (graph.k + 1)} rows. Raise graph.cluster_rows."
        )
    return method


def cut_edges(starts: tuple[int, ...], sizes: ProblemSize, allowed: int) -> tuple[int, ...]:
    """Split the partitions into sequences ("runs"); one task writes the edges of a sequence.

    Each task reads all neighbours, so few sequences are faster. The number of sequences is the
    smallest multiple of the number of workers with which a task fits the allowed memory.

    Parameters
    ----------
    starts : first row of each partition, then n.
    sizes : sizes of the training run.
    allowed : allowed memory of a worker, in bytes.

    Returns
    -------
    First partition of each sequence, then the number of partitions.
    """
    partitions = len(starts) - 1

    def fits(times: int) -> bool:
        runs = min(times * sizes.workers, partitions)
        return edge_bytes(sizes, _most_rows(starts, even_splits(partitions, runs))) <= allowed

    # With more runs, the longest run never gets longer: bisection finds the first number that fits.
    tries = range(1, -(-partitions // sizes.workers))
    times = bisect_left(tries, True, key=fits) + 1
    return even_splits(partitions, min(times * sizes.workers, partitions))


def cut_solve(starts: tuple[int, ...], sizes: ProblemSize, allowed: int, headroom: int) -> _Cut:
    """Split the Z-step into blocks of partitions and groups of columns.

    The first of these splits that fits the allowed memory is chosen:

    1. One block in memory, with the widest column groups. Each worker solves its own columns,
       because columns are independent. (Rows are not independent: most rows have neighbours in
       other blocks.)
    2. One block on disk, if every worker gets columns and the page cache can hold the files that
       each matrix product reads.
    3. The fewest blocks in memory with all columns at once. If no number of blocks fits: one block
       per worker (more blocks do not help), with the widest column groups.
    4. One block on disk, or one block per worker on disk, even if the page cache cannot hold the
       files.

    Parameters
    ----------
    starts : first row of each partition, then n.
    sizes : sizes of the run. If ``config.spill`` is "on", splits that keep the graph in memory are
        left out.
    allowed : allowed memory of a worker, in bytes.
    headroom : bytes of a worker's limit that no stage may use.

    Returns
    -------
    A pair. The first item has the first partition of each block, then the number of partitions. The
    second is a copy of ``sizes`` with the chosen blocks, rows per worker, columns of the Z- and
    S-step, and ``spilled``.
    """
    for cuts, chosen in _cuts(starts, sizes, allowed + headroom):  # noqa: B007 - else, the last
        if _fits(chosen, allowed):
            break
    return cuts, _with_length_columns(chosen, allowed)


def _fits(sizes: ProblemSize, allowed: int) -> bool:
    return max(z_step_bytes(sizes), s_step_bytes(sizes)) <= allowed


def _cuts(starts: tuple[int, ...], sizes: ProblemSize, cached: int) -> Iterator[_Cut]:
    """List the splits that `cut_solve` tries, in order.

    ``cached`` is the memory in bytes that a solve and its files in the page cache may use.
    """
    config, workers, bits = sizes.config, sizes.workers, sizes.config.embedding_columns
    most = min(workers, len(starts) - 1)
    counts = [config.blocks] if config.blocks else _block_counts(len(starts) - 1, most)
    few_rows = sizes.rows < _SHARED_ROWS
    widest = bits if few_rows else _columns_a_worker(bits, workers)
    one_block = [(1, width) for width in _widths(widest)] if 1 in counts else []
    all_columns = [(blocks, bits) for blocks in counts if blocks > 1]
    most_blocks = [(counts[-1], width) for width in _widths(bits)]
    # Scratch files help only if every worker gets columns.
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


def _block_counts(partitions: int, most: int) -> list[int]:
    """List numbers of blocks to try, ascending from 1 to ``most``.

    If P partitions are split into R blocks, the longest block has m = ⌈P / R⌉ partitions. Of two
    numbers R with the same m, the larger R needs more memory, so only the smaller R is listed. If
    only the last of R blocks has m partitions, R is listed, too, because the last partition may be
    short. The list has about 4 √P numbers.
    """
    counts, blocks = {most}, 1
    while blocks <= most:
        longest = -(-partitions // blocks)
        counts.add(blocks)
        if longest == 1:
            break
        last = (partitions - 1) // (longest - 1)
        if last <= most and last * (longest - 1) == partitions - 1:
            counts.add(last)
        blocks = -(-partitions // (longest - 1))
    return sorted(counts)


def _cut(
    starts: tuple[int, ...], sizes: ProblemSize, blocks: int, columns: int, spilled: bool
) -> _Cut:
    """Split the partitions into at most ``blocks`` blocks of nearly equal length.

    ``columns`` is the number of columns of Z per solve; ``config.columns`` overrides it.
    """
    partitions = len(starts) - 1
    cuts = even_splits(partitions, min(blocks, partitions))
    count = len(cuts) - 1
    rows = _most_rows(starts, cuts) * -(-count // sizes.workers)
    width = min(sizes.config.columns or columns, sizes.config.embedding_columns)
    return cuts, replace(sizes, resident_rows=rows, blocks=count, columns=width, spilled=spilled)


def _with_length_columns(sizes: ProblemSize, allowed: int) -> ProblemSize:
    """Set the number of columns per S-step pass: the largest number that fits the allowed memory.

    Each further pass reads and rewrites the partial edge lengths. A pass reads one or more whole
    column groups of the Z-step, but not more groups than one worker solves.
    """
    bits = sizes.config.embedding_columns
    count = -(-len(range(0, bits, sizes.columns)) // sizes.groups_at_once)
    widths = [sizes.columns * -(-count // passes) for passes in range(1, count + 1)]
    tries = [replace(sizes, length_columns=min(bits, width)) for width in widths]
    return next((one for one in tries if s_step_bytes(one) <= allowed), tries[-1])


def _columns_a_worker(bits: int, workers: int) -> int:
    """Compute the number of columns of a group, for a solve of one group per worker.

    The number is a multiple of `_LEAST_COLUMNS`.
    """
    return min(bits, -(-bits // (workers * _LEAST_COLUMNS)) * _LEAST_COLUMNS)


def _widths(widest: int) -> list[int]:
    """List widths of column groups to try: the widest, then halves down to `_LEAST_COLUMNS`."""
    widths = [widest]
    while widths[-1] > _LEAST_COLUMNS:
        widths.append(max(_LEAST_COLUMNS, widths[-1] // 2))
    return widths


def _most_rows(starts: tuple[int, ...], cuts: tuple[int, ...]) -> int:
    """Return the number of rows in the longest sequence of partitions.

    ``cuts`` has the first partition of each sequence, then the number of partitions.
    """
    return max(starts[stop] - starts[start] for start, stop in pairwise(cuts))
