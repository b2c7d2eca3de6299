"""Fixtures of the numeric tests: runs without a cluster, and parts of them read back dense."""

from __future__ import annotations

import dask
import numpy as np
import pytest

from srch_dist.algorithm.features.normalise import prepare_features
from srch_dist.algorithm.job import Job
from srch_dist.algorithm.neighbour_graph import set_graph
from srch_dist.cli.progress import on_console
from srch_dist.config.loading import build_config
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.runtime.progress import silent
from srch_dist.storage import arrays
from srch_dist.storage.run.open import create_run
from srch_dist.train.rows import choose_rows
from tests.helpers.plans import make_plan
from tests.helpers.prepared import PLAIN, PreparedRun, read_codes


@pytest.fixture(scope="session", autouse=True)
def _synchronous():
    """Without a client, Dask runs tasks one after another in this process."""
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture(scope="session")
def prepare(tmp_path_factory):
    """A function that takes raw features by modality and options, and prepares a run."""

    def prepared(
        data: dict[str, np.ndarray], workers: int = 1, notes: bool = False, **options
    ) -> PreparedRun:
        folder = tmp_path_factory.mktemp("run")
        np.savez(folder / "data.npz", **data)
        store = ingest_source(folder / "data.npz", folder / "store.zarr")
        method = {**PLAIN, **options.pop("method", {})}
        values = {"bits": 8, "precision": "float64", "method": method, **options}
        if options.get("preset") == "paper":
            values["method"] = {**method, "encoder": "projection"}
        config = build_config(values)
        run = create_run(folder / "run", config)
        rows, _ = choose_rows(store, config)
        plan = make_plan(len(rows), store.modalities, config, workers, 4 << 30)
        arrays.create_array(run.rows, rows.shape, plan.partition_rows, np.int64)
        arrays.write_rows(run.rows, 0, rows)
        job = Job(run, plan, config, tuple(store.modalities), on_console() if notes else silent())
        statistics = prepare_features(job, store)
        report = set_graph(job)
        return PreparedRun(job, store, statistics, report, read_codes(run, 0))

    return prepared
