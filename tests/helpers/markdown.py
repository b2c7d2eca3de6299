"""Code blocks of Markdown pages, and a runner that executes them in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


@dataclass(frozen=True)
class Block:
    """A fenced code block: its language and text."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """All fenced code blocks of a page, in order."""
    return [Block(*found) for found in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def run_block(block: Block, folder: Path) -> str:
    """Run a block of language sh or python in ``folder``; return what it prints on both streams."""
    bin_folder = folder / ".bin"
    bin_folder.mkdir(exist_ok=True)
    if not (bin_folder / "python").exists():
        # A script, since a link to the interpreter would lose its virtual environment.
        (bin_folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (bin_folder / "python").chmod(0o755)
    script = folder / f".block.{block.language}"
    script.write_text(block.text, encoding="utf-8")
    command = {"sh": ["bash", "-euo", "pipefail"], "python": [sys.executable]}[block.language]
    done = subprocess.run(
        [*command, str(script)],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}"
    return done.stdout


def same_but_for_numbers(line: str) -> str:
    """A line with numbers replaced and blanks joined, to compare it with a line of another run."""
    return " ".join(_NUMBER.sub("#", line).split())
