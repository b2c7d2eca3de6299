"""Format a plan as tables for the terminal, and as a record for JSON."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from srch_dist.plan.cost_model import Forecast
from srch_dist.plan.disk import cache_bytes
from srch_dist.plan.memory_model import MIB
from srch_dist.plan.run_plan import Plan


def plan_record(plan: Plan, costs: Forecast) -> dict[str, Any]:
    """Convert a plan and its costs to plain values, in bytes and seconds.

    The keys are fixed, because they are the keys of ``plan.json``. "usable_bytes" is allowed
    memory, "idle_bytes" is reserved memory, and "worker_bytes" is the projected memory of a stage.
    """
    by_name = {cost.name: cost for cost in costs.stages}
    return {
        "rows": plan.rows,
        "partitions": len(plan.partitions),
        "partition_rows": plan.partition_rows,
        "blocks": len(plan.blocks),
        "columns": plan.columns,
        "graph_on_disk": plan.spilled,
        "degree": plan.degree,
        "precision": plan.dtype.name,
        "neighbours": dict(plan.methods),
        "cached": plan.cached,
        "workers": plan.workers,
        "memory_limit": plan.memory_limit,
        "usable_bytes": plan.allowed_bytes,
        "idle_bytes": plan.reserved_bytes,
        "client_bytes": plan.client_bytes,
        "stages": [
            {
                "name": stage.name,
                "worker_bytes": stage.projected_bytes,
                "tasks": by_name[stage.name].tasks,
                "at_once": stage.at_once,
                "network_bytes": by_name[stage.name].network_bytes,
                "seconds": by_name[stage.name].seconds,
            }
            for stage in plan.stages
        ],
        "disk": dict(plan.disk),
        "disk_bytes": plan.disk_bytes,
        "network_bytes_per_iteration": costs.network_bytes,
        "tasks": costs.tasks,
        "iterations": costs.iterations,
        "seconds": costs.seconds,
        **_stored(costs),
    }


def plan_table(plan: Plan, costs: Forecast, timed: bool) -> RenderableType:
    """Make tables of the stages and of the whole run; ``timed`` adds estimated seconds."""
    fullest = plan.fullest.name
    stages = Table(box=box.SIMPLE, title_justify="left", title=_title(plan))
    stages.add_column("stage")
    for heading in ("MiB per worker", "tasks", "at once", "network MiB"):
        stages.add_column(heading, justify="right")
    if timed:
        stages.add_column("seconds", justify="right")
    by_name = {stage.name: stage for stage in plan.stages}
    for cost in costs.stages:
        stage = by_name[cost.name]
        mark = " *" if cost.name == fullest else ""
        cells = [
            cost.name + (", per iteration" if cost.loop else ""),
            f"{stage.projected_bytes / MIB:,.0f}{mark}",
            f"{cost.tasks:,}",
            f"{stage.at_once}",
            f"{cost.network_bytes / MIB:,.0f}",
        ]
        stages.add_row(*cells, *([f"{cost.seconds:,.1f}"] if timed else []))
    return Group(stages, _totals(plan, costs, timed))


def plan_summary(plan: Plan, costs: Forecast) -> str:
    """Format one line: the largest projected memory and its stage, disk space, estimated time."""
    fullest, allowed = plan.fullest, max(plan.allowed_bytes, 0)
    return (
        f"plan: {plan.rows:,} rows; the {fullest.name} stage needs most memory, "
        f"{fullest.projected_bytes / MIB:,.0f} of {allowed / MIB:,.0f} MiB allowed per worker; "
        f"disk {plan.disk_bytes / MIB:,.0f} MiB; computing takes {_estimate(costs.seconds)} at the "
        "default rates, without start-up and scoring. --verbose shows each stage."
    )


def duration(seconds: float) -> str:
    """Format a duration in seconds as seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _stored(costs: Forecast) -> dict[str, int]:
    requests = costs.requests
    return {} if requests is None else {"store_gets": requests.gets, "store_puts": requests.puts}


def _estimate(seconds: float) -> str:
    """Format estimated seconds; less than 60 becomes "under a minute".

    In short runs, overheads that the cost model does not count take most of the time.
    """
    return "under a minute" if seconds < 60 else f"about {duration(seconds)}"


def _title(plan: Plan) -> str:
    features = "cached in worker memory" if plan.cached else "read once per iteration"
    graph = "read from scratch files" if plan.spilled else "in memory"
    methods = ", ".join(f"{g} {method}" for g, method in plan.methods.items())
    return (
        f"plan: {plan.rows:,} rows, {len(plan.partitions)} partitions of {plan.partition_rows} "
        f"rows, {len(plan.blocks)} blocks, graph {graph}, {plan.columns} columns per solve, "
        f"{plan.dtype.name} features {features}; neighbours: {methods}"
    )


def _totals(plan: Plan, costs: Forecast, timed: bool) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    allowed, limit = max(plan.allowed_bytes, 0), plan.memory_limit
    table.add_row("allowed per worker", f"{allowed / MIB:,.0f} MiB (limit {limit / MIB:,.0f} MiB)")
    table.add_row("largest stage (*)", f"{plan.fullest.projected_bytes / MIB:,.0f} MiB")
    table.add_row("client", f"{plan.client_bytes / MIB:,.0f} MiB more than when idle")
    disk = ", ".join(f"{name} {size / MIB:,.0f}" for name, size in plan.disk.items())
    table.add_row("disk", f"{plan.disk_bytes / MIB:,.0f} MiB: {disk}")
    table.add_row("network per iteration", f"{costs.network_bytes / MIB:,.0f} MiB")
    if (requests := costs.requests) is not None:
        table.add_row(
            "object store",
            f"{requests.gets:,} GET, {requests.puts:,} PUT: {requests.dollars:,.2f} $ at Amazon "
            f"S3; cache of a worker {cache_bytes(plan) / MIB:,.0f} MiB",
        )
    table.add_row("tasks", f"{costs.tasks:,} in at most {costs.iterations} iterations")
    if timed:
        table.add_row("time", f"{costs.seconds:,.0f} s for {costs.iterations} iterations")
    return table
