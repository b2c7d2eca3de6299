"""`Iteration`: number, solver tolerance and step times of one pass through Algorithm 1's loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from srch_dist.kernels.types import Matrix


@dataclass(frozen=True)
class Iteration:
    """One pass through lines 5 to 8 of Algorithm 1.

    Attributes
    ----------
    number : number of the iteration, from 1. A resumed run continues the count.
    tolerance : relative residual at which the Z-step stops; see `z_step.allowed_residual`.
    basis : (l, r) basis V in which Z is solved; None means all l columns. See `code_basis`.
    resumed : true if an interrupted attempt may have stored column groups of this iteration's Z.
    seconds : wall-clock seconds by step: "w", "z", "s" and "b".
    """

    number: int
    tolerance: float
    basis: Matrix | None = None
    resumed: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Measure the wall-clock seconds of a ``with`` block, and store them under ``step``."""
        start = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - start, 4)
