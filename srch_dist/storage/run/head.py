"""The file ``run.json``: format version, whether the run is finished, checksums of records."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from srch_dist.errors import StorageError
from srch_dist.storage.atomic_files import check_manifest, read_bytes, read_json
from srch_dist.storage.locations import Location

FORMAT = 1
# Entry of run.json: crc32 of each record that a finished run no longer changes.
CHECKSUMS = "checksums"
# What to do with a record that is damaged.
REMEDY = "Restore the file from a copy, or train the run again in another directory."


def read_head(folder: Location) -> dict[str, Any]:
    """Read ``run.json``; raise StorageError if it is damaged or has another format version."""
    path = folder / "run.json"
    head = read_json(path)
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise StorageError(f"{path} does not have format {FORMAT}")
    # Unfinished runs, and runs of earlier versions, have no checksums.
    if CHECKSUMS in head or "crc32" in head:
        head = check_manifest(head, path, REMEDY)
    return {"finished": False, **head}


def run_head(finished: bool) -> dict[str, Any]:
    """Return the first entries of ``run.json``: format version, and whether the run is finished."""
    return {"format": FORMAT, "finished": finished}


def read_record(path: Location) -> bytes:
    """Read a record of a run; compare it with its checksum if ``run.json`` has one.

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


def recorded_checksums(folder: Location) -> Mapping[str, int]:
    """Return each record's crc32 by file name; {} for unfinished runs and earlier versions."""
    # A folder of files that were copied out of a run has no run.json.
    if not (folder / "run.json").exists():
        return {}
    checksums: Mapping[str, int] = read_head(folder).get(CHECKSUMS, {})
    return checksums
