"""Assemble each block's rows of the system βI + λH (Eqs. 13, 14), in memory or scratch files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, starmap
from typing import Any

import numpy as np
from dask.delayed import Delayed

from srch_dist.algorithm.solver.block_graph import BlockGraph
from srch_dist.kernels.graph.block import (
    EdgeValues,
    GraphBlock,
    JoinedValues,
    StreamedRows,
    row_tiles,
)
from srch_dist.kernels.graph.laplacian import (
    SystemBlock,
    SystemRule,
    row_pointers,
    system_block,
    system_rows,
)
from srch_dist.kernels.graph.rebase import semantic_weights
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.tiling import even_splits
from srch_dist.kernels.types import Array
from srch_dist.runtime import tasks
from srch_dist.storage.locations import Location
from srch_dist.storage.scratch import spill_runs


@dataclass(frozen=True)
class SystemPart(Sized):
    """Consecutive rows of a system, like `SystemRows`; columns and values are in scratch files."""

    diagonal: Array
    counts: Array
    columns: EdgeValues
    values: EdgeValues


def make_systems(
    graph: BlockGraph, lengths: Sequence[Any], alpha: float, rule: SystemRule
) -> list[Delayed]:
    """Create one task per block that assembles its system βI + λH; see `make_system`.

    If the graph is in scratch files, the systems are too, in the scratch folder "system".

    Parameters
    ----------
    lengths : for each block, the squared lengths ‖z_i - z_j‖² of its edges; None means S = 1.
    """
    folder = graph.scratch("system")
    systems = []
    for b, (block, known) in enumerate(zip(graph.blocks, lengths, strict=True)):
        if folder is None:
            systems.append(tasks.task(make_system, block, known, alpha, rule, None))
            continue
        low, high = graph.plan.block_span(b)
        parts = []
        shares = even_splits(high - low, min(graph.shares, high - low))
        for number, rows in enumerate(starmap(slice, pairwise(shares))):
            place = folder / f"{b:06d}-{number:06d}"
            with graph.place(number):
                part = tasks.task(_write_part, block, rows, known, alpha, rule, place)
            parts.append(part)
        systems.append(tasks.task(_join_parts, block, *parts))
    return tasks.persist(systems)


def make_system(
    block: GraphBlock,
    lengths: EdgeValues | None,
    alpha: float,
    rule: SystemRule,
    folder: Location | None,
) -> SystemBlock:
    """Assemble the system of one block.

    Parameters
    ----------
    lengths : (edges,) squared lengths ‖z_i - z_j‖²; None means S = 1.
    alpha : weight of Eq. 7; infinite means S = 1.
    folder : folder of scratch files; None keeps the system in memory. Both give equal values.
    """
    if folder is None:
        return system_block(block, _semantic(lengths, alpha, rule), rule)
    part = _write_part(block, slice(0, block.rows), lengths, alpha, rule, folder)
    return _join_parts(block, part)


def _semantic(
    lengths: EdgeValues | None, alpha: float, rule: SystemRule
) -> Callable[[slice], Array] | None:
    """Return a function that computes S (Eq. 15) of a slice of edges; None if S = 1."""
    if lengths is None or np.isinf(alpha):
        return None
    known = lengths
    return lambda part: semantic_weights(known[part].astype(np.float64), alpha, rule.lam)


def _write_part(
    block: GraphBlock,
    rows: slice,
    lengths: EdgeValues | None,
    alpha: float,
    rule: SystemRule,
    folder: Location,
) -> SystemPart:
    """Assemble some ``rows`` of a block's system, and write them to scratch files in ``folder``."""
    semantic = _semantic(lengths, alpha, rule)
    diagonals: list[Array] = []
    counts: list[Array] = []

    def runs() -> Iterator[dict[str, Array]]:
        for tile in row_tiles(rows.stop - rows.start):
            part = slice(rows.start + tile.start, rows.start + tile.stop)
            found = system_rows(block, part, semantic, rule)
            diagonals.append(found.diagonal.astype(rule.dtype))
            counts.append(found.counts)
            yield {"columns": found.columns, "values": found.values}

    types = {"columns": block.indptr.dtype, "values": rule.dtype}
    stored = spill_runs(folder, types, runs())
    return SystemPart(np.concatenate(diagonals), np.concatenate(counts), **stored)


def _join_parts(block: GraphBlock, *parts: SystemPart) -> SystemBlock:
    """Join the parts of a block's system; ``parts`` come in row order."""
    matrix = StreamedRows(
        row_pointers([part.counts for part in parts], block.indptr.dtype),
        JoinedValues(tuple(part.columns for part in parts)),
        JoinedValues(tuple(part.values for part in parts)),
        block.rows + len(block.halo),
    )
    return SystemBlock(np.concatenate([part.diagonal for part in parts]), matrix)
