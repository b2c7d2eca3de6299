"""Small runs that are killed in the test process, resumed, and compared with an undisturbed one."""

from __future__ import annotations

import json
from pathlib import Path

from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.train.runner import Trained
from tests.helpers.faults import Clean
from tests.helpers.runs import train_here

OPTIONS = {
    "partition_rows": 20,
    "blocks": 2,
    "columns": 8,
    "evaluate": False,
    "solver": {"tolerance": 1e-6},
    "method": {"iterations": 3, "threshold": 0.0, "loop_bits": 16, "anchors": 20},
}


class Killed(BaseException):
    """Simulates the end of the process; no code of the project catches it."""


def resume(store: FeatureStore, out: Path, **options) -> Trained:
    """Resume the run at ``out``, or start it, with OPTIONS."""
    return train_here(store.path, out, resume=True, **{**OPTIONS, **options})


def assert_resumed(out: Path, clean: Clean) -> None:
    """Assert that the run at ``out`` finished its three iterations with the same results."""
    clean.assert_same(out)
    assert json.loads((out / "run.json").read_text())["finished"] is True
    assert len(RunDirectory(out).history()) == 3
