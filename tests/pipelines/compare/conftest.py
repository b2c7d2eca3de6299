"""Small data for the comparison, and an engine that runs in the test process."""

from __future__ import annotations

from contextlib import contextmanager

import dask
import numpy as np
import pytest

from pipelines.compare.baselines.protocol import FloatArray
from pipelines.compare.data import RetrievalTask, open_source
from pipelines.compare.engine import Engine
from srch_dist.runtime.cluster import Cluster
from tests.helpers.paired_data import clustered_pair, latent_pair


@pytest.fixture
def clusters() -> tuple[dict[str, FloatArray], FloatArray]:
    """160 rows in 4 well separated classes, 12 and 9 dimensions."""
    return clustered_pair(160, (12, 9), 4, noise=0.4, seed=3)


@pytest.fixture
def latent() -> dict[str, FloatArray]:
    """300 rows with 5 shared factors, 10 and 7 dimensions."""
    return latent_pair(300, (10, 7), 5, seed=5)


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """An .npz of 160 pairs in 4 noisy classes, 12 and 9 dimensions; every fifth is a query."""
    features, labels = clustered_pair(160, (12, 9), 4, noise=1.5, seed=3)
    path = tmp_path_factory.mktemp("data") / "pairs.npz"
    shifted = {g: (X + 2.0).astype(np.float32) for g, X in features.items()}
    split = (np.arange(160) % 5 == 0).astype(np.uint8)
    np.savez(path, labels=labels.astype(np.uint8), split=split, **shifted)
    return path


@pytest.fixture(scope="session")
def task(source, tmp_path_factory):
    return RetrievalTask.load(open_source(source, tmp_path_factory.mktemp("stores")))


@contextmanager
def _no_cluster(*_arguments):
    with dask.config.set(scheduler="synchronous"):
        yield Cluster(1, 2 << 30)


@pytest.fixture
def in_process(monkeypatch):
    """Run the engine without a cluster; the address of the scheduler is ignored."""
    monkeypatch.setattr("srch_dist.runtime.cluster.connect", _no_cluster)
    return "in this process"


@pytest.fixture
def engine(in_process, tmp_path):
    return Engine(in_process, tmp_path)
