"""Tutorials and README run, block by block, and print what they show, but for numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.markdown import ROOT, Block, blocks, run_block, same_but_for_numbers

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

TUTORIALS = ROOT / "docs" / "tutorials"
PAGES = [page for page in sorted(TUTORIALS.glob("*.md")) if page.name != "index.md"]


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in PAGES])
def test_a_tutorial_runs_and_prints_what_it_shows(page, tmp_path):
    assert run_blocks(blocks(page), tmp_path) >= 2


def test_the_commands_and_the_python_of_the_readme_run(tmp_path):
    """On the folder that the tutorial makes; what installs is left out."""
    page = blocks(ROOT / "README.md")
    (own,) = (place for place, block in enumerate(page) if "srch_dist.ingest" in block.text)
    lines = [line for line in page[own].text.splitlines(True) if line.startswith("python -m ")]
    assert len(lines) == 5
    made = next(block for block in blocks(TUTORIALS / "embeddings-folder.md") if block.language)
    shown, script = page[own + 1], page[own + 2]
    assert (shown.language, script.language) == ("text", "python")
    assert run_blocks([made, Block("sh", "".join(lines)), shown, script], tmp_path) == 3
    assert (tmp_path / "scores.json").exists()


def run_blocks(page: list[Block], folder: Path) -> int:
    """Run blocks in order; each ``text`` block shows lines of the output before it."""
    ran, output = 0, ""
    for block in page:
        if block.language in ("sh", "python"):
            output = run_block(block, folder)
            ran += 1
        elif block.language == "text":
            printed = {same_but_for_numbers(line) for line in output.splitlines()}
            for line in filter(str.strip, block.text.splitlines()):
                assert same_but_for_numbers(line) in printed, f"{line}\nis not in\n{output}"
    return ran
