"""The planned requests of a run in an object store, compared with those that runs send."""

from __future__ import annotations

from collections import Counter

import pytest

from srch_dist.storage.object_cache import use_cache
from tests.helpers import killed_runs
from tests.helpers.memory_bucket import counted_requests, memory_bucket
from tests.helpers.runs import make_pairs, make_store, train_here

pytestmark = pytest.mark.slow

PARTITIONED = {"k": 5, "method": "partitioned", "cluster_rows": 24}
KINDS = {
    "few partitions": (90, {}),
    "many partitions": (300, {}),
    "one block": (180, {"blocks": 1, "columns": 16}),
    "graph in scratch objects": (180, {"spill": "on", "cache": "off"}),
    "partitioned search": (180, {"graph": PARTITIONED}),
    "more iterations": (180, {"method": {**killed_runs.OPTIONS["method"], "iterations": 8}}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_requests_are_those_of_the_plan(tmp_path, kind):
    rows, changes = KINDS[kind]
    store = make_store(tmp_path / "data", 25, **make_pairs(rows))
    use_cache(tmp_path / "cache", 1 << 30)
    with memory_bucket(), counted_requests() as found:
        options = {**killed_runs.OPTIONS, **changes}
        plan = train_here(store.path, "s3://bucket/run", **options).run.plan()
        sent = Counter(request for request, _ in found)
    use_cache(tmp_path / "cache", 0)
    for name in ("get", "put"):
        assert sent[name] / 1.25 < plan[f"store_{name}s"] < sent[name] * 1.25, (name, sent, plan)
