"""The scale benchmark at a tiny size: its output holds every record, figure, table and plot."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest

from pipelines.scale import run
from pipelines.scale.figures import figures, markdown
from pipelines.scale.runs import short, stage_shares, table

pytestmark = pytest.mark.cluster

SIZES = (1_500, 3_000)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scale")
    options = {"bits": 16, "method": {"iterations": 2}, "graph": {"recall_rows": 100}}
    arguments = [
        "run", "all", "--out", str(folder), "--sizes", *map(str, SIZES), "--dims", "20",
        "--repeats", "1", "--options", json.dumps(options),
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        run.main()
    return folder, json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_every_size_has_engine_and_reference(results):
    _, output = results
    assert [record["data"] for record in output["records"]] == [str(size) for size in SIZES]
    for record, size in zip(output["records"], SIZES, strict=True):
        engine, reference = record["engine"], record["reference"]
        assert engine["rows"] == size
        assert engine["bits"] == 16
        assert min(engine["recall"].values()) == 1.0
        assert min(reference["recall"].values()) == 1.0
        assert engine["peak_bytes"]["worker"] >= engine["idle_bytes"]["worker"] > 0
        assert set(engine["seconds"]) == {"features", "graph", "model", "w", "z", "s", "b"}
        assert sum(stage_shares(short(record)).values()) == pytest.approx(1)


def test_reference_and_engine_agree(results):
    """Both implementations take the same CG iterations; MAP differs by bits near zero only."""
    _, output = results
    for record in output["records"]:
        engine, reference = record["engine"], record["reference"]
        assert engine["cg_iterations"] == pytest.approx(reference["cg_iterations"], abs=1)
        for pair, value in engine["map"].items():
            assert value == pytest.approx(reference["map"][pair], abs=0.01)


def test_every_figure_is_there_and_finite(results):
    _, output = results
    names = {row["what"] for row in output["figures"]}
    for part in (
        "lowest recall@10", "graph time", "worker memory above idle", "client memory above idle",
        "CG iterations, maximum", "CG iteration time / floor", "B-step: slower floor",
        "training time", "MAP, largest difference", "scheduler", "plan / measured, worker",
        "plan / measured, disk", "time for 4 × rows", "worker memory, ratio",
    ):  # fmt: skip
        assert any(name.startswith(part) or part in name for name in names), part
    assert all(math.isfinite(row["measured"]) for row in output["figures"])


def test_plan_is_not_below_the_measured_memory_and_disk(results):
    _, output = results
    for row in output["figures"]:
        if row["what"] in ("plan / measured, worker MiB", "plan / measured, disk MiB"):
            assert row["measured"] >= 1


def test_tables_and_plots_are_written(results):
    folder, output = results
    text = (folder / "results.md").read_text(encoding="utf-8")
    assert text == markdown(output["records"], output["figures"])
    assert text.count("| srch-dist |") == text.count("| reference |") == len(SIZES)
    for name in ("growth", "stages", "cg"):
        for scheme in ("light", "dark"):
            assert "<svg" in (folder / f"{name}-{scheme}.svg").read_text(encoding="utf-8")
    kept = json.loads((folder / "runs.json").read_text(encoding="utf-8"))
    assert kept["runs"] == [short(record) for record in output["records"]]
    assert text.startswith(table(kept["runs"]))


def test_figures_follow_from_the_records(results):
    _, output = results
    assert output["figures"] == figures(output["records"])


def test_medians_are_taken_of_numbers_at_every_depth():
    runs = [{"a": {"b": value}, "c": [value, 1], "d": "x"} for value in (3.0, 1.0, 2.0)]
    assert run.median_of(runs) == {"a": {"b": 2.0}, "c": [2.0, 1], "d": "x"}
    uneven = [{"c": [1, 2]}, {"c": [1]}]
    assert run.median_of(uneven) == {"c": [1, 2]}
    assert np.isclose(run.median_of([1, 2]), 1.5)
