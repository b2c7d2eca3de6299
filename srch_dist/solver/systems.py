"""The system βI + λH of each block, in memory or in scratch files beside the graph's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.laplacian import (
    EdgeValues,
    GraphBlock,
    StreamedRows,
    SystemBlock,
    SystemRule,
    row_ends,
    row_tiles,
    semantic_weights,
    system_block,
    system_rows,
)
from srch_dist.storage.spill import spill_runs

Array = NDArray[Any]


def make_system(
    block: GraphBlock,
    lengths: EdgeValues | None,
    alpha: float,
    rule: SystemRule,
    folder: Path | None,
) -> SystemBlock:
    """The system of a block whose edges have the squared ``lengths`` (edges,).

    ``lengths`` None or α infinite is S = 1. What is left of the edges goes to ``folder`` where
    there is one, and is the same as in memory.
    """
    if lengths is None or np.isinf(alpha):
        weigh = None
    else:
        known = lengths

        def weigh(part: slice) -> Array:
            return semantic_weights(known[part].astype(np.float64), alpha, rule.lam)

    if folder is None:
        return system_block(block, weigh, rule)
    diagonal = np.empty(block.rows, dtype=rule.dtype)
    counts: list[Array] = []

    def runs() -> Iterator[dict[str, Array]]:
        for rows in row_tiles(block.rows):
            found = system_rows(block, rows, weigh, rule)
            diagonal[rows] = found.diagonal
            counts.append(found.counts)
            yield {"columns": found.columns, "values": found.values}

    kind = block.indptr.dtype
    stored = spill_runs(folder, {"columns": kind, "values": rule.dtype}, runs())
    width = block.rows + len(block.halo)
    matrix = StreamedRows(row_ends(counts, kind), stored["columns"], stored["values"], width)
    return SystemBlock(diagonal, matrix)
