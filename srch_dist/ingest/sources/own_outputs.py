"""Recognise what this package itself wrote into the folder of a source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from srch_dist.storage.feature_store import MANIFEST_KEY


def own_output(folder: Path) -> str | None:
    """Return what ``folder`` is, if a command of this package wrote it; None for other folders.

    Such a folder in the folder of a source repeats the rows of the source: a feature store that
    an earlier ingest wrote there, codes of these rows, or a run that was trained on them.
    """
    if "finished" in _values(folder / "run.json"):
        return "a run directory of srch-dist"
    attributes = _values(folder / "zarr.json").get("attributes")
    if not isinstance(attributes, dict):
        return None
    if MANIFEST_KEY in attributes:
        return "a feature store of srch-dist"
    return "codes of srch-dist" if {"bits", "bitorder"} <= set(attributes) else None


def _values(file: Path) -> dict[str, Any]:
    """Read a JSON object; {} if the file is absent or anything else."""
    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
