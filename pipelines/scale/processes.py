"""Work in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def run_apart(module: str, arguments: dict[str, Any], out: Path, threads: int) -> dict[str, Any]:
    """The JSON that ``python -m module`` writes to ``out``, run in a new process.

    A peak of memory belongs to one process, and compiled code to one process too.
    """
    given = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", module, *given, "--out", str(out)]
    finished = subprocess.run(command, env=environment, check=False)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {finished.returncode}")
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found
