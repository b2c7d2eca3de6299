"""Values that are computed from options alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from srch_dist.config.options import TrainConfig


def vector_dtype(config: TrainConfig) -> np.dtype[Any]:
    """Choose the dtype of the Z-step's vectors: float32 if its rounding permits, else float64.

    float32 halves memory and network traffic. It suffices if the rounding error of λH, relative to
    βI (both of Eq. 14), is well below the tolerance. The preset ``balanced`` meets this condition.
    The preset ``paper`` (β = 1e-3) does not: a residual of 1e-4, computed in float32, was 2e-3 in
    float64. With either dtype, the codes do not depend on the partitioning: the sum over a row's
    entries has a fixed order, and sums over rows are in float64.
    """
    method, tolerance = config.method, config.solver.tolerance
    rounding = float(np.finfo(np.float32).eps) * (1 + method.lam * config.graph.k / method.beta)
    return np.dtype(np.float32 if tolerance >= max(1e-5, 2 * rounding) else np.float64)


def direction_count(config: TrainConfig) -> int:
    """Return the maximum number of directions of the final codes; 0 keeps the codes of the loop.

    "auto" is 4 √bits. Fewer directions leave wide codes without new information; with more, bits of
    narrow codes are spent on directions that encoders cannot predict.
    """
    chosen = config.method.directions
    count = round(4 * math.sqrt(config.bits)) if chosen == "auto" else chosen
    return min(count, config.bits)
