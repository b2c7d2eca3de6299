"""The profile of a run: columns of Dask's metrics, steps of tasks, and one small run."""

from __future__ import annotations

import json
import sys

import pytest

from pipelines.scale import profile
from tests.helpers.runs import make_pairs, make_store


def test_metrics_are_summed_by_step_and_column():
    metrics = {
        ("execute", "span", "right_side", "thread-cpu", "seconds"): 2.0,
        ("execute", "other span", "right_side", "thread-cpu", "seconds"): 1.0,
        ("execute", "span", "right_side", "thread-noncpu", "seconds"): 0.5,
        ("execute", "span", "right_side", "executor", "seconds"): 0.25,
        ("execute", "span", "right_side", "disk-read", "bytes"): 7.0,
        ("gather-dep", "network", "seconds"): 4.0,
        ("get-data", "network", "seconds"): 9.0,
        ("execute", "span", "unknown", "thread-cpu", "seconds"): 8.0,
    }
    nothing = dict.fromkeys(profile.COLUMNS, 0.0)
    assert profile.by_task(metrics) == {
        ("z_step", "right_side"): {**nothing, "compute": 3.0, "disk": 0.5, "overhead": 0.25},
        ("other", "gather-dep"): {**nothing, "transfer": 4.0},
        ("other", "unknown"): {**nothing, "compute": 8.0},
    }


@pytest.mark.slow
@pytest.mark.cluster
def test_one_run_is_profiled(tmp_path, monkeypatch, capsys):
    store = make_store(tmp_path, 25, **make_pairs())
    options = {"bits": 8, "graph": {"k": 5}, "method": {"iterations": 2}}
    arguments = ["--store", store.path, "--out", tmp_path / "p" / "profile.json"]
    arguments += ["--workers", "1", "--options", json.dumps(options)]
    monkeypatch.setattr(sys, "argv", ["profile", *map(str, arguments)])
    profile.main()
    record = json.loads((tmp_path / "p" / "profile.json").read_text())
    steps = {row["step"] for row in record["tasks"]}
    assert steps >= {"features", "neighbour_graph", "z_step", "s_step", "b_step"}
    busy = sum(row[column] for row in record["tasks"] for column in profile.COLUMNS)
    assert 0 < busy < record["seconds"]
    assert record["idle"] == pytest.approx(record["seconds"] - busy)
    assert "| z_step |" in capsys.readouterr().out
