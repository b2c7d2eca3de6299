"""`python -m srch_dist.plan`: estimate what a training run needs, from shapes and options."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from srch_dist.cli.command import output, run_command
from srch_dist.config.loading import build_config, check_config, load_config
from srch_dist.config.options import MOST, TrainConfig
from srch_dist.errors import ConfigError, PlanError
from srch_dist.plan.calibrate import calibrate
from srch_dist.plan.cost_model import forecast
from srch_dist.plan.planner import check_memory, draft_plan
from srch_dist.plan.rates import Rates
from srch_dist.plan.table import plan_record, plan_table
from srch_dist.runtime.cluster import Cluster
from srch_dist.runtime.machine import local_size
from srch_dist.runtime.progress import Progress

# Maximum number of dimensions of a modality.
_MOST_DIMS = 1 << 24


@dataclass(frozen=True)
class _Options:
    """Estimate memory, disk, network, tasks and time of a training run, without reading data."""

    pairs: int
    """Number of rows to train on, such as 100000000 or 100_000_000."""
    dims: str
    """Number of dimensions of each modality, for example image=768,text=768."""
    out: str | None = None
    """With an s3:// URL, plan a run that lives in an object store: its requests, and the cache of a
    worker. By default from --config, else a run on a disk."""
    bits: int | None = None
    """Bits per code; by default from --config, else 32."""
    workers: int | None = None
    """Number of worker processes, of one thread each; by default from --config, else the number of
    CPUs that this process may use."""
    memory_limit: str | None = None
    """Memory per worker, such as 4GiB; by default from --config, else 2GiB, or less if this machine
    or its cgroup has too little memory."""
    config: str | None = None
    """YAML file of options, as for srch_dist.train; --out, --bits, --workers and
    --memory-limit override the options of the file."""
    json: bool = False
    """Print JSON instead of tables."""
    calibrate: bool = False
    """Measure the rates of this machine first (about 15 s on 2 cores) and use them instead of
    --rates."""
    rates: Rates = field(default_factory=Rates)
    """Rates of one worker, such as bytes read per second; the plan estimates seconds from the
    rates."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options of the command line, and print the plan."""
    run_command("plan", _Options, _plan, arguments)


def _plan(options: _Options, progress: Progress) -> None:
    config = _configuration(options)
    dims = parse_dims(options.dims)
    size = local_size(config.workers, config.memory_limit)
    # `srch_dist.train` may restart the workers of the cluster that it starts.
    cluster = Cluster(size.workers, size.memory_limit, restarts=True)
    _check_numbers(options)
    if options.pairs <= config.graph.k:
        raise ConfigError(
            f"--pairs is {options.pairs}, but each row needs graph.k = {config.graph.k} neighbours "
            "besides itself. Plan for more rows or lower graph.k."
        )
    rates = calibrate(progress=progress) if options.calibrate else options.rates
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


def _check_numbers(options: _Options) -> None:
    if options.pairs > MOST:
        raise ConfigError(f"--pairs is {options.pairs}, expected at most {MOST}")
    for name, rate in asdict(options.rates).items():
        if not 0 < rate <= MOST:
            raise ConfigError(f"--rates.{name} is {rate}, expected a number above 0, up to {MOST}")


def _configuration(options: _Options) -> TrainConfig:
    """Load the file of --config, or default options; command-line options override both."""
    base = load_config(options.config) if options.config else build_config({})
    overrides = {
        name: getattr(options, name)
        for name in ("out", "bits", "workers", "memory_limit")
        if getattr(options, name) is not None
    }
    return check_config(replace(base, **overrides))


def parse_dims(text: str) -> dict[str, int]:
    """Parse dimensions by modality from ``image=768,text=768``.

    Raises
    ------
    ConfigError : the text has another form, repeats a name, or has fewer than two modalities.
    """
    dims: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        name = name.strip()
        if not name or name in dims or not re.fullmatch("0*[1-9][0-9]*", number.strip()):
            raise ConfigError(f"--dims is {text!r}. Write for example image=768,text=768.")
        # Python refuses to convert numbers of more than 4,300 digits.
        if len(number.strip()) > len(str(_MOST_DIMS)) or int(number) > _MOST_DIMS:
            raise ConfigError(
                f"--dims has more than {_MOST_DIMS} dimensions for {name}. Give the number of "
                "values in one row."
            )
        dims[name] = int(number)
    if len(dims) < 2:
        raise ConfigError(
            f"--dims is {text!r}, which is one modality; at least two are needed. Write for "
            "example image=768,text=768."
        )
    return dims


if __name__ == "__main__":
    main()
