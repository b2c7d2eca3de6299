"""docs/how-to/plan-a-run.md shows the output of the command, and each planning command."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.scale.sizing import CASES, command

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to" / "plan-a-run.md"


def test_every_case_fits_and_the_page_shows_its_row():
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
    shown = PAGE.read_text().splitlines()
    place = shown.index(head)
    assert shown[place + 1] == rule
    assert len(rows) == 2
    assert shown[place + 2 : place + 5] == [*rows, ""]


def test_the_page_gives_the_command_of_every_case():
    lines = [line.split() for line in PAGE.read_text().splitlines()]
    shown = [line for line in lines if line[:3] == ["python", "-m", "srch_dist.plan"]]
    for case in CASES:
        options = [str(option) for option in command(case)[1:]]
        line = ["python", *options[:-1]]  # without --json
        assert [word.replace("_", "") for word in line] in [
            [word.replace("_", "") for word in one] for one in shown
        ]
