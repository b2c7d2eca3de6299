"""The fault matrix: data, an undisturbed run for comparison, and the table of results.

Each cell is a test with the marker ``fault(what, outcome)``. The outcome is ``survived`` (same
codes as the undisturbed run) or ``refused`` (correct message and exit code, in time).
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from pipelines.faults.cluster import Processes, separate_cluster
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.storage import s3
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.directory import RunDirectory
from tests.helpers import killed_runs
from tests.helpers.faults import OPTIONS, ROWS, Clean, table
from tests.helpers.runs import make_pairs, make_store, train_here
from tests.helpers.s3 import DATA, s3_server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Attach the cell to the report, which may travel to another process."""
    report = yield
    marker = item.get_closest_marker("fault")
    if marker is not None and (report.when == "call" or report.skipped or report.failed):
        report.fault = list(marker.args)
    return report


def pytest_terminal_summary(terminalreporter):
    """Print the table: faults tried, survived and refused as expected."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    cells = [report for report in reports if hasattr(report, "fault")]
    found = [(*report.fault, report.outcome) for report in cells]
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
    return Clean.of(train_here(store.path, tmp_path_factory.mktemp("clean") / "run", **OPTIONS).run)


@pytest.fixture(scope="session")
def small_store(tmp_path_factory) -> FeatureStore:
    """The data of runs that are killed in the test process."""
    return make_store(tmp_path_factory.mktemp("data"), 25, **make_pairs())


@pytest.fixture(scope="session")
def small_clean(small_store, tmp_path_factory) -> Clean:
    """An undisturbed run on the small store."""
    out = tmp_path_factory.mktemp("clean") / "run"
    return Clean.of(train_here(small_store.path, out, **killed_runs.OPTIONS).run)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Processes:
    """A scheduler and two workers, shared by all faults that they survive."""
    with separate_cluster(tmp_path_factory.mktemp("cluster")) as processes:
        yield processes


@pytest.fixture
def faults(cluster) -> Path:
    """Folder in which faults of the shared cluster are armed."""
    yield cluster.faults
    for path in cluster.faults.iterdir():
        path.unlink()


@pytest.fixture(scope="module")
def server(store, tmp_path_factory):
    """A server with the store of the undisturbed run at DATA."""
    with s3_server(tmp_path_factory.mktemp("s3")) as running, pytest.MonkeyPatch.context() as patch:
        running.use(patch)
        source = Path(store.path).parent / "pairs.npz"
        ingest_source(source, DATA, rows_per_chunk=store.rows_per_chunk)
        yield running


@pytest.fixture
def s3_environment(server, monkeypatch):
    server.use(monkeypatch)
    monkeypatch.setattr(s3, "RETRY_SECONDS", 30)
    yield monkeypatch
    for name in ("throttle", "die"):
        (server.folder / name).unlink(missing_ok=True)


@pytest.fixture
def kill_at(monkeypatch):
    """A function that ends the next run at the ``call``-th call of a method or function."""

    def arm(owner, name: str, call: int, after: bool = False):
        real, calls = getattr(owner, name), Counter()

        def counted(*arguments, **options):
            calls[name] += 1
            if calls[name] == call and not after:
                raise killed_runs.Killed
            result = real(*arguments, **options)
            if calls[name] == call:
                raise killed_runs.Killed
            return result

        monkeypatch.setattr(owner, name, counted)

    yield arm
    monkeypatch.undo()


@pytest.fixture(scope="session")
def killed(small_store, tmp_path_factory) -> Path:
    """A run on the small store that was killed after its first iteration."""
    out, real = tmp_path_factory.mktemp("killed") / "run", RunDirectory.commit

    def commit(*arguments):
        real(*arguments)
        raise killed_runs.Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDirectory, "commit", commit)
        with pytest.raises(killed_runs.Killed):
            train_here(small_store.path, out, **killed_runs.OPTIONS)
    return out


@pytest.fixture
def interrupted(killed, tmp_path) -> Path:
    """A copy of the killed run."""
    return shutil.copytree(killed, tmp_path / "run")
