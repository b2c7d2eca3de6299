"""Records of finished stages, and of the finished units of a stage.

```
work/stages/NAME.json        a finished stage: its values, and a checksum of its arrays
work/stages/NAME.npz         small arrays that later stages read
work/stages/NAME/000012.npz  a finished unit of a stage, with its results
```

A unit is an independent part of a stage, computed by one task. A record is written atomically,
after the data that it describes have reached the disk. The worker that computes a unit also writes
the record of the unit, so no finished unit is lost if the client dies.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import StorageError
from srch_dist.kernels.types import Arrays
from srch_dist.storage import arrays
from srch_dist.storage.atomic_files import read_bytes, read_manifest, write_manifest
from srch_dist.storage.durable import flush
from srch_dist.storage.locations import Location, entries, is_file
from srch_dist.storage.safe_npz import read_npz, unpack_npz, write_npz


@dataclass(frozen=True)
class StageRecord:
    """Results of a finished stage: JSON ``values`` and small ``arrays``, both by name."""

    values: Mapping[str, Any]
    arrays: Arrays


@dataclass(frozen=True)
class StageLog:
    """Reads and writes a run's stage records of one configuration; can be sent to workers.

    Attributes
    ----------
    folder : folder of the records.
    fingerprint : hash of the options that can change the codes; see `identity.fingerprint`.
    """

    folder: Location
    fingerprint: str

    def find(self, name: str) -> StageRecord | None:
        """Read the record of a stage; None if the stage is not finished.

        Raises
        ------
        StorageError : the record is damaged, or was written for another configuration.
        """
        path = self.folder / f"{name}.json"
        if not is_file(path):
            return None
        manifest = read_manifest(path)
        if manifest.get("config") != self.fingerprint:
            raise StorageError(
                f"{path} was written with other options; remove {self.folder}, and train again"
            )
        file = self.folder / f"{name}.npz"
        content = read_bytes(file)
        if zlib.crc32(content) != manifest["arrays"]:
            raise StorageError(f"{file} is damaged: it does not match its checksum in {path}")
        return StageRecord(manifest["values"], unpack_npz(content, str(file)))

    def read(self, name: str) -> StageRecord:
        """Read the record of a stage as `find` does; raise StorageError if it is missing."""
        record = self.find(name)
        if record is None:
            raise StorageError(
                f"{self.folder / name}.json is missing; train again without --resume"
            )
        return record

    def commit(self, name: str, values: Mapping[str, Any], arrays: Arrays) -> StageRecord:
        """Flush everything that this host wrote to disk, then record the stage as finished."""
        flush(self.folder)
        content = write_npz(self.folder / f"{name}.npz", arrays)
        write_manifest(
            self.folder / f"{name}.json",
            {"config": self.fingerprint, "values": dict(values), "arrays": zlib.crc32(content)},
        )
        return StageRecord(values, {key: np.asarray(array) for key, array in arrays.items()})

    def units(self, name: str) -> set[int]:
        """Return the numbers of the finished units of a stage."""
        stems = (path.name.partition(".")[0] for path in entries(self.folder / name))
        return {int(stem) for stem in stems if stem.isdigit()}

    def unit(self, name: str, number: int) -> dict[str, NDArray[Any]]:
        """Read the results of a finished unit."""
        return read_npz(self._unit(name, number))

    def commit_unit(self, name: str, number: int, results: Arrays) -> None:
        """Flush everything that this host wrote to disk, then record the unit as finished."""
        flush(self.folder)
        write_npz(self._unit(name, number), results)

    def forget_units(self, name: str) -> None:
        """Remove the unit records of all stages ``name.*``, which a later stage has merged."""
        for path in entries(self.folder):
            if path.name.startswith(f"{name}.") and not is_file(path):
                arrays.remove(path)

    def _unit(self, name: str, number: int) -> Location:
        return self.folder / name / f"{number:06d}.npz"
