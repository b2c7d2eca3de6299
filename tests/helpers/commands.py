"""Run commands of srch_dist as a user does, in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LIMIT = 120  # seconds; enough on a busy machine


def run_command(name: str, *arguments, folder: Path, **variables) -> subprocess.CompletedProcess:
    """Run `python -m srch_dist.NAME …` in ``folder`` and capture its output."""
    return subprocess.run(
        [sys.executable, "-m", f"srch_dist.{name}", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
