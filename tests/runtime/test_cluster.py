"""Running clusters: how they are found, what is asked of their workers, and workers that change."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time

import dask
import distributed
import numpy as np
import pytest
from distributed.diagnostics.plugin import SchedulerPlugin

from srch_dist.config.loading import build_config
from srch_dist.config.options import ClusterOptions, TlsConfig
from srch_dist.errors import ClusterError, ConfigError
from srch_dist.runtime import cluster as cluster_module
from srch_dist.runtime.cluster import ClusterRequirements, connect, connect_for
from srch_dist.runtime.preflight import PACKAGES, check_readable, check_shared, check_workers
from srch_dist.runtime.progress import silent
from srch_dist.runtime.tls import Tls
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.train.runner import train_model
from tests.helpers.processes import dask as dask_command
from tests.helpers.processes import processes
from tests.helpers.runs import make_pairs, make_store, train_here

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def empty_scheduler(tmp_path_factory):
    """A scheduler in this process without any worker."""
    scratch = str(tmp_path_factory.mktemp("scratch"))
    with (
        dask.config.set({"temporary-directory": scratch}),
        distributed.LocalCluster(
            n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
        ) as cluster,
    ):
        yield cluster


def refusal(*arguments, **options) -> str:
    with pytest.raises(ClusterError) as caught, connect(*arguments, **options):
        pass
    return str(caught.value)


def test_too_few_workers_are_waited_for_and_then_counted(empty_scheduler):
    start = time.monotonic()
    text = refusal(empty_scheduler.scheduler_address, demands=ClusterRequirements(3, 0.5))
    assert 0.5 <= time.monotonic() - start < 60
    assert "0 workers joined tcp://127.0.0.1" in text
    assert "3 are needed (--workers-min" in text


def test_workers_that_are_paused_are_said_to_be(tmp_path):
    with (
        dask.config.set({"temporary-directory": str(tmp_path)}),
        distributed.LocalCluster(
            n_workers=1, processes=False, protocol="tcp", host="127.0.0.1",
            dashboard_address=None, memory_limit="1MiB",
        ) as cluster,
    ):  # fmt: skip
        limit = time.monotonic() + 60
        while {w.status.name for w in cluster.workers.values()} != {"paused"}:
            assert time.monotonic() < limit
            time.sleep(0.1)
        text = refusal(cluster.scheduler_address, demands=ClusterRequirements(1, 0.5))
    assert "0 workers joined" in text
    assert ". Paused workers, whose memory is nearly full: 1" in text


def test_a_scheduler_that_is_not_there_is_given_up_on_in_time():
    start = time.monotonic()
    text = refusal("tcp://127.0.0.1:9", demands=ClusterRequirements(1, 1))
    assert time.monotonic() - start < 30
    assert "no Dask scheduler answers at tcp://127.0.0.1:9 within 1 s" in text


def test_tls_without_certificates_says_what_is_needed(empty_scheduler):
    address = empty_scheduler.scheduler_address.replace("tcp://", "tls://")
    assert "needs certificates" in refusal(address, demands=ClusterRequirements(1, 1))


@pytest.mark.parametrize("content", [None, "", '{"address": ', "[1]", '{"id": 1}'])
def test_what_is_neither_address_nor_scheduler_file_is_named(tmp_path, content):
    path = tmp_path / "scheduler.json"
    if content is not None:
        path.write_text(content)
    text = refusal(str(path), demands=ClusterRequirements(1, 0))
    assert str(path) in text
    assert "scheduler file" in text


def test_a_scheduler_file_is_waited_for_until_it_is_whole(empty_scheduler, tmp_path):
    path = tmp_path / "scheduler.json"
    path.write_text('{"addr')
    whole = json.dumps({"address": empty_scheduler.scheduler_address})
    writer = threading.Timer(1.0, path.write_text, [whole])
    writer.start()
    text = refusal(str(path), demands=ClusterRequirements(1, 2))
    writer.join()
    assert f"0 workers joined {empty_scheduler.scheduler_address}" in text


def test_the_variable_of_dask_names_the_scheduler_where_no_option_does(empty_scheduler):
    address = empty_scheduler.scheduler_address
    assert dask.config.collect_env({"DASK_SCHEDULER_ADDRESS": address}) == {
        "scheduler_address": address
    }
    with dask.config.set(scheduler_address=address):
        assert f"joined {address}" in refusal(demands=ClusterRequirements(1, 0.2))
        # The option comes first.
        assert "tcp://127.0.0.1:9 " in refusal(
            "tcp://127.0.0.1:9", demands=ClusterRequirements(1, 1)
        )


def test_options_of_a_command_become_a_connection(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "connect", lambda *arguments: arguments)
    shown, reads, writes = silent(), (tmp_path / "data",), (tmp_path / "out",)
    files = TlsConfig("ca.pem", "cert.pem", "key.pem")
    where = {"scheduler": "tls://host:8786", "workers": 3, "memory_limit": "4GiB"}
    options = ClusterOptions(**where, tls=files)
    assert connect_for(options, shown, reads, writes) == (
        *where.values(),
        shown,
        ClusterRequirements(1, 60.0, reads, writes),
        Tls("ca.pem", "cert.pem", "key.pem"),
    )
    config = build_config({**where, "workers_min": 2, "workers_wait": 5})
    assert connect_for(config, shown, reads) == (
        *where.values(),
        shown,
        ClusterRequirements(2, 5.0, reads),
        None,
    )
    with pytest.raises(ConfigError, match=r"tls\.ca, tls\.cert and tls\.key"):
        connect_for(ClusterOptions(tls=TlsConfig(ca="ca.pem")), shown)


def _own_mounts(folder) -> list[str]:
    """A prefix under which ``folder`` is another, empty one; skips where that is not permitted."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounts of a process's own are not permitted: {done.stderr.strip()}")
    script = f'mount -t tmpfs none "{folder}" && exec "$@"'
    return ["unshare", "-m", "sh", "-c", script, "sh"]


