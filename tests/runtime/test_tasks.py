"""Tasks: sums, placement, fields of results."""

from dataclasses import dataclass

import distributed
import numpy as np
import pytest

from srch_dist.runtime import tasks
from srch_dist.runtime.cluster import connect

pytestmark = pytest.mark.cluster


class Counter:
    """A stage that counts."""

    steps = 0

    def advance(self, steps=1):
        self.steps += steps


@pytest.mark.parametrize("count", [1, 9])
def test_sum_of_calls_counts_each_call_and_the_sum(count):
    stage = Counter()
    calls = [(np.multiply, number, np.arange(3)) for number in range(count)]
    total = tasks.run_sum(calls, stage)
    np.testing.assert_array_equal(total, sum(range(count)) * np.arange(3))
    assert stage.steps == count + 1


def _where() -> str:
    return distributed.get_worker().address


def test_tasks_run_on_the_worker_of_their_number_and_on_another_where_it_is_gone():
    with connect(None, 2, "1GiB"):
        client = distributed.default_client()
        workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
        work = []
        for number in (1, 0, 1, 2, 1):
            with tasks.on_worker(number):
                work.append(tasks.task(_where))
        assert tasks.run_all(work) == [workers[n % 2] for n in (1, 0, 1, 2, 1)]
        with tasks.on_worker(1):
            late = tasks.task(_where)
        client.retire_workers([workers[1]])
        assert tasks.run_one(late) == workers[0]


def test_without_a_client_tasks_run_wherever():
    with tasks.on_worker(3):
        left = tasks.task(int, 7)
    assert tasks.run_one(left) == 7


@dataclass
class Inner:
    x: int


@dataclass
class Outer:
    inner: Inner
    y: np.ndarray


def test_fields_of_a_result_are_read_where_it_is_and_named_by_their_field():
    outer = tasks.task(Outer, Inner(3), np.arange(4))
    found = [tasks.field(outer, name) for name in ("y", "inner.x", "y.size")]
    y, x, size = tasks.run_all(found)
    np.testing.assert_array_equal(y, np.arange(4))
    assert (x, size) == (3, 4)
    assert [tasks.task_name(one.key) for one in found] == ["y", "inner.x", "y.size"]
    assert len({one.key for one in (*found, tasks.field(outer, "y"))}) == 4
    with connect(workers=1):
        assert tasks.run_one(tasks.field(tasks.persist([outer])[0], "inner.x")) == 3
