"""The directory that a run is trained in: its paths, records and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from srch_dist.storage import arrays
from srch_dist.storage.run.checkpoint_store import CheckpointStore
from srch_dist.storage.run.records import RunRecords


@dataclass(frozen=True)
class RunDirectory(CheckpointStore, RunRecords):
    """A run directory. The object holds only the path, so it can be sent to any worker."""

    def sweep(self) -> None:
        """Remove partial files (``*.part``, ``*.partial``) that a killed process left.

        An object is never partial.
        """
        if not isinstance(self.path, Path):
            return
        for pattern in ("*.partial", "*.part"):
            for path in self.path.rglob(pattern):
                path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the run's files, so that the next attempt can use the directory."""
        arrays.remove(self.path)
