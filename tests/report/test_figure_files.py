"""Figures and tables of a report as files."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from PIL import Image

from srch_dist.report import __main__ as report
from srch_dist.report import write_report_files
from srch_dist.report.figures import VARIABLES
from srch_dist.report.table_files import table_text

pytestmark = pytest.mark.slow

PLACEHOLDERS = [tuple(bytes.fromhex(colour[1:])) for colour in VARIABLES]


@pytest.fixture(scope="module", params=["run", "comparison"])
def written(request, shown, other, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    runs = [shown.run.path] + ([other.run.path] if request.param == "comparison" else [])
    return write_report_files(runs, folder / "new")


def test_every_chart_is_a_pdf_and_a_png_in_the_colours_of_the_page(written):
    pdfs = [path for path in written if path.suffix == ".pdf"]
    assert len(pdfs) >= 3
    assert len({path.name for path in written}) == len(written)
    blue = np.array([0x25, 0x63, 0xEB])
    seen = False
    for path in pdfs:
        assert path.read_bytes().startswith(b"%PDF")
        pixels = np.array(Image.open(path.with_suffix(".png")).convert("RGB")).reshape(-1, 3)
        assert len(pixels) > 100_000
        assert (pixels == 255).all(axis=1).mean() > 0.2
        for colour in PLACEHOLDERS:
            assert not (pixels == colour).all(axis=1).any(), (path, colour)
        seen |= bool((pixels == blue).all(axis=1).any())
    assert seen


def test_every_table_is_written_in_three_formats(written):
    tables = [path for path in written if path.suffix == ".csv"]
    assert tables
    for path in tables:
        rows = list(csv.reader(io.StringIO(path.read_text())))
        assert len({len(row) for row in rows}) == 1
        marked = path.with_suffix(".md").read_text()
        assert marked.startswith("|")
        assert len(marked.splitlines()) == len(rows) + 1
        typeset = path.with_suffix(".tex").read_text()
        assert typeset.startswith("\\begin{tabular}")
        assert "\\toprule" in typeset


def test_the_command_writes_the_same_files_again(shown, tmp_path, capsys, written):
    folder = tmp_path / "figures"
    report.main([str(shown.run.path), "--out", str(tmp_path / "a.html"), "--figures", str(folder)])
    files = sorted(folder.glob("[!.]*"))
    assert capsys.readouterr().out.splitlines()[-1] == f"figures: {folder} files={len(files)}"
    if not any("overview" in path.name or "runs-" in path.name for path in written):
        assert [path.name for path in files] == sorted(path.name for path in written)
        for path in files:
            assert path.read_bytes() == (written[0].parent / path.name).read_bytes()


def test_cells_are_escaped_and_keep_their_digits():
    rows = [["a|b", "0.100"], ["50 %", "1_2"]]
    assert table_text(["x", "y"], rows, ".csv") == "x,y\na|b,0.100\n50 %,1_2\n"
    assert "a\\|b" in table_text(["x", "y"], rows, ".md")
    assert "0.100" in table_text(["x", "y"], rows, ".md")
    typeset = table_text(["x", "y"], rows, ".tex")
    assert "50 \\%" in typeset
    assert "1\\_2" in typeset
