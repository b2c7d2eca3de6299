"""The fault matrix: data, the undisturbed run that everything is compared with, and its table.

Each cell is a test with the marker ``fault(what, outcome)``; the outcome is ``survived`` (the same
codes as the undisturbed run) or ``refused`` (the right message, exit code and time).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.faults.cluster import Processes, separate_cluster
from srch_dist.storage.feature_store import FeatureStore
from tests.helpers.faults import OPTIONS, ROWS, Clean, codes_of, table
from tests.helpers.runs import make_pairs, make_store, train_here


def pytest_configure(config):
    config.stash[_TABLE] = []


_TABLE = pytest.StashKey[list]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    marker = item.get_closest_marker("fault")
    if marker is not None and (report.when == "call" or report.skipped or report.failed):
        item.config.stash[_TABLE].append((*marker.args, report.outcome))
    return report


def pytest_terminal_summary(terminalreporter, config):
    """The table: faults tried, survived, refused properly."""
    found = config.stash[_TABLE]
    if found:
        terminalreporter.section("faults")
        for line in table(
            [(what, outcome if r == "passed" else "otherwise") for what, outcome, r in found]
        ):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("data"), 50, **make_pairs(ROWS, split=None))


@pytest.fixture(scope="session")
def clean(store, tmp_path_factory) -> Clean:
    run = train_here(store.path, tmp_path_factory.mktemp("clean") / "run", **OPTIONS).run
    with np.load(run.model) as model:
        return Clean(codes_of(run.path), {k: model[k] for k in model.files if k != "header"})


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Processes:
    """A scheduler and two workers, shared by the faults that they come through."""
    with separate_cluster(tmp_path_factory.mktemp("cluster")) as processes:
        yield processes


@pytest.fixture
def faults(cluster) -> Path:
    """Where faults of the shared cluster are armed."""
    yield cluster.faults
    for path in cluster.faults.iterdir():
        path.unlink()
