"""File cache of finished methods, one file per data set and code length."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class ResultCache:
    """Records of finished methods in one JSON file, each with the inputs that produced it."""

    path: Path

    def get_or_compute(
        self, name: str, inputs: Record, compute: Callable[[], list[Record]]
    ) -> list[Record]:
        """Return the records of a method.

        Parameters
        ----------
        name : str
            Method.
        inputs : dict
            Inputs of the records. Cached records count only if theirs are equal.
        compute : callable
            Produces missing records; they are cached.
        """
        cache = self._read()
        if cache.get(name, {}).get("asked") != inputs:
            cache[name] = {"asked": inputs, "records": compute()}
            self._write(cache)
        return list(cache[name]["records"])

    def clear(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        """The file's content; empty if it is missing or damaged."""
        try:
            return dict(json.loads(self.path.read_text("utf-8")))
        except (OSError, ValueError):
            return {}

    def _write(self, cache: dict[str, Any]) -> None:
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(cache, indent=1) + "\n", "utf-8")
        partial.replace(self.path)


def source_digest(folder: Path) -> str:
    """SHA-256 of names and contents of all Python files in ``folder`` and its subfolders."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
