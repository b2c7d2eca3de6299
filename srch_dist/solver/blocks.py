"""Graph blocks on the workers, and the rows that they need of each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist import execution
from srch_dist.kernels.laplacian import GraphBlock, make_block
from srch_dist.planning import Plan
from srch_dist.storage import arrays
from srch_dist.storage.run import RunDirectory

Array = NDArray[Any]


@dataclass(frozen=True)
class BlockGraph:
    """Handles of the graph's blocks.

    Attributes
    ----------
    plan : where blocks begin and end.
    blocks : a `GraphBlock` each, loaded from the run directory, so it can be loaded again.
    requests : by (owner, taker) the local row numbers in block owner that block taker needs.
    """

    plan: Plan
    blocks: Sequence[Delayed]
    requests: dict[tuple[int, int], Delayed]

    def exchange(self, values: Sequence[Delayed]) -> list[Delayed]:
        """The halo (h, l) of each block, from one array (rows, l) a block."""
        numbers = self.plan.blocks
        if len(numbers) == 1:
            return [execution.task(_no_rows, values[0])]
        return [
            execution.task(_join, *self.incoming(values, taker, pick_rows)) for taker in numbers
        ]

    def incoming(
        self, values: Sequence[Delayed], taker: int, pick: Callable[[Any, Array], Array]
    ) -> list[Delayed]:
        """What ``pick`` takes of each other block for ``taker``; in order they are its halo."""
        return [
            execution.task(pick, values[owner], self.requests[owner, taker])
            for owner in self.plan.blocks
            if owner != taker
        ]


def load_graph(run: RunDirectory, plan: Plan, trust: NDArray[np.float64]) -> BlockGraph:
    """Load every block onto a worker, once; ``trust`` (modalities,) weighs their graphs."""
    blocks = [
        execution.task(_load_block, run, plan.block_partitions(b), plan.block_span(b)[0], trust)
        for b in plan.blocks
    ]
    requests = {
        (owner, taker): execution.task(_request, blocks[taker], plan.block_span(owner))
        for taker in plan.blocks
        for owner in plan.blocks
        if owner != taker
    }
    kept = execution.keep([*blocks, *requests.values()])
    return BlockGraph(
        plan, kept[: len(blocks)], dict(zip(requests, kept[len(blocks) :], strict=True))
    )


def _load_block(
    run: RunDirectory, partitions: range, first_row: int, trust: NDArray[np.float64]
) -> GraphBlock:
    parts: dict[str, list[Array]] = {"indptr": [], "indices": [], "weights": []}
    edges = 0
    for p in partitions:
        for kind, values in parts.items():
            values.append(arrays.read_rows(run.edges(p, kind)))
        ends = parts["indptr"][-1]
        parts["indptr"][-1] = ends[:-1] + edges
        edges += int(ends[-1])
    parts["indptr"].append(np.array([edges]))
    joined = {kind: np.concatenate(values) for kind, values in parts.items()}
    return make_block(first_row, joined["indptr"], joined["indices"], joined["weights"], trust)


def _request(block: GraphBlock, span: tuple[int, int]) -> Array:
    """The halo rows of ``block`` that lie in ``span``, counted from its start."""
    low, high = np.searchsorted(block.halo, span)
    return block.halo[low:high] - span[0]


def pick_rows(values: Array, rows: Array) -> Array:
    """The local ``rows`` (m,) of a block's ``values`` (rows, l)."""
    return values[rows]


def _join(*parts: Array) -> Array:
    """Owners are ascending runs of rows, so their parts in order are the sorted halo."""
    return np.concatenate(parts)


def _no_rows(values: Array) -> Array:
    return values[:0]
