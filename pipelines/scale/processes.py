"""Run one measurement in a new process and read its JSON result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def run_module(module: str, options: dict[str, Any], out: Path, threads: int) -> dict[str, Any]:
    """Run ``python -m module`` and return the JSON that it writes to ``out``.

    Each measurement needs a new process: peak memory and compiled code last as long as a process.

    Parameters
    ----------
    module : str
        Module with a command line that accepts ``--out``.
    options : dict
        Further options by name, without the dashes.
    out : Path
        JSON file that the module writes.
    threads : int
        OMP_NUM_THREADS of the process.

    Raises
    ------
    RuntimeError
        The process failed.
    """
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", module, *arguments, "--out", str(out)]
    finished = subprocess.run(command, env=environment, check=False)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with exit code {finished.returncode}")
    record: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return record
