"""Graph blocks on the workers. A halo holds a block's neighbour rows that are in other blocks."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.kernels.graph.adjacency import distinct
from srch_dist.kernels.graph.block import (
    GraphBlock,
    edge_values,
    index_type,
    local_columns,
    outside,
)
from srch_dist.kernels.types import Array
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.locations import Location, entries
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.scratch import keep_runs

# Merge row numbers into a block's halo after collecting this many.
_HALO_ROWS = 1 << 21
# Scratch files of a block's edges, and the dtype of each; see `GraphBlock`.
_EDGE_TYPES = {
    "columns": np.int64,
    "weights": np.float64,
    "multiplicity": np.int8,
    "counted_once": np.bool_,
}


@dataclass(frozen=True)
class BlockGraph:
    """The graph, split into blocks of rows on the workers.

    Attributes
    ----------
    plan : the blocks' row ranges.
    blocks : a `GraphBlock` per block, read from the run directory; a lost block is read again.
    requests : for each key (owner, taker), the rows of block ``owner`` that the halo of block
        ``taker`` contains, as positions in ``owner``.
    folder : folder of scratch files if the plan keeps the graph on disk, else None.
    """

    plan: Plan
    blocks: Sequence[Delayed]
    requests: dict[tuple[int, int], Delayed]
    folder: Location | None = None
    # Copies of a single block in memory, by number of the worker; see `copy`.
    copies: dict[int, Delayed] = field(default_factory=dict)
    load: tuple[Any, ...] | None = None

    def copy(self, number: int) -> Delayed:
        """Return the only block as worker ``number`` keeps it, to work on some columns of Z.

        Each worker reads its copy once. Dask would send the block to the workers in each iteration,
        because it drops a copy that no task needs. A block on disk has no copies.
        """
        if self.load is None:
            return self.blocks[0]
        if number not in self.copies:
            with tasks.on_worker(number):
                (self.copies[number],) = tasks.persist([tasks.task(*self.load)])
        return self.copies[number]

    @property
    def shares(self) -> int:
        """Number of tasks that share the work on one block's edges.

        A single block on disk has one share per worker, since all workers can read it.
        """
        return self.plan.workers if self.folder is not None and len(self.blocks) == 1 else 1

    def place(self, number: int) -> AbstractContextManager[Any]:
        """Return a context in which all tasks of share ``number`` are placed on the same worker.

        The context has no effect if there is one share per block. See `shares`.
        """
        return tasks.on_worker(number) if self.shares > 1 else nullcontext()

    def scratch(self, name: str) -> Location | None:
        """Return a new folder for scratch files of a step; None if the graph is in memory."""
        return self.folder and self.folder / f"{name}-{uuid.uuid4().hex}"

    def discard(self, name: str, kept: Location | None = None) -> None:
        """Remove all folders that `scratch` returned for ``name``, except ``kept``."""
        if self.folder is not None:
            for folder in entries(self.folder):
                if folder.name.startswith(f"{name}-") and folder != kept:
                    arrays.remove(folder)

    def exchange(self, values: Sequence[Delayed]) -> list[Delayed]:
        """Create tasks that return each block's halo (h, l), from an array (rows, l) per block."""
        numbers = self.plan.blocks
        if len(numbers) == 1:
            return [tasks.task(_no_rows, values[0])]
        return [tasks.task(_join, *self.incoming(values, taker, pick_rows)) for taker in numbers]

    def incoming(
        self, values: Sequence[Delayed], taker: int, pick: Callable[[Any, Array], Array]
    ) -> list[Delayed]:
        """Create one task for each block except ``taker``; it selects rows in the taker's halo.

        ``values`` has one result per block. A task calls ``pick`` with the result of its block and
        the positions of the rows there.
        """
        return [
            tasks.task(pick, values[owner], self.requests[owner, taker])
            for owner in self.plan.blocks
            if owner != taker
        ]


def load_graph(run: RunDirectory, plan: Plan, trust: NDArray[np.float64]) -> BlockGraph:
    """Load every graph block onto a worker.

    If ``plan.spilled``, the edge values are written to scratch files. If a worker is lost, its
    blocks are loaded again and write these files again.

    Parameters
    ----------
    trust : (modalities,) weight of each modality's graph.
    """
    folder = run.scratch("solve") if plan.spilled else None
    calls = [
        (
            _load_block,
            run,
            plan.block_partitions(b),
            plan.block_span(b),
            trust,
            folder and folder / f"graph-{b:06d}",
        )
        for b in plan.blocks
    ]
    copied = len(calls) == 1 and folder is None
    with tasks.on_worker(0) if copied else nullcontext():
        blocks = [tasks.task(*call) for call in calls]
    requests = {
        (owner, taker): tasks.task(_request, blocks[taker], plan.block_span(owner))
        for taker in plan.blocks
        for owner in plan.blocks
        if owner != taker
    }
    kept = tasks.persist([*blocks, *requests.values()])
    graph = BlockGraph(
        plan,
        kept[: len(blocks)],
        dict(zip(requests, kept[len(blocks) :], strict=True)),
        folder,
        load=calls[0] if copied else None,
    )
    graph.copies[0] = graph.blocks[0]
    return graph


def _load_block(
    run: RunDirectory,
    partitions: range,
    span: tuple[int, int],
    trust: NDArray[np.float64],
    folder: Location | None,
) -> GraphBlock:
    """Load the graph of the rows ``span``; write edge values to ``folder`` if that is not None."""
    halo, found = np.empty(0, dtype=np.int64), []
    counts = [np.zeros(1, dtype=np.int64)]
    for p in partitions:
        found.append(outside(span, arrays.read_rows(run.edges(p, "indices"))))
        if sum(map(len, found)) > _HALO_ROWS:
            halo, found = distinct(np.concatenate([halo, *found])), []
        counts.append(np.diff(arrays.read_rows(run.edges(p, "indptr"))))
    halo = distinct(np.concatenate([halo, *found]))
    indptr = np.cumsum(np.concatenate(counts))
    index = index_type(int(indptr[-1]), span[1] - span[0] + len(halo))

    def runs() -> Iterator[dict[str, Array]]:
        first = span[0]
        for p in partitions:
            ends, indices, weights = (
                arrays.read_rows(run.edges(p, kind)) for kind in ("indptr", "indices", "weights")
            )
            values = edge_values(first, ends, indices, weights, trust)
            columns = local_columns(span, halo, indices)
            yield dict(zip(_EDGE_TYPES, (columns, *values), strict=True))
            first += len(ends) - 1

    types = {**_EDGE_TYPES, "columns": index}
    stored = keep_runs(folder, types, int(indptr[-1]), runs())
    return GraphBlock(first_row=span[0], indptr=indptr.astype(index), halo=halo, **stored)


def _request(block: GraphBlock, span: tuple[int, int]) -> Array:
    """Return the halo rows of ``block`` inside ``span``, counted from the first row of ``span``."""
    low, high = np.searchsorted(block.halo, span)
    return block.halo[low:high] - span[0]


def pick_rows(values: Array, rows: Array) -> Array:
    """Select m rows from a block's ``values`` (rows, l), by their positions ``rows`` (m,)."""
    return values[rows]


def _join(*parts: Array) -> Array:
    """Concatenate the parts of a halo; they come in block order, so the halo is sorted by row."""
    return np.concatenate(parts)


def _no_rows(values: Array) -> Array:
    return values[:0]
