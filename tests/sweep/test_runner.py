"""Sweeps: codes of single runs, one graph for all, refusals before any work, resume."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from srch_dist.cli.progress import on_console
from srch_dist.config.loading import build_config
from srch_dist.errors import ConfigError, InputError, PlanError, StorageError, TrainingError
from srch_dist.storage.locations import stored_bytes
from srch_dist.sweep import runner
from srch_dist.sweep.grid import combine, parse_grid
from srch_dist.sweep.results import results_table
from srch_dist.train import pipeline, reuse, setup
from tests.helpers.runs import make_pairs, make_store, train_here
from tests.helpers.sweeps import OPTIONS, codes, sweep

pytestmark = pytest.mark.cluster


def test_every_run_has_the_codes_of_a_single_run(store, tmp_path):
    rows = sweep(store.path, tmp_path / "s", ["bits=8,16", "graph.k=4,6", "method.beta=0.3,3"])
    assert len(rows) == 8
    for bits, k, beta in product((8, 16), (4, 6), (0.3, 3.0)):
        run = tmp_path / "s" / "runs" / f"bits={bits},graph.k={k},method.beta={beta}"
        options = {**OPTIONS, "bits": bits, "graph": {"k": k}}
        options["method"] = {**OPTIONS["method"], "beta": beta}
        alone = train_here(store.path, tmp_path / run.name, **options)
        np.testing.assert_array_equal(codes(run), codes(alone.run.path))
        (row,) = [
            row
            for row in rows
            if (row["bits"], row["graph.k"], row["method.beta"]) == (bits, k, beta)
        ]
        found = alone.evaluation["map"]
        assert row["map"] == pytest.approx(np.mean(list(found.values())), abs=1e-12)
        assert row["map_image_to_text"] == found["image_to_text"]
        assert row["effective_bits"] == alone.run.summary()["condensed"]["effective_bits"]


def test_runs_with_other_bits_share_the_graph_but_not_the_first_codes(store, tmp_path, made):
    rows = sweep(store.path, tmp_path / "s", ["bits=8,16", "method.lam=1,10"], "paper")
    assert made == {"set_graph": 1, "prepare_features": 2, "load_graph": 4}
    for bits, lam in product((8, 16), (1.0, 10.0)):
        options = {**OPTIONS, "bits": bits, "method": {**OPTIONS["method"], "lam": lam}}
        alone = train_here(store.path, tmp_path / f"{bits}-{lam}", "paper", **options)
        run = tmp_path / "s" / "runs" / f"bits={bits},method.lam={lam}"
        np.testing.assert_array_equal(codes(run), codes(alone.run.path))
    assert [(row["bits"], row["method.lam"]) for row in rows] == [
        (8, 1),
        (8, 10),
        (16, 1),
        (16, 10),
    ]


def test_each_graph_is_built_once_and_removed(store, tmp_path, made):
    sweep(store.path, tmp_path / "s", ["method.beta=0.3,1,3", "graph.k=4,6", "bits=8,16"])
    assert made == {"set_graph": 2, "prepare_features": 2, "load_graph": 6}
    assert {path.name for path in (tmp_path / "s").iterdir()} == {
        "results",
        "results.csv",
        "results.json",
        "runs",
        "sweep.png",
    }
    for run in (tmp_path / "s" / "runs").iterdir():
        assert not (run / "work").exists()
        assert not [path for path in run.rglob("*") if path.is_symlink()]


def test_a_larger_grid_reuses_kept_work(store, tmp_path, made):
    sweep(store.path, tmp_path / "s", ["bits=8"], keep_work=True)
    rows = sweep(store.path, tmp_path / "s", ["bits=8,16"], keep_work=True)
    assert made == {"set_graph": 1, "prepare_features": 1, "load_graph": 1}
    assert [row["bits"] for row in rows] == [8, 16]


@pytest.mark.parametrize("stop", ["graph", "loop", "between"])
def test_an_interrupted_sweep_resumes(store, tmp_path, monkeypatch, made, stop):
    grid = ["bits=8,16", "method.beta=0.3,3"]
    whole = sweep(store.path, tmp_path / "whole", grid, "paper")
    for name in made:
        made[name] = 0
    module, name, calls = {
        "graph": (reuse, "_link", 3),  # while the links to the graph are made
        "loop": (pipeline, "fit_final_model", 2),
        "between": (runner, "_prepare", 2),
    }[stop]
    inner, left = getattr(module, name), [calls]

    def interrupted(*arguments):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return inner(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep(store.path, tmp_path / "s", grid, "paper")
    rows = sweep(store.path, tmp_path / "s", grid, "paper")
    assert (made["set_graph"], made["prepare_features"]) == (1, 2)
    for run in (tmp_path / "whole" / "runs").iterdir():
        np.testing.assert_array_equal(codes(tmp_path / "s" / "runs" / run.name), codes(run))
    assert [row["map"] for row in rows] == [row["map"] for row in whole]
    made["load_graph"] = 0
    assert sweep(store.path, tmp_path / "s", grid, "paper") == rows
    assert made["load_graph"] == 0


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ([], "needs --grid"),
        (["bits"], "Write an option and its values"),
        (["bits=16,"], "Write an option and its values"),
        (["bits=[8]"], "Write an option and its values"),
        (["bits=16,12"], r"the grid's run bits=12.*multiple of 8"),
        (["bits=16", "bits=8"], "--grid has bits twice"),
        (["bits=8,8"], "has the run bits=8 twice"),
        (["method.beta=1,1.0"], "has the run method.beta=1.0 twice"),
        (["method.bata=1"], "did you mean method.beta"),
        (["workers=1,2"], "not an option that changes codes"),
        (["preset=paper,balanced"], "not an option that changes codes"),
        (["graph=5"], "not an option"),
        (["graph.leaves=9,30"], "graph.leaves_max"),
        (["method.directions=0,1"], "all bits would be equal"),
    ],
)
def test_a_broken_grid_is_refused_before_any_work(store, tmp_path, grid, words):
    with pytest.raises(ConfigError, match=words):
        sweep(store.path, tmp_path / "s", grid)
    assert not (tmp_path / "s").exists()


def test_a_combination_that_does_not_fit_the_data_or_the_memory_is_refused_early(
    store, tmp_path, made
):
    with pytest.raises(InputError, match=r"graph\.k=80: .* rows to train on"):
        sweep(store.path, tmp_path / "s", ["graph.k=5,80"])
    assert not (tmp_path / "s").exists()
    with pytest.raises(PlanError, match="the grid's run bits=4096"):
        sweep(store.path, tmp_path / "s", ["bits=8,4096"], "paper", memory_limit="1200MiB")
    assert made == {"set_graph": 0, "prepare_features": 0, "load_graph": 0}


def test_other_options_or_data_in_the_same_folder_are_refused(store, tmp_path):
    sweep(store.path, tmp_path / "s", ["bits=8"])
    with pytest.raises(ConfigError, match=r"holds bits=8 with other options: method\.lam"):
        sweep(store.path, tmp_path / "s", ["bits=8,16"], method={"iterations": 4, "lam": 3})
    other = make_store(tmp_path / "other", 25, **make_pairs(seed=1))
    with pytest.raises(InputError, match="with other data"):
        sweep(other.path, tmp_path / "s", ["bits=8"])
    with pytest.raises(StorageError, match="s3"):
        sweep(store.path, "s3://bucket/sweep", ["bits=8"])


def test_a_combination_that_fails_is_a_row_with_an_error(store, tmp_path, monkeypatch):
    inner = pipeline.fit_final_model

    def failing(job, *arguments):
        if job.config.method.lam == 3:
            raise TrainingError("the codes collapsed")
        return inner(job, *arguments)

    monkeypatch.setattr(pipeline, "fit_final_model", failing)
    rows = sweep(store.path, tmp_path / "s", ["method.lam=1,3,10"])
    assert [row["error"] for row in rows] == [None, "the codes collapsed", None]
    assert [row["map"] is None for row in rows] == [False, True, False]
    console = Console(width=150)
    with console.capture() as text:
        console.print(results_table(["method.lam"], rows))
    assert "the codes collapsed" in text.get()


def test_table_and_plot_show_the_results_of_the_runs(store, tmp_path):
    rows = sweep(store.path, tmp_path / "s", ["bits=8,16", "method.alpha=median,0.1"])
    record = json.loads((tmp_path / "s" / "results.json").read_text())
    assert record == {"options": ["bits", "method.alpha"], "rows": rows}
    with (tmp_path / "s" / "results.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [(row["bits"], row["method.alpha"]) for row in read] == [
        ("8", "median"),
        ("8", "0.1"),
        ("16", "median"),
        ("16", "0.1"),
    ]
    assert [float(row["map"]) for row in read] == [row["map"] for row in rows]
    picture = imread(tmp_path / "s" / "sweep.png")
    height, width = picture.shape[:2]
    assert (height, width) == (600, 1350)  # two panels
    for panel in (picture[:, : width // 2], picture[:, width // 2 :]):
        assert len(np.unique(panel.reshape(-1, panel.shape[2]), axis=0)) > 50  # lines are drawn


def test_without_labels_and_without_queries_there_are_fewer_scores(tmp_path):
    data = make_store(tmp_path / "a", 25, **make_pairs(labels=None))
    (row,) = sweep(data.path, tmp_path / "s", ["bits=8"])
    assert row["map"] is None
    assert 0 < row["pair_recall_10"] < 1
    assert (tmp_path / "s" / "sweep.png").exists()
    data = make_store(tmp_path / "b", 25, **make_pairs(split=None))
    (row,) = sweep(data.path, tmp_path / "t", ["bits=8"])
    assert (row["map"], row["pair_recall_10"], row["error"]) == (None, None, None)
    assert not (tmp_path / "t" / "sweep.png").exists()


def test_labels_do_not_change_the_codes(store, tmp_path):
    sweep(store.path, tmp_path / "s", ["bits=8", "method.beta=0.3,3"])
    data = make_store(tmp_path / "data", 25, **make_pairs(labels=None))
    sweep(data.path, tmp_path / "t", ["bits=8", "method.beta=0.3,3"])
    for run in (tmp_path / "s" / "runs").iterdir():
        np.testing.assert_array_equal(codes(run), codes(tmp_path / "t" / "runs" / run.name))


def test_without_matplotlib_a_log_line_replaces_the_plot(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    console = Console(width=200, file=(tmp_path / "log").open("w"))
    config = build_config({"data": str(store.path), **OPTIONS})
    runner.sweep_options(config, {"bits": [8]}, tmp_path / "s", on_console(console))
    assert "sweep.png: not drawn" in (tmp_path / "log").read_text()
    assert "srch-dist[report]" in (tmp_path / "log").read_text()
    assert (tmp_path / "s" / "results.csv").exists()


def test_grid_values_have_the_types_of_the_configuration():
    grid = parse_grid(["method.alpha=median,1e-4", "method.rotate=off,true", "bits=8"])
    found = [dict(one.values) for one in combine(build_config({}), grid)]
    assert found[0] == {"method.alpha": "median", "method.rotate": False, "bits": 8}
    assert found[-1] == {"method.alpha": 1e-4, "method.rotate": True, "bits": 8}
    coarse = combine(build_config({}), parse_grid(["solver.coarse=off,on"]))
    assert [one.config.solver.coarse for one in coarse] == ["off", "on"]


def test_the_command_trains_on_workers_prints_a_table_and_resumes(store, tmp_path):
    line = [sys.executable, "-m", "srch_dist", "sweep", store.path, "--out", "s"]
    line += ["--grid", "bits=8,16", "--grid", "graph.k=4,5", "--workers", "2"]
    line += ["--method.iterations", "3", "--memory-limit", "1GiB"]

    def run(*more):
        return subprocess.run(
            [*line, *more], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert [text in done.stdout for text in ("graph.k", "MAP", "sweep: s")] == [True] * 3
    assert done.stderr.count("of 2 with this graph") == 4
    assert "plan:" not in done.stderr
    again = run()
    assert again.returncode == 0, again.stderr
    assert (again.stdout, again.stderr) == (done.stdout, "")
    refused = run("--grid", "bits=9")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: --grid has bits twice. Write all its values in one --grid.\n"


def test_reused_folders_do_not_count_as_needed_disk(store, tmp_path, monkeypatch):
    known = {}

    def check(_plan, folder, _free, stored):
        made = list((tmp_path / "s" / "prepared").glob("*/work/features"))
        others = [path for one in made for path in one.parent.iterdir() if path != one]
        known[Path(folder)] = stored, stored_bytes(*others), stored_bytes(*made)

    monkeypatch.setattr(setup, "check_disk", check)
    method = {**OPTIONS["method"], "directions": 0}
    sweep(store.path, tmp_path / "s", ["bits=8,16"], method=method)
    # All runs reuse the first graph; a run with other bits also writes features of its own.
    first, run, second, other = known.values()
    assert first[0] < 10_000
    assert second[1] <= second[0] < second[1] + second[2]
    assert run[0] >= run[1] + run[2] > 10_000
    assert other[0] > second[0]


def test_a_sweep_that_lost_its_lock_keeps_the_base_runs(store, tmp_path, monkeypatch):
    checks = []

    class Lost:
        def check(self):
            checks.append(None)
            if len(checks) == 2:
                raise StorageError("taken over by another run")

    @contextmanager
    def hold(_folder):
        yield Lost()

    monkeypatch.setattr(runner, "hold_lock", hold)
    with pytest.raises(StorageError, match="taken over"):
        sweep(store.path, tmp_path / "s", ["method.beta=0.3"])
    assert len(checks) == 2
    assert len(list((tmp_path / "s" / "prepared").glob("*/work/graph"))) == 1
