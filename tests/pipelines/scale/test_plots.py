"""Plots and table of the scale page: they follow from the kept files, and measure nothing."""

from __future__ import annotations

import json
import re
import shutil
import sys
from xml.etree import ElementTree

import pytest

from pipelines.docs.pictures import FOLDER
from pipelines.scale import plots, run
from pipelines.scale.runs import data_name, stage_shares, table
from tests.helpers.markdown import ROOT

KEPT = ROOT / "pipelines" / "scale"
PAGE = ROOT / "docs" / "benchmarks" / "scale.md"


@pytest.fixture
def redraw(monkeypatch, capsys):
    """Call ``run draw`` and return what it prints."""

    def call(*arguments) -> str:
        monkeypatch.setattr(sys, "argv", ["run", "draw", *map(str, arguments)])
        run.main()
        return capsys.readouterr().out

    return call


def words(picture) -> set[str]:
    """The texts of an SVG picture."""
    tree = ElementTree.parse(picture)
    return {"".join(text.itertext()) for text in tree.iter("{http://www.w3.org/2000/svg}text")}


def test_the_pages_table_has_the_numbers_of_the_kept_runs():
    runs = plots.load_runs(KEPT)
    assert table(runs) in PAGE.read_text(encoding="utf-8")
    for one in runs:
        assert sum(stage_shares(one).values()) == pytest.approx(1)


def test_pictures_are_drawn_again_from_the_kept_files(redraw, tmp_path):
    shown = redraw("--records", KEPT, "--out", tmp_path / "a")
    redraw("--records", KEPT, "--out", tmp_path / "b")
    (names,) = re.findall(r"^drawn: (.*)$", shown, re.M)
    assert table(plots.load_runs(KEPT)) in shown
    drawn = {path.name for path in (tmp_path / "a").iterdir()}
    assert drawn == {f"{n}-{scheme}.svg" for n in names.split(", ") for scheme in ("light", "dark")}
    assert {"growth", "stages", "convergence"} <= set(names.split(", "))
    for name in drawn:
        picture = (tmp_path / "a" / name).read_bytes()
        assert picture == (tmp_path / "b" / name).read_bytes()
        assert len(picture) < 100_000
        assert words(FOLDER / "scale" / name) == words(tmp_path / "a" / name)
    light, dark = (tmp_path / "a" / f"growth-{scheme}.svg" for scheme in ("light", "dark"))
    assert light.read_bytes() != dark.read_bytes()
    assert {"srch-dist", "reference", "62,500", "4 million"} <= words(light) == words(dark)


def test_cg_has_a_curve_per_run_and_one_per_reference(redraw, tmp_path):
    runs = plots.load_runs(KEPT)
    for one in runs:
        one["srch_dist"]["cg_iterations"] = [2, 6, 7]
        if one["reference"]:
            one["reference"]["cg_iterations"] = [3, 9, 30]
    (tmp_path / plots.RUNS).write_text(json.dumps({"runs": runs}))
    assert "drawn: growth, stages, cg\n" in redraw("--records", tmp_path, "--out", tmp_path)
    assert {*map(data_name, runs), "srch-dist"} <= words(tmp_path / "cg-light.svg")


def test_a_folder_without_records_is_refused(redraw, tmp_path):
    with pytest.raises(SystemExit, match=r"no runs\.json and no residuals\.json.*--records"):
        redraw("--records", tmp_path, "--out", tmp_path)
    shutil.copy(KEPT / plots.RESIDUALS, tmp_path)
    assert redraw("--records", tmp_path, "--out", tmp_path) == "drawn: convergence\n"
