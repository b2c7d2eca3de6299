"""When a wait for a cluster ends; tests/faults has hung tasks of real workers."""

from __future__ import annotations

import time

import dask
import distributed
import pytest
from distributed.scheduler import ClientState, SchedulerState, TaskState, WorkerState

from srch_dist.errors import ClusterError, ClusterLostError
from srch_dist.runtime import watchdog
from srch_dist.runtime.watchdog import Watch, task_name

# What the watchdog reads of the scheduler's state. Dask does not document it; checked with
# distributed 2026.8.0 (pyproject.toml: distributed>=2026.8). Without a field the watchdog does not
# fail: it takes the AttributeError for a scheduler that it cannot ask, and stops looking for tasks.
READ_FIELDS = [
    (SchedulerState, "workers"),
    (WorkerState, "executing"),
    (WorkerState, "nanny"),
    (TaskState, "key"),
    (TaskState, "processing_on"),
    (TaskState, "who_wants"),
    (TaskState, "dependents"),
    (ClientState, "client_key"),
]

KEY = "_update_partition-01234567-89ab-cdef-0123-456789abcdef"


class Client:
    """A cluster as a client sees it: its workers, and those in which a task hangs."""

    status, id, scheduler = "running", "Client-1", type("Scheduler", (), {"identity": None})

    def __init__(self, workers=("tcp://1",), hung=None) -> None:
        self.workers, self.hung, self.restarted = workers, hung or {}, []
        self.ended: Exception | None = None

    def sync(self, _function, **_options):
        if self.workers is None:
            raise TimeoutError
        return {"workers": dict.fromkeys(self.workers)}

    def run_on_scheduler(self, _function, _client, _limit, callback_timeout):
        assert callback_timeout == watchdog.LOOK_SECONDS
        if isinstance(self.hung, Exception):
            raise self.hung
        return self.hung

    def restart_workers(self, workers, timeout, raise_for_error):
        assert timeout > 0
        assert not raise_for_error
        self.restarted.append(workers)
        if self.ended is not None:
            raise self.ended


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.0)
    with dask.config.set({watchdog.NO_WORKERS_TIMEOUT: "1ms", watchdog.TASK_TIMEOUT: "5s"}):
        yield


def test_task_is_named_by_its_function():
    assert task_name(KEY) == "_update_partition"
    assert task_name((KEY, 3)) == "_update_partition"


@pytest.mark.parametrize(
    ("workers", "message"), [((), "has had no workers for"), (None, "has not answered for")]
)
def test_cluster_that_is_gone_is_given_up_after_a_while(workers, message):
    looking = Watch(Client(workers))
    time.sleep(0.01)
    with pytest.raises(ClusterLostError, match=message):
        looking.look()


def test_hung_task_is_started_again_once_and_given_up_the_second_time():
    client = Client(hung={"tcp://1": (KEY, True)})
    looking = Watch(client)
    looking.look()
    assert client.restarted == [["tcp://1"]]
    client.hung = {"tcp://2": (KEY, True)}
    with pytest.raises(
        ClusterError,
        match=r"task _update_partition has run for more than 5 s in 2 workers, most "
        r"recently in tcp://2;",
    ):
        looking.look()


def test_worker_without_a_nanny_is_not_ended():
    client = Client(hung={"tcp://1": (KEY, False)})
    with pytest.raises(ClusterError, match="which has no nanny to restart it"):
        Watch(client).look()
    assert client.restarted == []


@pytest.mark.parametrize("error", [KeyError("tcp://1"), OSError(), TimeoutError()])
def test_worker_that_goes_by_itself_before_it_is_started_anew_ends_nothing(error):
    client = Client(hung={"tcp://1": (KEY, True)})
    client.ended = error
    Watch(client).look()
    assert client.restarted == [["tcp://1"]]


@pytest.mark.parametrize(
    "error", [ImportError(), AttributeError(), ValueError(), OSError(), TimeoutError()]
)
def test_scheduler_that_cannot_be_asked_is_left_alone(error):
    client = Client(hung=error)
    Watch(client).look()
    assert client.restarted == []


@pytest.mark.parametrize(("owner", "name"), READ_FIELDS)
def test_the_scheduler_has_the_fields_that_are_read(owner, name):
    assert name in owner.__annotations__, (
        f"distributed {distributed.__version__} has no {owner.__name__}.{name}, which "
        "watchdog._hung_workers reads"
    )


def _wait_for_the_end() -> bool:
    return distributed.Event("end").wait(120)


def test_a_long_task_is_found_for_the_client_that_waits_for_what_depends_on_it():
    with distributed.Client(processes=False, n_workers=1, dashboard_address=":0") as client:
        try:
            slow = client.submit(_wait_for_the_end, key=KEY)
            result = client.submit(bool, slow)
            del slow  # the client now waits for the dependent task alone
            limit = time.monotonic() + 60
            found: dict = {}
            while not found:
                assert time.monotonic() < limit
                time.sleep(0.1)
                found = client.run_on_scheduler(watchdog._hung_workers, client.id, 0.5)
            (address,) = client.scheduler_info()["workers"]
            assert found == {address: (KEY, False)}
            assert client.run_on_scheduler(watchdog._hung_workers, "Client-2", 0.5) == {}
            assert client.run_on_scheduler(watchdog._hung_workers, client.id, 1000.0) == {}
        finally:
            distributed.Event("end", client=client).set()
        assert result.result() is True
