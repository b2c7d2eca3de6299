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
    beta: float,
    lam: float,
    dtype: np.dtype[Any],
    folder: Path | None,
) -> SystemBlock:
    """The system of a block whose edges have the squared ``lengths`` (edges,).

    ``lengths`` None or α infinite is S = 1. The values of the edges go to ``folder`` where there
    is one, and are the same as those in memory.
    """
    if lengths is None or np.isinf(alpha):
        weigh = None
    else:
        known = lengths

        def weigh(part: slice) -> Array:
            return semantic_weights(known[part].astype(np.float64), alpha, lam)

    if folder is None:
        return system_block(block, weigh, beta, lam, dtype)
    diagonal = np.empty(block.rows, dtype=dtype)

    def runs() -> Iterator[dict[str, Array]]:
        for rows in row_tiles(block.rows):
            diagonal[rows], values = system_rows(block, rows, weigh, beta, lam)
            yield {"values": values}

    stored = spill_runs(folder, {"values": dtype}, runs())
    width = block.rows + len(block.halo)
    matrix = StreamedRows(block.indptr, block.columns, stored["values"], width)
    return SystemBlock(diagonal, matrix)
