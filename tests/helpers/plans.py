"""Plans of a run for workers that need not exist."""

from __future__ import annotations

from collections.abc import Mapping

from srch_dist.config.options import TrainConfig
from srch_dist.plan.planner import check_memory, draft_plan
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime.cluster import Cluster


def make_plan(
    rows: int, dims: Mapping[str, int], config: TrainConfig, workers: int, memory_limit: int
) -> Plan:
    """The plan of a run on ``workers`` of ``memory_limit`` bytes each that can restart.

    Raises
    ------
    PlanError : it does not fit.
    """
    plan = draft_plan(rows, dims, config, Cluster(workers, memory_limit, restarts=True))
    check_memory(plan)
    return plan
