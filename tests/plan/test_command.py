"""`python -m srch_dist.plan`, and the plan that training shows and saves."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from srch_dist.config.loading import build_config
from srch_dist.errors import ConfigError, PlanError
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.plan import __main__ as plan
from srch_dist.plan import calibrate
from srch_dist.plan.planner import check_disk
from srch_dist.plan.rates import Rates
from srch_dist.storage.run.open import open_run
from srch_dist.train.runner import train_model
from tests.helpers.plans import make_plan

pytestmark = pytest.mark.slow

SMALL = ["--pairs", "50_000", "--dims", "image=64,text=48", "--workers", "3"]


def planned(capsys, *arguments):
    plan.main([*SMALL, *arguments])
    return capsys.readouterr().out


def test_table_names_every_stage_and_the_totals_of_the_run(capsys):
    out = planned(capsys)
    assert "50,000 rows" in out
    for name in ("features", "neighbours", "graph", "Z-step", "S-step", "B-step"):
        assert name in out
    for total in ("allowed per worker", "client", "disk", "network per iteration", "tasks", "time"):
        assert total in out


def test_json_holds_the_plan_its_costs_and_rates(capsys):
    record = json.loads(planned(capsys, "--json", "--bits", "128", "--rates.read", "7e8"))
    expected = make_plan(50_000, {"image": 64, "text": 48}, build_config({"bits": 128}), 3, 2 << 30)
    assert record["fits"] is True
    assert record["disk"] == dict(expected.disk)
    assert record["disk_bytes"] == sum(record["disk"].values())
    assert [stage["worker_bytes"] for stage in record["stages"]] == [
        stage.projected_bytes for stage in expected.stages
    ]
    assert record["rates"]["read"] == 7e8
    assert record["seconds"] > 0
    assert record["network_bytes_per_iteration"] == sum(
        stage["network_bytes"] for stage in record["stages"] if "step" in stage["name"]
    )


def test_file_of_options_gives_what_the_command_line_does_not(capsys, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("bits: 16\nmemory_limit: 3GiB\ngraph:\n  k: 4\n")
    record = json.loads(planned(capsys, "--json", "--config", str(file)))
    assert record["memory_limit"] == 3 << 30
    wider = json.loads(planned(capsys, "--json", "--config", str(file), "--bits", "24"))
    narrow = record["disk"]["codes and rows"]  # with the last chunk, which is as large as others
    assert narrow >= 50_000 * (2 + 8)
    assert wider["disk"]["codes and rows"] * (2 + 8) == narrow * (3 + 8)


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_plan_that_does_not_fit_is_shown_and_refused_with_its_numbers(capsys, json_too):
    with pytest.raises(SystemExit) as ended:
        plan.main(["--pairs", "50_000_000", "--dims", "a=512,b=512", *json_too])
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert "stage needs" in shown.err
    assert "MiB are allowed" in shown.err
    if json_too:
        assert json.loads(shown.out)["fits"] is False
    else:
        assert "neighbours" in shown.out


@pytest.mark.parametrize("text", ["image", "image=0,text=4", "a=3,a=4", "a=3", "a=x,b=3", ""])
def test_dimensions_that_cannot_be_read_are_refused(text):
    with pytest.raises(ConfigError, match="dims is"):
        plan.parse_dims(text)


def test_too_few_pairs_for_the_graph_are_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        plan.main(["--pairs", "10", "--dims", "a=4,b=4"])
    assert ended.value.code == 2
    assert "graph.k = 10" in capsys.readouterr().err


def test_disk_too_small_is_refused_with_both_numbers_and_the_largest_array():
    found = make_plan(100_000, {"image": 640, "text": 64}, build_config({}), 2, 4 << 30)
    needed = found.disk_bytes
    check_disk(found, "runs/a", needed)
    check_disk(found, "runs/a", needed - (5 << 20), 5 << 20)
    with pytest.raises(PlanError, match=r"MiB free beside 5 MiB of this run\. Free disk space"):
        check_disk(found, "runs/a", needed - (6 << 20), 5 << 20)
    with pytest.raises(PlanError) as refusal:
        check_disk(found, "runs/a", needed - 1)
    text = str(refusal.value)
    assert f"{needed / 2**20:.0f} MiB of disk" in text
    assert f"most of it for {max(found.disk, key=found.disk.__getitem__)} (" in text
    assert "runs/a has" in text


def test_training_saves_its_plan_and_refuses_a_full_disk(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    data = {g: rng.standard_normal((300, 12)).astype(np.float32) for g in ("a", "b")}
    np.savez(tmp_path / "data.npz", **data)
    store = ingest_source(tmp_path / "data.npz", tmp_path / "store.zarr")
    options = {"data": store.path, "workers": 1, "evaluate": False, "method": {"iterations": 1}}
    train_model(build_config({**options, "out": str(tmp_path / "run")}))
    saved = open_run(tmp_path / "run").plan()
    assert saved["rows"] == 300
    assert {stage["name"] for stage in saved["stages"]} >= {"features", "Z-step", "B-step"}
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(PlanError, match="MiB of disk"):
        train_model(build_config({**options, "out": str(tmp_path / "second")}))
    assert not (tmp_path / "second").exists()


def test_rates_of_this_machine_are_measured_for_every_calibrated_field(tmp_path):
    found = calibrate.measure_worker(str(tmp_path / "rates"))
    measured = {name for name in vars(Rates()) if "--calibrate" in _documented(name)}
    assert set(found) | {"task"} == measured
    assert all(np.isfinite(value) and value > 0 for value in found.values())


def _documented(name):
    """The line under a field of `Rates` in its source."""
    import inspect

    source = inspect.getsource(Rates)
    return source.split(f"    {name}:")[1].split('"""')[1]
