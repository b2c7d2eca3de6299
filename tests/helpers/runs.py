"""Complete runs in the test process: data, stores, and training without a cluster."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path

import dask
import dask.utils
import numpy as np
import pytest
import zarr

from srch_dist.config.loading import build_config
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.runtime.cluster import Cluster
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.train.runner import Trained, train_model

ROWS, DIMS = 90, {"image": 20, "text": 12}


def make_pairs(rows: int = ROWS, seed: int = 0, **others) -> dict[str, np.ndarray]:
    """Noisy views of four classes, with labels and split.

    ``others`` add or replace arrays by name; None removes one.
    """
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, 10))
    hidden[np.arange(rows), np.arange(rows) % 4] += 2
    arrays = {
        g: (hidden @ rng.normal(size=(10, d)) + 0.5 * rng.normal(size=(rows, d))).astype(np.float32)
        for g, d in DIMS.items()
    }
    arrays["labels"] = np.eye(4, dtype=np.uint8)[np.arange(rows) % 4]
    arrays["split"] = (rng.random(rows) < 0.3).astype(np.uint8)
    return {name: values for name, values in {**arrays, **others}.items() if values is not None}


def make_store(folder: Path, rows_per_chunk: int | None = None, **arrays) -> FeatureStore:
    """Ingest arrays into a feature store in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "pairs.npz", **arrays)
    return ingest_source(folder / "pairs.npz", folder / "pairs.zarr", rows_per_chunk=rows_per_chunk)


@contextmanager
def no_cluster(
    _scheduler=None,
    workers=None,
    memory_limit=None,
    _progress=None,
    _demands=None,
    _tls=None,
):
    """Replacement for `connect`: equal cluster facts for the plan, tasks in the test process."""
    with dask.config.set(scheduler="synchronous"):
        yield Cluster(workers or 2, dask.utils.parse_bytes(memory_limit or "2GiB"))


def train_here(data: str | Path, out: Path, preset: str | None = None, **options) -> Trained:
    """`train_model` without a cluster; by default also without baseline and page."""
    quick = {"bits": 16, "graph": {"k": 5}, "baseline": False, "report": False}
    values = {**quick, "data": str(data), "out": str(out), **options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("srch_dist.runtime.cluster.connect", no_cluster)
        return train_model(build_config(values, preset))


def exchange_chunk(array: str | Path, other: str | Path, chunk: int = 1) -> None:
    """Replace a chunk of rows of an array by the intact one of another array."""
    columns = zarr.open_array(str(array), mode="r").ndim - 1
    place = Path("c", str(chunk), *["0"] * columns)
    assert (Path(array) / place).read_bytes() != (Path(other) / place).read_bytes()
    shutil.copy(Path(other) / place, Path(array) / place)
