"""When a wait for a cluster ends by itself; what real workers do then is in tests/faults."""

from __future__ import annotations

import time

import dask
import pytest

from srch_dist.errors import ClusterError, ClusterLostError
from srch_dist.runtime import watchdog
from srch_dist.runtime.watchdog import Watch, task_name

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
        match=r"task _update_partition has run for more than 5 s in 2 workers, lastly tcp://2; see",
    ):
        looking.look()


def test_worker_without_a_nanny_is_not_ended():
    client = Client(hung={"tcp://1": (KEY, False)})
    with pytest.raises(ClusterError, match="which has no nanny to start it again"):
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