@pytest.fixture(scope="module")
def odd_cluster(tmp_path_factory):
    """A worker like this process, and one with another numpy, two threads and its own disk."""
    folder = tmp_path_factory.mktemp("odd")
    shared = folder / "shared"
    shared.mkdir()
    prefix = _own_mounts(shared)
    other = folder / "other" / "numpy-9.9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 9.9.9\n")
    with processes(folder) as started:
        file = folder / "scheduler.json"
        common = ("--no-dashboard", "--host", "127.0.0.1")
        started.start(
            "scheduler", dask_command("scheduler", "--port", 0, "--scheduler-file", file, *common)
        )
        started.await_true(file.exists, "scheduler file")
        worker = ("worker", "--scheduler-file", file, "--no-nanny", *common)
        started.start("like", dask_command(*worker, "--nthreads", 1, "--name", "like"))
        path = os.pathsep.join([str(other.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        started.start(
            "odd",
            dask_command(*worker, "--nthreads", 2, "--name", "odd"),
            {"PYTHONPATH": path},
            prefix,
        )
        with distributed.Client(scheduler_file=str(file), timeout=60) as client:
            client.wait_for_workers(2, 120)
            found = client.scheduler_info(n_workers=-1)["workers"]
            names = {worker["name"]: address for address, worker in found.items()}
            yield client, names, shared, file


def test_a_worker_with_other_versions_or_threads_is_named_before_any_work(odd_cluster):
    _, names, _, file = odd_cluster
    text = refusal(str(file), demands=ClusterRequirements(2, 30))
    assert text.startswith("1 workers do not run the same software as this command: ")
    assert f"{names['odd']}: numpy 9.9.9 (this command: {np.__version__}), 2 threads" in text
    assert names["like"] not in text


def test_a_worker_that_does_not_see_the_store_is_named(odd_cluster):
    client, names, shared, _ = odd_cluster
    store = make_store(shared / "data", **make_pairs())
    with pytest.raises(ClusterError) as caught:
        check_readable(client, store.path)
    assert str(caught.value).startswith(f"1 workers do not see {store.path}: {names['odd']}: ")
    assert "mount" in str(caught.value)


def test_a_worker_that_does_not_share_the_run_directory_is_named_and_nothing_is_left(odd_cluster):
    client, names, shared, _ = odd_cluster
    folder = shared / "run"
    folder.mkdir()
    with pytest.raises(ClusterError) as caught:
        check_shared(client, folder)
    assert str(caught.value).startswith(f"1 workers cannot write {folder}: {names['odd']}: ")
    assert list(folder.iterdir()) == []


def test_folders_that_all_share_pass(odd_cluster, tmp_path):
    client, _, _, _ = odd_cluster
    check_shared(client, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_workers_of_this_environment_pass(odd_cluster):
    client, names, _, _ = odd_cluster

    class Some:
        """The client, with the worker that is like us alone."""

        def run(self, *arguments, **options):
            return client.run(*arguments, **{**options, "workers": [names["like"]]})

        def get_versions(self, **options):
            found = client.get_versions(**options)
            return {**found, "workers": {names["like"]: found["workers"][names["like"]]}}

        def scheduler_info(self, **options):
            info = client.scheduler_info(**options)
            return {"workers": {names["like"]: info["workers"][names["like"]]}}

    check_workers(Some())


def test_a_worker_without_a_package_is_named():
    names = ("python", *PACKAGES)
    here = dict.fromkeys(names, "1.2.3")
    there = {"tcp://1": here, "tcp://2": {**here, "python": "1.2.9", "zarr": None}}

    class Client:
        def get_versions(self, packages):
            assert packages == PACKAGES
            workers = {address: {"packages": found} for address, found in there.items()}
            return {"client": {"packages": here}, "workers": workers}

        def scheduler_info(self, **_):
            return {"workers": {address: {"nthreads": 1} for address in there}}

    message = r"1 workers .*: tcp://2: without zarr \(this command: 1.2.3\);"
    with pytest.raises(ClusterError, match=message):
        check_workers(Client())


@pytest.mark.parametrize("there", [True, False])
def test_a_worker_that_leaves_while_it_is_asked_is_no_reason_to_refuse(tmp_path, there):
    store = make_store(tmp_path / "data", **make_pairs())

    class Leaving:
        def run(self, function, *arguments, **_):
            return {"tcp://1": function(*arguments), "tcp://2": OSError("closed")}

        def scheduler_info(self, **_):
            return {"workers": dict.fromkeys(["tcp://1", "tcp://2"] if there else ["tcp://1"])}

    if there:
        with pytest.raises(
            ClusterError, match=r"1 workers do not see .*: tcp://2: OSError: closed"
        ):
            check_readable(Leaving(), store.path)
    else:
        check_readable(Leaving(), store.path)


class _Done(SchedulerPlugin):
    """Tasks that each worker finished."""

    def __init__(self):
        self.by_worker = {}

    def transition(self, key, start, finish, *args, worker=None, **kwargs):  # noqa: ARG002
        if start == "processing" and finish == "memory":
            self.by_worker[worker] = self.by_worker.get(worker, 0) + 1


def test_codes_are_the_same_where_a_worker_joins_and_one_leaves_during_the_run(
    tmp_path, monkeypatch
):
    store = make_store(tmp_path / "data", 25, **make_pairs())
    options = {"method": {"iterations": 4, "threshold": 0.0}, "partition_rows": 20}
    alone = train_here(store.path, tmp_path / "alone", **options)
    done = _Done()
    with (
        dask.config.set({"temporary-directory": str(tmp_path / "scratch")}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1",
            # They are this process, whose size is that of all tests before: a limit pauses them.
            dashboard_address=None, memory_limit=0,
        ) as cluster,
    ):  # fmt: skip
        cluster.scheduler.add_plugin(done)
        first, leaver = list(cluster.scheduler.workers)
        came = []

        def change(run, record):
            append(run, record)
            client = distributed.default_client()
            if len(run.history()) == 1:
                cluster.scale(3)
                client.wait_for_workers(3, 120)
                came.extend(set(cluster.scheduler.workers) - {first, leaver})
            if len(run.history()) == 2:
                client.retire_workers([leaver])
                done.at_leave = done.by_worker.get(leaver, 0)

        append = RunDirectory.append_history
        monkeypatch.setattr(RunDirectory, "append_history", change)
        values = {"data": str(store.path), "out": str(tmp_path / "run"), "bits": 16}
        values |= {"graph": {"k": 5}, "scheduler": cluster.scheduler_address, **options}
        changed = train_model(build_config(values))
    assert len(changed.run.history()) >= 4
    assert done.by_worker[came[0]] > 0  # the one that came has worked
    assert done.by_worker[leaver] == done.at_leave > 0  # the one that left no more
    for path in ("codes", "rows"):
        np.testing.assert_array_equal(
            arrays.read_rows(getattr(changed.run, path)), arrays.read_rows(getattr(alone.run, path))
        )


def test_the_command_refuses_with_code_2_and_leaves_no_run_directory(tmp_path):
    command = [sys.executable, "-m", "srch_dist.train", "--out", "run", "--workers-wait", "1"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9 within 1 s" in done.stderr
    assert not (tmp_path / "run").exists()
