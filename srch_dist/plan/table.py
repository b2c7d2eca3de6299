"""A plan as a table for a person and as plain values for JSON."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from srch_dist.plan.cost_model import Forecast
from srch_dist.plan.memory_model import MIB
from srch_dist.plan.run_plan import Plan


def plan_record(plan: Plan, costs: Forecast) -> dict[str, Any]:
    """Plain values of a plan and its costs; bytes and seconds."""
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
        "usable_bytes": plan.usable_bytes,
        "idle_bytes": plan.idle_bytes,
        "client_bytes": plan.client_bytes,
        "stages": [
            {
                "name": stage.name,
                "worker_bytes": stage.worker_bytes,
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
    }


def plan_table(plan: Plan, costs: Forecast, timed: bool) -> RenderableType:
    """Stages with what they need, and the run as a whole; with seconds where they are ``timed``."""
    fullest = plan.fullest.name
    stages = Table(box=box.SIMPLE, title_justify="left", title=_title(plan))
    stages.add_column("stage")
    for heading in ("MiB a worker", "tasks", "at once", "network MiB"):
        stages.add_column(heading, justify="right")
    if timed:
        stages.add_column("seconds", justify="right")
    workers = {stage.name: stage for stage in plan.stages}
    for cost in costs.stages:
        found = workers[cost.name]
        mark = " *" if cost.name == fullest else ""
        cells = [
            cost.name + (", an iteration" if cost.loop else ""),
            f"{found.worker_bytes / MIB:,.0f}{mark}",
            f"{cost.tasks:,}",
            f"{found.at_once}",
            f"{cost.network_bytes / MIB:,.0f}",
        ]
        stages.add_row(*cells, *([f"{cost.seconds:,.1f}"] if timed else []))
    return Group(stages, _totals(plan, costs, timed))


def _title(plan: Plan) -> str:
    features = "features kept in memory" if plan.cached else "features read once an iteration"
    graph = "read from scratch files" if plan.spilled else "in memory"
    methods = ", ".join(f"{g} {method}" for g, method in plan.methods.items())
    return (
        f"plan: {plan.rows:,} rows, {len(plan.partitions)} partitions of {plan.partition_rows}, "
        f"{len(plan.blocks)} blocks with the graph {graph}, {plan.columns} columns a solve, "
        f"{plan.dtype.name}; {features}; neighbours: {methods}"
    )


def _totals(plan: Plan, costs: Forecast, timed: bool) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    usable, limit = max(plan.usable_bytes, 0), plan.memory_limit
    table.add_row("usable a worker", f"{usable / MIB:,.0f} MiB (limit {limit / MIB:,.0f} MiB)")
    table.add_row("fullest stage (*)", f"{plan.fullest.worker_bytes / MIB:,.0f} MiB")
    table.add_row("client, beyond its idle size", f"{plan.client_bytes / MIB:,.0f} MiB")
    disk = ", ".join(f"{name} {size / MIB:,.0f}" for name, size in plan.disk.items())
    table.add_row("disk", f"{plan.disk_bytes / MIB:,.0f} MiB: {disk}")
    table.add_row("network an iteration", f"{costs.network_bytes / MIB:,.0f} MiB")
    table.add_row("tasks", f"{costs.tasks:,} in at most {costs.iterations} iterations")
    if timed:
        table.add_row("time", f"{costs.seconds:,.0f} s for {costs.iterations} iterations")
    return table
