"""What is finished of a comparison, kept by data set, width and method."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class Parts:
    """Records of finished methods in one file, each with what it was made from."""

    path: Path

    def take(self, name: str, asked: Record, make: Callable[[], list[Record]]) -> list[Record]:
        """The records of a method: those kept, if asked for alike; else made, and kept."""
        kept = self._read()
        if kept.get(name, {}).get("asked") != asked:
            kept[name] = {"asked": asked, "records": make()}
            self._write(kept)
        return list(kept[name]["records"])

    def forget(self) -> None:
        """Start again."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        """Empty where there is nothing that can be read."""
        try:
            return dict(json.loads(self.path.read_text("utf-8")))
        except (OSError, ValueError):
            return {}

    def _write(self, kept: dict[str, Any]) -> None:
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        partial.replace(self.path)


def source_digest(folder: Path) -> str:
    """Of every Python file below ``folder``: results of other code are other results."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
