"""The tutorials run, block by block, and print what they show, but for numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.markdown import ROOT, blocks, run_block, same_but_for_numbers

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("[!i]*.md"))


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in TUTORIALS])
def test_a_tutorial_runs_and_prints_what_it_shows(page, tmp_path):
    run_page(page, tmp_path)


def run_page(page: Path, folder: Path) -> None:
    """Run all blocks of a page; each ``text`` block shows lines of the output before it."""
    ran, output = 0, ""
    for block in blocks(page):
        if block.language in ("sh", "python"):
            output = run_block(block, folder)
            ran += 1
        elif block.language == "text":
            printed = {same_but_for_numbers(line) for line in output.splitlines()}
            for line in filter(str.strip, block.text.splitlines()):
                assert same_but_for_numbers(line) in printed, f"{line}\nis not in\n{output}"
    assert ran
