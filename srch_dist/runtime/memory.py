"""Peak memory and seconds of the stages of a run."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from srch_dist.runtime.tasks import current_client
from srch_dist.runtime.workers import restart_workers

S = TypeVar("S")
T = TypeVar("T")


def peak_memory(since: bool = False) -> dict[str, int]:
    """Largest resident memory so far in bytes: the client's and the largest worker's.

    ``since`` begins anew for the next call, where the system allows it.
    """
    look = _take_peak if since else peak_bytes
    peaks = {"client": look()}
    client = current_client()
    if client is not None:
        peaks["worker"] = 0
        # One that goes away just now says nothing, and work goes on without it; where the
        # scheduler does, the next task says so.
        with suppress(OSError):
            peaks["worker"] = max(client.run(look, on_error="ignore").values(), default=0)
    return peaks


def _take_peak() -> int:
    peak = peak_bytes()
    # On Linux, this sets the peak to what is resident now.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak


def peak_bytes() -> int:
    """Largest resident memory of this process so far.

    What getrusage says starts from the peak of the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        # Elsewhere than on Linux; getrusage counts in KiB there, in bytes on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


class StageProfiler:
    """Wall-clock seconds of each stage, and the most memory that the fullest worker had in it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, dict[str, int]] = {}
        self._before: dict[str, int] = {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Measure what runs inside."""
        peak_memory(since=True)
        self._before = {}
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)
        found = peak_memory()
        self.peaks[stage] = {name: max(found[name], self._before.get(name, 0)) for name in found}

    def restart_workers(self, module: str) -> None:
        """`restart_workers` inside of a stage, whose peak is that of the workers before too."""
        self._before = peak_memory()
        restart_workers(module)

    def peak(self) -> dict[str, int]:
        """The largest of all stages, of the client and of a worker."""
        names = {name for found in self.peaks.values() for name in found}
        return {name: max(f.get(name, 0) for f in self.peaks.values()) for name in sorted(names)}
