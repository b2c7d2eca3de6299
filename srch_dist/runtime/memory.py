"""Measure peak memory and wall-clock time of the stages of a run."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from srch_dist.runtime.tasks import current_client
from srch_dist.runtime.workers import restart_workers


def peak_memory(since: bool = False) -> dict[str, int]:
    """Measure the peak resident memory of the ``client`` and of the largest ``worker``, in bytes.

    Parameters
    ----------
    since : also reset the peak memory, so that the next call measures from now on (Linux only).
    """
    measure = _take_peak if since else peak_bytes
    peaks = {"client": measure()}
    client = current_client()
    if client is not None:
        peaks["worker"] = 0
        # A worker lost during the call is left out. If the scheduler is lost, the next task fails
        # and reports it.
        with suppress(OSError):
            peaks["worker"] = max(client.run(measure, on_error="ignore").values(), default=0)
    return peaks


def _take_peak() -> int:
    """Return `peak_bytes`, then reset the peak memory to the current memory."""
    peak = peak_bytes()
    # Linux then sets VmHWM (peak) to the current resident memory.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak


def peak_bytes() -> int:
    """Return the peak resident memory of this process in bytes.

    On Linux the peak is read from /proc, because getrusage inherits the peak of the parent process.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        # getrusage counts in bytes on macOS, in KiB elsewhere.
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


class StageProfiler:
    """Measures wall-clock time and peak memory of the stages of a run.

    Attributes
    ----------
    seconds : wall-clock seconds by stage.
    peaks : peak memory in bytes of the ``client`` and of the largest ``worker``, by stage.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, dict[str, int]] = {}
        self._before: dict[str, int] = {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Measure seconds and peak memory of this context, and store them under ``stage``."""
        peak_memory(since=True)
        self._before = {}
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)
        peaks = peak_memory()
        self.peaks[stage] = {name: max(peaks[name], self._before.get(name, 0)) for name in peaks}

    def restart_workers(self, module: str) -> None:
        """Restart workers that imported ``module``; the current stage keeps their peak so far."""
        self._before = peak_memory()
        restart_workers(module)

    def peak(self) -> dict[str, int]:
        """Return the maximum of ``peaks`` over the stages, in bytes, for client and worker."""
        names = {name for peaks in self.peaks.values() for name in peaks}
        return {name: max(p.get(name, 0) for p in self.peaks.values()) for name in sorted(names)}
