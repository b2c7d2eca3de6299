"""Runs of a sweep that differ only after the loop share it: equal codes, resume, refusal."""

from __future__ import annotations

import numpy as np
import pytest

from srch_dist.algorithm.encoders.model_stage import fit_final_model
from srch_dist.config.loading import build_config
from srch_dist.errors import ConfigError
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.open import open_run
from srch_dist.train import pipeline, reuse
from tests.helpers.runs import train_here
from tests.helpers.sweeps import OPTIONS, codes, sweep

pytestmark = pytest.mark.cluster


def test_runs_that_differ_after_the_loop_share_it(store, tmp_path, made):
    rows = sweep(store.path, tmp_path / "s", ["bits=8,16", "method.encoder=anchors,ridge"])
    assert made["load_graph"] == 1
    assert len(rows) == 4
    for bits, encoder in ((8, "ridge"), (16, "anchors")):
        method = {**OPTIONS["method"], "encoder": encoder}
        options = {**OPTIONS, "bits": bits, "method": method}
        alone = train_here(store.path, tmp_path / encoder, **options).run
        shared = open_run(tmp_path / "s" / "runs" / f"bits={bits},method.encoder={encoder}")
        np.testing.assert_array_equal(codes(shared.path), codes(alone.path))
        for name in ("iteration", "objective", "changed_bits", "cg_iterations"):
            assert [r[name] for r in shared.history()] == [r[name] for r in alone.history()]


def test_a_loop_is_reused_by_a_run_that_was_interrupted_before_its_model(
    store, tmp_path, monkeypatch, made
):
    stopped = []

    def stop(*arguments):
        stopped.append(None)
        if len(stopped) == 2:
            raise KeyboardInterrupt
        return fit_final_model(*arguments)

    monkeypatch.setattr(pipeline, "fit_final_model", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep(store.path, tmp_path / "s", ["bits=8,16"])
    rows = sweep(store.path, tmp_path / "s", ["bits=8,16"])
    assert made["load_graph"] == 1
    assert [row["bits"] for row in rows] == [8, 16]
    alone = train_here(store.path, tmp_path / "alone", **{**OPTIONS, "bits": 16})
    np.testing.assert_array_equal(codes(tmp_path / "s/runs/bits=16"), codes(alone.run.path))


def test_a_loop_of_other_options_is_refused(store, tmp_path):
    first = train_here(store.path, tmp_path / "a", **OPTIONS).run
    config = build_config({"data": str(store.path), **OPTIONS, "seed": 1})
    with pytest.raises(ConfigError, match="seed is 1"):
        reuse.reuse_loop(first, RunDirectory(tmp_path / "b"), config)
