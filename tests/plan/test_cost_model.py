"""Costs of a plan, against counts and simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from srch_dist.config.loading import build_config
from srch_dist.plan.cost_model import forecast
from srch_dist.plan.rates import Rates
from srch_dist.runtime import tasks
from tests.helpers.plans import make_plan

DIMS = {"image": 64, "text": 32}


def costs(rows=100_000, workers=4, rates=None, dims=None, **options):
    dims = dims or DIMS
    config = build_config({"bits": 64, "precision": "float32", **options})
    plan = make_plan(rows, dims, config, workers, 1 << 40)
    return plan, forecast(plan, dims, config, rates or Rates())


def stage(result, name):
    return next(cost for cost in result.stages if cost.name == name)


def test_rows_fetched_in_an_exchange_are_those_of_a_random_graph():
    """2 k neighbours a row at random, both ends kept: distinct rows outside, block by block."""
    rows, k, blocks = 3_000, 3, 3
    rng = np.random.default_rng(0)
    ends = [np.repeat(np.arange(rows), 2 * k), rng.integers(0, rows, 2 * rows * k)]
    left, right = np.concatenate(ends), np.concatenate(ends[::-1])
    owner, other = left * blocks // rows, right * blocks // rows
    fetched = sum(len(np.unique(right[(owner == b) & (other != b)])) for b in range(blocks))
    cut = {"partition_rows": rows // blocks, "blocks": blocks}
    graph = {"k": k, "method": "exact"}
    plan, found = costs(
        rows, blocks, Rates(cg_iterations=9, crossing=1.0, union=2.0), graph=graph, **cut
    )
    assert len(plan.blocks) == blocks
    exchange = stage(found, "S-step").network_bytes
    assert exchange / (32 * 4) == pytest.approx(fetched, rel=0.02)
    assert stage(found, "Z-step").network_bytes == 10 * exchange


def test_nothing_crosses_the_network_on_one_worker_with_one_block():
    _, found = costs(workers=1)
    assert [cost.network_bytes for cost in found.stages if cost.name != "B-step"] == [0] * 6
    # Only the projections are sent to the worker.
    assert stage(found, "B-step").network_bytes == 8 * 96 * 64


def test_every_product_and_byte_of_the_b_step_is_counted():
    rates = Rates(read=1e6, gemm=1e15, task=0.0, network=1e18, stream=1e18)
    _, found = costs(workers=1, rates=rates, cache="off")
    read = 100_000 * (96 * 4 + 32 * 4 + 16)
    assert stage(found, "B-step").seconds == pytest.approx(read / 1e6, rel=1e-6)
    _, found = costs(workers=1, rates=replace(rates, read=1e15, gemm=1e9), cache="off")
    operations = 100_000 * 64 * 2 * (96 + 96 + 64)
    assert stage(found, "B-step").seconds == pytest.approx(operations / 1e9, rel=1e-6)


def test_features_in_memory_are_not_read_again():
    rates = Rates(read=1e6, gemm=1e15, task=0.0, network=1e18)
    kept, read = costs(rates=rates)[1], costs(rates=rates, cache="off")[1]
    assert stage(kept, "B-step").seconds < 0.5 * stage(read, "B-step").seconds


def test_more_workers_need_less_time_until_the_scheduler_is_the_limit():
    options = {"graph": {"method": "exact"}, "cache": "off", "partition_rows": 1_000}
    seconds = [
        costs(100_000, w, Rates(task=0.0), blocks=w, **options)[1].seconds for w in (1, 2, 8)
    ]
    assert seconds[0] > 1.8 * seconds[1] > 1.8 * seconds[2]
    busy = [costs(100_000, w, Rates(task=100.0), **options)[1].seconds for w in (2, 8)]
    assert busy[1] >= busy[0]


def test_costs_of_the_loop_count_once_an_iteration():
    _, found = costs(method={"iterations": 7})
    loop = [cost for cost in found.stages if cost.loop]
    once = [cost for cost in found.stages if not cost.loop]
    assert {cost.name for cost in loop} == {"Z-step", "S-step", "B-step"}
    assert found.tasks == sum(c.tasks for c in once) + 7 * sum(c.tasks for c in loop)
    assert found.seconds == pytest.approx(
        sum(c.seconds for c in once) + 7 * sum(c.seconds for c in loop)
    )


@pytest.mark.parametrize("parts", [1, 2, 8, 9, 70])
def test_tasks_of_a_sum_are_those_of_its_tree(parts, monkeypatch):
    made = []
    monkeypatch.setattr(tasks, "_total", lambda *values: made.append(values) or sum(values))
    total = tasks.run_one(tasks.add_up([tasks.as_task_input(1)] * parts))
    assert total == parts
    plan, found = costs(parts * 1_000, 1, partition_rows=1_000, graph={"method": "exact"})
    assert len(plan.partitions) == parts
    assert stage(found, "features").tasks == 3 * parts + 2 * len(made) + 1
