"""Train SRCH with srch_dist: one run per call, on a cluster that all runs share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import distributed

import srch_dist
from srch_dist.kernels.packed_codes import unpack_codes
from srch_dist.kernels.types import Codes
from srch_dist.storage import arrays

from .data import RetrievalTask
from .scoring import Measures, score_codes


@dataclass(frozen=True)
class Engine:
    """A cluster, and a folder for temporary runs.

    Attributes
    ----------
    scheduler : str
        Address of a Dask scheduler.
    scratch : Path
        Folder for run directories and ingested stores.
    """

    scheduler: str
    scratch: Path

    def train(self, task: RetrievalTask, values: Mapping[str, Any]) -> EngineRun:
        """Train and evaluate once, then delete the run directory.

        Parameters
        ----------
        task : RetrievalTask
        values : mapping
            Options of the run, nested as in a YAML file.

        Raises
        ------
        SrchError
            The engine refused the run, for example because the codes collapsed.
        """
        folder = Path(tempfile.mkdtemp(dir=self.scratch)) / "run"
        try:
            paths = {"data": task.store.path, "out": str(folder), "scheduler": self.scheduler}
            outputs = {"evaluate": True, "baseline": False, "report": False}
            config = srch_dist.build_config({**values, **paths, **outputs})
            trained = srch_dist.train_model(config)
            assert trained.evaluation is not None, "a task has queries"
            maps = trained.evaluation["map"]
            model = srch_dist.load_model(folder)
            scores = score_codes(task, _encode(task, model))
            scores["map"] = [maps[f"{g}_to_{h}"] for g, h in task.directions]
            summary = trained.run.summary()
            codes = unpack_codes(arrays.read_rows(trained.run.codes))
            return EngineRun(scores, codes, summary, config.method.encoder)
        finally:
            shutil.rmtree(folder.parent, ignore_errors=True)


@dataclass(frozen=True)
class EngineRun:
    """Results of a run.

    Attributes
    ----------
    scores : dict
        MAP of both directions: ``map`` from the engine's evaluation, ``unseen`` from `score_codes`.
    codes : array (n, l)
        Learned codes, -1 and +1.
    summary : mapping
        Stages and sizes, as in ``run.json``.
    encoder : str
        The option method.encoder.
    """

    scores: Measures
    codes: Codes
    summary: Mapping[str, Any]
    encoder: str

    @property
    def fit_seconds(self) -> float:
        """Training seconds, from features to model; without evaluation."""
        return float(sum(self.summary["seconds"].values()))

    @property
    def peak_bytes(self) -> int:
        """Peak resident memory of a worker since it started, interpreter and libraries included."""
        memory = self.summary["peak_memory"]
        return int(memory.get("worker", memory["client"]))


@contextmanager
def open_engine(workers: int, scheduler: str | None = None) -> Iterator[Engine]:
    """Open an engine on the cluster of ``scheduler``, or on a local cluster by default."""
    with tempfile.TemporaryDirectory(prefix="compare-") as name:
        scratch = Path(name)
        if scheduler is not None:
            yield Engine(scheduler, scratch)
            return
        with distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            local_directory=str(scratch / "workers"),
        ) as cluster:
            yield Engine(cluster.scheduler_address, scratch)


def _encode(task: RetrievalTask, model: srch_dist.Model) -> dict[str, dict[str, Any]]:
    """Packed codes by side and modality, encoded from the stored features."""
    return {
        side: {
            g: srch_dist.encode_rows(model, g, task.store.read_selected(g, rows))
            for g in task.store.modalities
        }
        for side, rows in task.rows.items()
    }
