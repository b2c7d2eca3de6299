"""The S-step of Algorithm 1 as Dask graphs: the graph rebased by the embedding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.algorithm.solver.block_graph import BlockGraph
from srch_dist.config.options import TrainConfig
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
from srch_dist.storage.scratch import keep_runs

# Width at which the median of the distances is taken as known, relative to its value.
_MEDIAN_WIDTH = 1e-7


@dataclass(frozen=True)
class EdgeReweighting:
    """S, as the edge lengths it follows from (on the workers) and α.

    Attributes
    ----------
    distances : ‖z_i - z_j‖² (edges,) a block.
    alpha : α of Eq. 15, infinite where S = 1. lam : the paper's λ.
    semantic, sparsity : λ times Eq. 4 and α times Eq. 7, summed over the modalities.
    counts : edges of the joint graph by S, in equal bins of [0, 1] (see `weight_counts`).
    """

    distances: Sequence[Delayed]
    alpha: float
    lam: float
    semantic: float
    sparsity: float
    counts: NDArray[np.int64]


def s_step(
    graph: BlockGraph, groups: Sequence[Sequence[Delayed]], config: TrainConfig
) -> EdgeReweighting:
    """Rebase the graph: edge lengths from Z, α, and S by Eq. 15 (kept as lengths and α).

    ``groups`` holds Z as of `Embedding`; lengths add up over the groups of columns.
    """
    method = config.method
    shared = min(graph.plan.groups_at_once, len(groups)) > 1
    distances = _shared_lengths(graph, groups) if shared else _all_lengths(graph, groups)
    alpha = _choose_alpha(graph, distances, config)
    found = _on_runs(graph, distances, _terms, alpha, method.lam)
    sums: _Terms = tasks.run_one(tasks.add_up([tasks.task(_sum, *f) for f in found]))
    sparsity = 0.0 if np.isinf(alpha) else alpha * sums.spread
    return EdgeReweighting(
        distances, alpha, method.lam, method.lam * sums.pull, sparsity, sums.counts
    )


def _all_lengths(graph: BlockGraph, groups: Sequence[Sequence[Delayed]]) -> list[Any]:
    """The squared edge lengths of each block, group by group.

    All at once would be all of Z in memory.
    """
    distances: list[Any] = [None] * len(graph.blocks)
    for number, blocks in enumerate(groups, start=1):
        # Every later step and a resumed run sees them in float32.
        last = number == len(groups)
        kind, dtype = ("lengths", np.float32) if last else ("partial", np.float64)
        folder = graph.scratch(kind)
        halos = graph.exchange(blocks)
        known = zip(graph.blocks, blocks, halos, distances, strict=True)
        distances = _finish(
            tasks.task(_edge_lengths, *part, dtype, folder and folder / f"{b:06d}")
            for b, part in enumerate(known)
        )
        for old in ("partial", kind):
            graph.discard(old, folder)
    return distances


def _shared_lengths(graph: BlockGraph, groups: Sequence[Sequence[Delayed]]) -> list[Any]:
    """The squared edge lengths of the only block: every worker adds up groups of its own."""
    block, count = graph.blocks[0], min(graph.plan.groups_at_once, len(groups))
    sums: list[Any] = [None] * count
    for first in range(0, len(groups), count):
        wave = groups[first : first + count]
        folders = [graph.scratch(f"partial{number}") for number in range(len(wave))]
        parts = []
        for number, (z, before, folder) in enumerate(zip(wave, sums, folders, strict=False)):
            halo = graph.exchange(z)
            with tasks.on_worker(number):
                part = tasks.task(_edge_lengths, block, *z, *halo, before, np.float64, folder)
            parts.append(part)
        sums[: len(wave)] = _finish(parts)
        for number, folder in enumerate(folders):
            graph.discard(f"partial{number}", folder)
    folder = graph.scratch("lengths")
    distances = _finish([tasks.task(_add_lengths, folder, *sums)])
    graph.discard("lengths", folder)
    for number in range(count):
        graph.discard(f"partial{number}")
    return distances


def _finish(parts: Iterable[Delayed]) -> list[Delayed]:
    """Keep edge lengths on the workers, or in their files, and wait for them."""
    kept = tasks.persist(list(parts))
    tasks.run_all([tasks.task(len, lengths) for lengths in kept])
    return kept


def _choose_alpha(graph: BlockGraph, distances: Sequence[Delayed], config: TrainConfig) -> float:
    """α: infinite without rebase, a number, or λ times the median squared edge length."""
    if not config.method.rebase:
        return float("inf")
    if config.method.alpha != "median":
        return float(config.method.alpha)
    # Without λ the weights S do not matter; any positive α serves.
    return max(config.method.lam, 1e-12) * _median_length(graph, distances)


def _median_length(graph: BlockGraph, distances: Sequence[Delayed]) -> float:
    """Median of ‖z_i - z_j‖², edges of several graphs counted as often.

    Where it is zero the smallest positive length serves; infinite where there is none.
    """
    limits = streaming_median.FULL_RANGE
    while True:
        found = _on_runs(graph, distances, _count_lengths, limits)
        counts: streaming_median.Counts = tasks.run_one(
            tasks.add_up(list(chain.from_iterable(found)))
        )
        limits = streaming_median.median_limits(counts)
        if limits[1] == 0.0:
            return counts.smallest
        if limits[1] - limits[0] <= _MEDIAN_WIDTH * limits[1]:
            return 0.5 * (limits[0] + limits[1])


def _edge_lengths(
    block: GraphBlock,
    own: Array,
    halo: Array,
    before: EdgeValues | None,
    dtype: type[np.floating[Any]],
    folder: Path | None,
) -> EdgeValues:
    """Squared edge lengths over these columns, added to those of the groups ``before``.

    They are in memory, or in a file of ``folder``.
    """

    def runs() -> Iterator[dict[str, Array]]:
        for part, lengths in distance_runs(block, own, halo):
            yield {"lengths": lengths if before is None else lengths + before[part]}

    return keep_runs(folder, {"lengths": dtype}, len(block.columns), runs())["lengths"]


def _add_lengths(folder: Path | None, *sums: EdgeValues) -> EdgeValues:
    """The lengths of all groups from sums over some; every later step sees them in float32."""
    parts = _runs(len(sums[0]))
    runs = ({"lengths": np.sum([one[part] for one in sums], axis=0)} for part in parts)
    return keep_runs(folder, {"lengths": np.float32}, len(sums[0]), runs)["lengths"]


def _on_runs(
    graph: BlockGraph, distances: Sequence[Delayed], function: Any, *arguments: Any
) -> list[list[Delayed]]:
    """``function`` of runs of the edges of each block: of all, or each of a share of its own."""
    found = []
    for block, lengths in zip(graph.blocks, distances, strict=True):
        parts = []
        for number in range(graph.shares):
            with graph.place(number):
                part = tasks.task(function, block, lengths, (number, graph.shares), *arguments)
            parts.append(part)
        found.append(parts)
    return found


def _count_lengths(
    block: GraphBlock, lengths: EdgeValues, share: tuple[int, int], limits: tuple[float, float]
) -> streaming_median.Counts:
    def count(part: slice) -> streaming_median.Counts:
        once = block.counted_once[part]
        values = lengths[part][once].astype(np.float64)
        return streaming_median.count_values(
            values, block.multiplicity[part][once].astype(np.int64), limits
        )

    first, *others = _runs(len(lengths), share)
    total = count(first)
    for part in others:
        total = total + count(part)
    return total


@dataclass(frozen=True)
class _Terms:
    """Sums over edges: those of `edge_terms`, and the counts of `weight_counts`."""

    pull: float
    spread: float
    counts: NDArray[np.int64]

    def __add__(self, other: _Terms) -> _Terms:
        return _Terms(
            self.pull + other.pull, self.spread + other.spread, self.counts + other.counts
        )


def _terms(
    block: GraphBlock, lengths: EdgeValues, share: tuple[int, int], alpha: float, lam: float
) -> list[_Terms]:
    """The sums of each run of edges, so that they are added in one order however many share."""

    def of_run(part: slice) -> _Terms:
        wide = lengths[part].astype(np.float64)
        semantic = semantic_weights(wide, alpha, lam)
        pull, spread = edge_terms(block, wide, semantic, part)
        return _Terms(pull, spread, weight_counts(block, semantic, part))

    return [of_run(part) for part in _runs(len(lengths), share)]


def _sum(*parts: list[_Terms]) -> _Terms:
    first, *others = chain.from_iterable(parts)
    return reduce(add, others, first)


def _runs(edges: int, share: tuple[int, int] = (0, 1)) -> list[slice]:
    """Runs of edges that are worked on in float64 at once, or a share of them; one at least.

    ``share`` is its number, and how many there are.
    """
    starts = range(0, max(1, edges), TERM_EDGES)
    number, count = share
    own = starts[slice(*even_splits(len(starts), count)[number : number + 2])]
    return [slice(start, start + TERM_EDGES) for start in own or [edges]]
