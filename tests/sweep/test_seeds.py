"""Means and standard deviations over the seeds of a sweep."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from srch_dist.runtime.progress import silent
from srch_dist.sweep.results import make_row, over_seeds, summary_cells, write_results

SCORES = {(16, 0): 0.50, (16, 1): 0.54, (16, 2): 0.58, (32, 0): 0.6, (32, 1): 0.7}


def row(bits, seed, score):
    record = {"error": "out of memory"}
    if score is not None:
        pair = {"image_to_text": {"1": score / 4, "10": score / 2, "median_rank": 7.0}}
        record = {
            "evaluation": {"pair_recall": pair, "map": {"image_to_text": score}},
            "summary": {
                "seconds": {"training": 1.0, "model": 2.0},
                "condensed": None,
                "iterations": 9,
            },
            "last": {"effective_bits": 12.0},
        }
    return make_row({"bits": bits, "seed": seed}, record)


@pytest.fixture
def rows():
    made = [row(bits, seed, score) for (bits, seed), score in SCORES.items()]
    return [*made, row(32, 2, None), row(64, 0, 0.9)]


def test_scores_are_averaged_over_the_seeds_that_finished(rows):
    first, second, third = over_seeds(["bits", "seed"], rows)
    values = [0.50, 0.54, 0.58]
    assert (first["bits"], first["runs"]) == (16, 3)
    assert first["map"] == pytest.approx(np.mean(values))
    assert first["map_sd"] == pytest.approx(np.std(values, ddof=1))
    assert (second["runs"], second["map"]) == (2, pytest.approx(0.65))
    assert (third["runs"], third["map"], third["map_sd"]) == (1, 0.9, None)
    headings, cells = summary_cells(["bits", "seed"], [first, second, third])
    assert headings[:3] == ["bits", "runs", "MAP"]
    assert cells[0][:3] == ["16", "3", "0.54 ± 0.04"]
    assert cells[2][:3] == ["64", "1", "0.9"]


def test_without_several_seeds_there_is_no_summary(rows):
    assert over_seeds(["bits"], rows) == []
    assert over_seeds(["bits", "seed"], [row(16, 0, 0.5), row(32, 0, 0.6)]) == []


def test_the_summary_is_written_for_papers(rows, tmp_path):
    write_results(tmp_path, ["bits", "seed"], rows, silent())
    with (tmp_path / "summary.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[1][:3] == ["16", "3", "0.54 ± 0.04"]
    assert "0.54 ± 0.04" in (tmp_path / "summary.md").read_text()
    assert "\\toprule" in (tmp_path / "summary.tex").read_text()
