"""The table of sizes in the README is what the command prints, but for the numbers."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_case_fits_and_the_readme_has_a_line_for_it():
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.scale.sizing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    head, rule, *rows = done.stdout.splitlines()
    readme = (ROOT / "README.md").read_text().splitlines()
    place = readme.index(head)
    assert readme[place + 1] == rule
    assert len(rows) == 2
    for line, known in zip(rows, readme[place + 2 :], strict=False):
        cells = line.split(" | ")
        assert len(cells) == head.count(" | ") + 1
        # Pairs, bits, workers and memory are chosen; what follows is of the plan.
        assert cells[:4] == known.split(" | ")[:4]
