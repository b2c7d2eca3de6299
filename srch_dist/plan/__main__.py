"""`python -m srch_dist.plan`: plan a training run before its data or its cluster exist."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from srch_dist.cli.command import output, parse, run_command
from srch_dist.cli.progress import on_console
from srch_dist.config.loading import build_config, check_config, load_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ConfigError, PlanError
from srch_dist.plan.calibrate import calibrate
from srch_dist.plan.cost_model import forecast
from srch_dist.plan.planner import check_memory, draft_plan
from srch_dist.plan.rates import Rates
from srch_dist.plan.table import plan_record, plan_table
from srch_dist.runtime.cluster import Cluster, parse_bytes


@dataclass(frozen=True)
class _Options:
    """Plan a training run: memory, disk, network, tasks and time. Reads and trains nothing."""

    pairs: int
    """Rows to train on; underscores are allowed, as in 100_000_000."""
    dims: str
    """Dimensions of each modality, for example image=768,text=768."""
    bits: int | None = None
    """Bits per code; by default those of the configuration."""
    workers: int | None = None
    """Worker processes of one thread each; by default one per core of this machine."""
    memory_limit: str | None = None
    """Memory limit per worker; by default that of the configuration."""
    config: str | None = None
    """YAML file of options, as for srch_dist.train."""
    json: bool = False
    """Print JSON instead of tables."""
    calibrate: bool = False
    """Measure the rates of this machine first, in about 15 s; they replace --rates."""
    rates: Rates = field(default_factory=Rates)
    """Rates from which seconds are computed."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Plan with options from the command line."""
    run_command(lambda: _plan(arguments))


def _plan(arguments: Sequence[str] | None) -> None:
    options = parse(_Options, "plan", arguments)
    config = _configuration(options)
    dims = parse_dims(options.dims)
    workers = config.workers or os.cpu_count() or 1
    # `srch_dist.train` may restart the workers of the cluster that it starts.
    cluster = Cluster(workers, parse_bytes(config.memory_limit), restarts=True)
    if options.pairs <= config.graph.k:
        raise ConfigError(
            f"pairs is {options.pairs}, but each row needs graph.k = {config.graph.k} neighbours "
            "besides itself. Plan for more rows."
        )
    rates = calibrate(progress=on_console()) if options.calibrate else options.rates
    plan = draft_plan(options.pairs, dims, config, cluster)
    costs = forecast(plan, dims, config, rates)
    refusal: PlanError | None = None
    try:
        check_memory(plan)
    except PlanError as error:
        refusal = error
    if options.json:
        record = {**plan_record(plan, costs), "rates": asdict(rates), "fits": refusal is None}
        print(json.dumps(record, indent=1))
    else:
        output().print(plan_table(plan, costs, timed=True))
    if refusal is not None:
        raise refusal


def _configuration(options: _Options) -> TrainConfig:
    """The configuration of the file, else the default, overridden by the command line."""
    base = load_config(options.config) if options.config else build_config({})
    overrides = {
        name: getattr(options, name)
        for name in ("bits", "workers", "memory_limit")
        if getattr(options, name) is not None
    }
    return check_config(replace(base, **overrides))


def parse_dims(text: str) -> dict[str, int]:
    """Parse dimensions by modality from ``image=768,text=768``.

    Raises
    ------
    ConfigError : another form, a name twice, or fewer than two modalities.
    """
    dims: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        name = name.strip()
        if not name or name in dims or not number.strip().isdigit() or int(number) < 1:
            raise ConfigError(f"dims is {text!r}. Write it as, for example, image=768,text=768.")
        dims[name] = int(number)
    if len(dims) < 2:
        raise ConfigError(f"dims is {text!r}: one modality. Name at least two.")
    return dims


if __name__ == "__main__":
    main()
