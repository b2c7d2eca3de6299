"""S-step, line 7 of Algorithm 1: S_ij = α / (α + λ ‖z_i - z_j‖²) on every edge (Eq. 15).

S is never stored. It is computed from the squared edge lengths ‖z_i - z_j‖² and α. The same pass
sums the terms of Eq. 9 with S: λ Σ C_g S² ‖z_i - z_j‖² (Eq. 4) and α Σ C_g (S - 1)² (Eq. 7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from operator import add
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.algorithm.job import Job
from srch_dist.algorithm.solver.block_graph import BlockGraph
from srch_dist.config.options import MethodConfig
from srch_dist.kernels import streaming_median
from srch_dist.kernels.graph.block import EdgeValues, GraphBlock
from srch_dist.kernels.graph.rebase import (
    TERM_EDGES,
    distance_runs,
    edge_terms,
    semantic_weights,
    weight_counts,
)
from srch_dist.kernels.tiling import even_splits
from srch_dist.kernels.types import Array
from srch_dist.runtime import tasks
from srch_dist.storage.locations import Location
from srch_dist.storage.scratch import keep_runs

# The search for the median edge length stops at an interval of this relative width.
_MEDIAN_WIDTH = 1e-7


@dataclass(frozen=True)
class EdgeReweighting:
    """S, represented by α and the squared edge lengths, which are on the workers.

    Attributes
    ----------
    distances : ‖z_i - z_j‖² (edges,) float32, one array per block.
    alpha : α of Eq. 15; infinite for S = 1.
    lam : λ of Eq. 15.
    semantic : λ times Eq. 4, summed over the modalities.
    sparsity : α times Eq. 7, summed over the modalities.
    counts : histogram of S over the edges of the joint graph; see `weight_counts`.
    """

    distances: Sequence[Delayed]
    alpha: float
    lam: float
    semantic: float
    sparsity: float
    counts: NDArray[np.int64]


def s_step(job: Job, graph: BlockGraph, groups: Sequence[Sequence[Delayed]]) -> EdgeReweighting:
    """Compute edge lengths from Z, then α, S (Eq. 15), and the sums of Eqs. 4 and 7.

    Parameters
    ----------
    groups : Z on the workers. Each column group has one array (rows, columns) per block. Squared
        lengths are sums over the groups.
    """
    method, lam = job.config.method, job.config.method.lam
    shared = min(graph.plan.groups_at_once, len(groups)) > 1
    distances = _lengths_of_one_block(graph, groups) if shared else _lengths(graph, groups)
    alpha = _choose_alpha(graph, distances, method)
    parts = _map_edges(graph, distances, _edge_sums, alpha, lam)
    sums: _EdgeSums = tasks.run_one(
        tasks.add_up([tasks.task(_add_runs, *shares) for shares in parts])
    )
    sparsity = 0.0 if np.isinf(alpha) else alpha * sums.spread
    return EdgeReweighting(distances, alpha, lam, lam * sums.pull, sparsity, sums.counts)


def _lengths(graph: BlockGraph, groups: Sequence[Sequence[Delayed]]) -> list[Any]:
    """Compute the squared edge lengths of each block from one column group of Z at a time."""
    distances: list[Any] = [None] * len(graph.blocks)
    for number, blocks in enumerate(groups, start=1):
        # Later steps and a resumed run read the lengths in float32.
        last = number == len(groups)
        kind, dtype = ("lengths", np.float32) if last else ("partial", np.float64)
        folder = graph.scratch(kind)
        halos = graph.exchange(blocks)
        inputs = zip(graph.blocks, blocks, halos, distances, strict=True)
        distances = _persist_lengths(
            tasks.task(_edge_lengths, *block_inputs, dtype, folder and folder / f"{b:06d}")
            for b, block_inputs in enumerate(inputs)
        )
        for old in ("partial", kind):
            graph.discard(old, folder)
    return distances


def _lengths_of_one_block(graph: BlockGraph, groups: Sequence[Sequence[Delayed]]) -> list[Any]:
    """Compute the squared edge lengths of a single block; workers share the column groups."""
    count = min(graph.plan.groups_at_once, len(groups))
    sums: list[Any] = [None] * count
    for first in range(0, len(groups), count):
        wave = groups[first : first + count]
        folders = [graph.scratch(f"partial{number}") for number in range(len(wave))]
        parts = []
        for number, (z, before, folder) in enumerate(zip(wave, sums, folders, strict=False)):
            halo = graph.exchange(z)
            with tasks.on_worker(number):
                inputs = (graph.copy(number), *z, *halo, before)
                part = tasks.task(_edge_lengths, *inputs, np.float64, folder)
            parts.append(part)
        sums[: len(wave)] = _persist_lengths(parts)
        for number, folder in enumerate(folders):
            graph.discard(f"partial{number}", folder)
    folder = graph.scratch("lengths")
    distances = _persist_lengths([tasks.task(_add_lengths, folder, *sums)])
    graph.discard("lengths", folder)
    for number in range(count):
        graph.discard(f"partial{number}")
    return distances


def _persist_lengths(parts: Iterable[Delayed]) -> list[Delayed]:
    """Run the tasks of ``parts``; keep the lengths in worker memory or in scratch files."""
    kept = tasks.persist(list(parts))
    tasks.run_all([tasks.task(len, lengths) for lengths in kept])
    return kept


def _choose_alpha(graph: BlockGraph, distances: Sequence[Delayed], method: MethodConfig) -> float:
    """Choose α: infinite (S = 1), the configured number, or λ × median squared edge length."""
    if not method.rebase:
        return float("inf")
    if method.alpha != "median":
        return float(method.alpha)
    # With λ = 0 the weights S have no effect; any positive α will do.
    return max(method.lam, 1e-12) * _median_length(graph, distances)


def _median_length(graph: BlockGraph, distances: Sequence[Delayed]) -> float:
    """Compute the median of ‖z_i - z_j‖²; an edge counts once for each modality that has it.

    If the median is zero, return the smallest positive length. If all are zero, return infinity.
    """
    limits = streaming_median.FULL_RANGE
    while True:
        parts = _map_edges(graph, distances, _count_lengths, limits)
        counts: streaming_median.Counts = tasks.run_one(
            tasks.add_up(list(chain.from_iterable(parts)))
        )
        limits = streaming_median.median_limits(counts)
        if limits[1] == 0.0:
            return counts.smallest
        if limits[1] - limits[0] <= _MEDIAN_WIDTH * limits[1]:
            return 0.5 * (limits[0] + limits[1])


def _edge_lengths(
    block: GraphBlock,
    z: Array,
    halo: Array,
    before: EdgeValues | None,
    dtype: type[np.floating[Any]],
    folder: Location | None,
) -> EdgeValues:
    """Compute squared edge lengths over some columns of Z, and add the partial sums ``before``.

    The result is a file in ``folder``, or an array in memory if ``folder`` is None.
    """

    def runs() -> Iterator[dict[str, Array]]:
        for part, lengths in distance_runs(block, z, halo):
            yield {"lengths": lengths if before is None else lengths + before[part]}

    return keep_runs(folder, {"lengths": dtype}, len(block.columns), runs())["lengths"]


def _add_lengths(folder: Location | None, *sums: EdgeValues) -> EdgeValues:
    """Add arrays of partial squared lengths in float64, and round the total to float32.

    The result is a file in ``folder``, or an array in memory if ``folder`` is None.
    """
    parts = _edge_runs(len(sums[0]))
    runs = ({"lengths": np.sum([partial[part] for partial in sums], axis=0)} for part in parts)
    return keep_runs(folder, {"lengths": np.float32}, len(sums[0]), runs)["lengths"]


def _map_edges(
    graph: BlockGraph, distances: Sequence[Delayed], function: Callable[..., Any], *arguments: Any
) -> list[list[Delayed]]:
    """Create tasks ``function(block, lengths, share, *arguments)``.

    A block's edges are split into ``count`` parts; the share (number, count) selects one of them,
    see `_edge_runs`. Returns, for each block, the list of its tasks, one per share.
    """
    mapped = []
    for block, lengths in zip(graph.blocks, distances, strict=True):
        parts = []
        for number in range(graph.shares):
            with graph.place(number):
                part = tasks.task(function, block, lengths, (number, graph.shares), *arguments)
            parts.append(part)
        mapped.append(parts)
    return mapped


def _count_lengths(
    block: GraphBlock, lengths: EdgeValues, share: tuple[int, int], limits: tuple[float, float]
) -> streaming_median.Counts:
    def count(part: slice) -> streaming_median.Counts:
        counted = block.counted_once[part]
        values = lengths[part][counted].astype(np.float64)
        return streaming_median.count_values(
            values, block.multiplicity[part][counted].astype(np.int64), limits
        )

    first, *others = _edge_runs(len(lengths), share)
    total = count(first)
    for part in others:
        total = total + count(part)
    return total


@dataclass(frozen=True)
class _EdgeSums:
    """Sums over edges: ``pull`` (Eq. 4), ``spread`` (Eq. 7), and the histogram ``counts`` of S."""

    pull: float
    spread: float
    counts: NDArray[np.int64]

    def __add__(self, other: _EdgeSums) -> _EdgeSums:
        return _EdgeSums(
            self.pull + other.pull, self.spread + other.spread, self.counts + other.counts
        )


def _edge_sums(
    block: GraphBlock, lengths: EdgeValues, share: tuple[int, int], alpha: float, lam: float
) -> list[_EdgeSums]:
    """Compute one `_EdgeSums` for each run of edges in ``share``; see `_edge_runs`.

    Runs do not depend on the shares. The caller therefore always adds the same sums in the same
    order.
    """

    def sums_of(part: slice) -> _EdgeSums:
        wide = lengths[part].astype(np.float64)
        semantic = semantic_weights(wide, alpha, lam)
        pull, spread = edge_terms(block, wide, semantic, part)
        return _EdgeSums(pull, spread, weight_counts(block, semantic, part))

    return [sums_of(part) for part in _edge_runs(len(lengths), share)]


def _add_runs(*shares: list[_EdgeSums]) -> _EdgeSums:
    first, *others = chain.from_iterable(shares)
    return reduce(add, others, first)


def _edge_runs(edges: int, share: tuple[int, int] = (0, 1)) -> list[slice]:
    """Split edges into runs of at most `TERM_EDGES`, to bound the memory of float64 copies.

    The runs are split into ``count`` parts, and ``share`` (number, count) selects one of the
    parts. For a part without runs, return one empty slice.
    """
    starts = range(0, max(1, edges), TERM_EDGES)
    number, count = share
    selected = starts[slice(*even_splits(len(starts), count)[number : number + 2])]
    return [slice(start, start + TERM_EDGES) for start in selected or [edges]]
