"""`Iteration`: number, solver tolerance and step times of one pass through Algorithm 1's loop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Iteration:
    """One pass through lines 5 to 8 of Algorithm 1.

    Attributes
    ----------
    number : counted from 1 over all attempts of the run.
    tolerance : relative residual at which the Z-step stops; see `z_step.allowed_residual`.
    resumed : whether an interrupted attempt may have stored column groups of its Z already.
    seconds : wall-clock seconds by step.
    """

    number: int
    tolerance: float
    resumed: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Record the seconds of the block as those of ``step``."""
        start = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - start, 4)
