"""The file ``run.json``: format version, whether the run is finished, checksums of records."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from srch_dist.errors import StorageError
from srch_dist.storage.atomic_files import CRC, check_manifest, read_bytes, read_json
from srch_dist.storage.locations import Location

FORMAT = 1
# Entry of run.json: crc32 of each record that a finished run no longer changes.
CHECKSUMS = "checksums"
# What to do with a record that is damaged.
REMEDY = "Restore the file from a copy, or train the run again in another directory."
_REMEDY_OF_ARRAYS = REMEDY.replace("file", "folder")
_METADATA = "zarr.json"


def read_head(folder: Location) -> dict[str, Any]:
    """Read ``run.json``; raise StorageError if it is damaged or has another format version."""
    path = folder / "run.json"
    head = read_json(path)
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise StorageError(
            f"{path} does not have format {FORMAT}, the only format that this version reads"
        )
    # Unfinished runs, and runs of earlier versions, have no checksums.
    if CHECKSUMS in head or CRC in head:
        head = check_manifest(head, path, REMEDY)
    return {"finished": False, **head}


def run_head(finished: bool) -> dict[str, Any]:
    """Return the first entries of ``run.json``: format version, and whether the run is finished."""
    return {"format": FORMAT, "finished": finished}


def read_record(path: Location) -> bytes:
    """Read a record (a file) of a run; verify its content if ``run.json`` has its checksum.

    Unfinished runs and runs of earlier versions have no checksums.

    Raises
    ------
    StorageError : the file cannot be read, or does not match its checksum.
    """
    content = read_bytes(path)
    expected = recorded_checksums(path.parent).get(path.name)
    if expected is not None and zlib.crc32(content) != expected:
        raise StorageError(
            f"{path} is damaged: it does not match its checksum in run.json. {REMEDY}"
        )
    return content


def check_array(path: Location) -> None:
    """Compare the metadata of a run's array with the checksum in ``run.json``, if it has one.

    The metadata in turn hold checksums of the rows. So an array of another run is detected here,
    and rows of another run are detected when they are read.

    Raises
    ------
    StorageError : the metadata cannot be read, or belong to another array.
    """
    expected = recorded_checksums(path.parent).get(array_metadata(path.name))
    if expected is not None and zlib.crc32(read_bytes(path / _METADATA)) != expected:
        raise StorageError(f"{path} is not the array that this run wrote. {_REMEDY_OF_ARRAYS}")


def array_metadata(name: str) -> str:
    """Return the path of an array's metadata file in the run directory, as run.json lists it."""
    return f"{name}/{_METADATA}"


def run_identity(folder: Location) -> int | None:
    """Return a number that identifies a finished run; None for unfinished and earlier runs."""
    if not (folder / "run.json").exists():
        return None
    head = read_json(folder / "run.json")
    return head.get(CRC) if isinstance(head, dict) else None


def recorded_checksums(folder: Location) -> Mapping[str, int]:
    """Return each record's crc32 by file name; {} for unfinished runs and earlier versions."""
    # A folder of files that were copied out of a run has no run.json.
    if not (folder / "run.json").exists():
        return {}
    checksums: Mapping[str, int] = read_head(folder).get(CHECKSUMS, {})
    return checksums
