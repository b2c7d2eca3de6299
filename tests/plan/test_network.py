"""The planned bytes between workers, compared with those of pipelines/scale/traffic.json."""

from __future__ import annotations

import json
from pathlib import Path

from srch_dist.config.loading import build_config
from srch_dist.plan.cost_model import forecast
from srch_dist.plan.planner import draft_plan
from srch_dist.plan.rates import Rates
from srch_dist.runtime.cluster import Cluster

RECORD = Path(__file__).parents[2] / "pipelines" / "scale" / "traffic.json"
# Results that move before or after the loop: sums over features and anchors, and the graph.
ONCE = {"getitem", "load_block"}


def test_bytes_of_an_iteration_with_one_block():
    record = json.loads(RECORD.read_text())
    loop = sum(row["bytes"] for row in record["tasks"] if row["task"] not in ONCE)
    measured = loop / record["iterations"]
    config = build_config({"bits": 64, "method": {"directions": 0}})
    dims, cluster = {"image": 128, "text": 128}, Cluster(record["workers"], 1 << 30)
    plan = draft_plan(record["rows"], dims, config, cluster, record["degree"])
    assert len(plan.blocks) == record["blocks"] == 1
    planned = forecast(plan, dims, config, Rates()).network_bytes
    assert 0.8 < planned / measured < 1.25


def test_one_worker_sends_nothing_over_the_network_in_the_loop():
    config = build_config({"bits": 64})
    dims = {"image": 128, "text": 128}
    plan = draft_plan(60_000, dims, config, Cluster(1, 4 << 30), 20.0)
    costs = {cost.name: cost.network_bytes for cost in forecast(plan, dims, config, Rates()).stages}
    assert costs["Z-step"] == costs["S-step"] == 0
