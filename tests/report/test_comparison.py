"""Comparisons of several runs."""

from __future__ import annotations

import shutil

import pytest

from srch_dist.report import write_page
from srch_dist.report.__main__ import main
from srch_dist.report.records import load_records
from tests.helpers.html_page import HtmlPage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(shown, other, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "comparison.html"
    main([str(shown.run.path), str(other.run.path), "--out", str(out)])
    return HtmlPage(out)


def test_overview_has_a_row_a_run(page, shown, other):
    head, *rows = page.tables[0]
    assert head[:4] == ["run", "bits", "k", "rows"]
    assert [row[:3] for row in rows] == [["_<i>$a$ & 'b'", "16", "5"], ["other", "24", "7"]]
    place = head.index("MAP image → text")
    assert [row[place] for row in rows] == [
        f"{one.evaluation['map']['image_to_text']:.3f}" for one in (shown, other)
    ]


def test_differing_options_are_those_that_were_given(page):
    assert page.tables[1][0] == ["option", "_<i>$a$ & 'b'", "other"]
    found = {name: values for name, *values in page.tables[1][1:]}
    assert found == {
        "bits": ["16", "24"],
        "graph.k": ["5", "7"],
        "report": ["True", "False"],
    }


def test_map_table_has_both_runs_and_both_baselines(page, other):
    rows = [row for row in page.tables[2] if row[0] == "text → image"]
    # Both baselines stop at the 12 dimensions of the narrower modality, and are the same.
    assert [row[1:3] for row in rows] == [
        ["_<i>$a$ & 'b'", "16"],
        ["other", "24"],
        ["CCA-ITQ", "12"],
    ]
    assert rows[1][3] == f"{other.evaluation['map']['text_to_image']:.3f}"


def test_charts_and_sections_are_there(page):
    assert page.section_ids() == ["runs", "differences", "retrieval", "training", "cost"]
    assert {"Objective", "Changed bits", "CG iterations", "Edge weights S"} <= set(
        page.having("aria-label")
    )
    assert not {"i", "script"} & {tag for tag, _ in page.tags}


def test_default_place_is_the_working_folder(shown, other, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main([str(shown.run.path), str(other.run.path)])
    assert capsys.readouterr().out == f"page: {tmp_path / 'comparison.html'}\n"
    assert (tmp_path / "comparison.html").exists()


def test_runs_of_one_name_are_told_apart_by_their_folders(shown, tmp_path):
    paths = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    for path in paths:
        shutil.copytree(shown.run.path, path)
    assert [run.name for run in load_records(paths)] == ["a/run", "b/run"]
    write_page(paths, tmp_path / "page.html")
    assert "None; paths and addresses are not compared." in HtmlPage(tmp_path / "page.html").text
