"""Checkpoints of a run: commit an iteration, and find the last committed iteration.

An iteration writes its arrays first. When the arrays are on disk, the iteration writes its
manifest. A checkpoint without a manifest is ignored. The previous checkpoint is kept until the next
commit.

A column group is a range of columns of the embedding Z that are solved together. Within an
iteration, the Z-step commits each column group.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from srch_dist.kernels.types import Arrays
from srch_dist.storage import arrays
from srch_dist.storage.atomic_files import read_manifest, write_manifest
from srch_dist.storage.durable import flush
from srch_dist.storage.locations import Location, entries, is_file
from srch_dist.storage.run.layout import RunPaths
from srch_dist.storage.safe_npz import read_npz, write_npz


@dataclass(frozen=True)
class CheckpointStore(RunPaths):
    """A run directory's checkpoints: write, commit, find and read them."""

    def commit(self, iteration: int, manifest: Mapping[str, Any]) -> None:
        """Write the manifest of a checkpoint; remove checkpoints older than the previous one."""
        flush(self.path)
        write_manifest(self.checkpoint(iteration, "manifest.json"), manifest)
        for folder in entries(self.checkpoint(0).parent):
            if folder.name.isdigit() and int(folder.name) < iteration - 1:
                arrays.remove(folder)

    def latest(self) -> dict[str, Any] | None:
        """Read the manifest of the last committed iteration; None before the first commit.

        Raises
        ------
        StorageError : the manifest is damaged.
        """
        committed = self.committed()
        return read_manifest(self.checkpoint(committed[-1], "manifest.json")) if committed else None

    def committed(self) -> list[int]:
        """List the numbers of the committed iterations on disk, ascending."""
        folders = entries(self.checkpoint(0).parent)
        numbers = [int(folder.name) for folder in folders if folder.name.isdigit()]
        return [n for n in sorted(numbers) if is_file(self.checkpoint(n, "manifest.json"))]

    def discard_checkpoint(self, iteration: int) -> None:
        """Remove the checkpoint of an iteration; the previous checkpoint becomes the latest."""
        self.checkpoint(iteration, "manifest.json").unlink(missing_ok=True)
        arrays.remove(self.checkpoint(iteration))

    def write_matrices(self, folder: Location, matrices: Arrays) -> dict[str, int]:
        """Write small arrays of one chunk each; return the crc32 of each array by name."""
        for name, values in matrices.items():
            arrays.create_chunk(folder / name, values)
        return {name: arrays.checksum(values) for name, values in matrices.items()}

    def read_matrices(
        self, folder: Location, checksums: Mapping[str, int]
    ) -> dict[str, NDArray[Any]]:
        """Read arrays that `write_matrices` wrote; raise StorageError if a crc32 differs."""
        for name, expected in checksums.items():
            arrays.verify_rows(folder / name, 0, None, expected)
        return {name: arrays.read_rows(folder / name) for name in checksums}

    def commit_column_group(self, iteration: int, columns: slice, results: Arrays) -> None:
        """Record that ``columns`` of an iteration's array ``z`` are solved; store ``results``."""
        flush(self.path)
        name = f"z.{columns.start:04d}-{columns.stop:04d}.npz"
        write_npz(self.checkpoint(iteration, name), results)

    def column_groups(self, iteration: int) -> dict[tuple[int, int], dict[str, NDArray[Any]]]:
        """Read the results of all committed column groups, by (first column, end column)."""
        groups = {}
        for path in self._group_records(iteration):
            start, stop = path.name.split(".")[1].split("-")
            groups[int(start), int(stop)] = read_npz(path)
        return groups

    def forget_column_groups(self, iteration: int) -> None:
        """Remove all records that `commit_column_group` wrote in an iteration."""
        for path in self._group_records(iteration):
            path.unlink()

    def _group_records(self, iteration: int) -> list[Location]:
        found = entries(self.checkpoint(iteration))
        return [path for path in found if re.fullmatch(r"z\.\d+-\d+\.npz", path.name)]
