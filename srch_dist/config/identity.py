"""What identifies a configuration: its values, its fingerprint, what may change codes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from srch_dist.config.options import MethodConfig, SolverConfig, TrainConfig

# Options that say where and how work is done, not what comes out.
_WITHOUT_EFFECT = (
    "data",
    "out",
    "evaluate",
    "baseline",
    "report",
    "scheduler",
    "workers_min",
    "workers_wait",
    "workers",
    "memory_limit",
    "partition_rows",
    "blocks",
    "columns",
    "cache",
    "spill",
    "keep_work",
    "resume",
    "work",
    "tls",
)


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Nested plain values of a configuration, for YAML and JSON."""
    return dataclasses.asdict(config)


def fingerprint(config: TrainConfig) -> str:
    """SHA-256 of the options that can change the codes; not of places, sizes or workers."""
    return hashlib.sha256(json.dumps(_with_effect(config), sort_keys=True).encode()).hexdigest()


def differing_options(recorded: TrainConfig, asked: TrainConfig) -> list[str]:
    """Options that can change the codes and differ, each with both values."""
    before, now = effective_options(recorded), effective_options(asked)
    return [
        f"{key} is {now[key]!r}, the run has {value!r}"
        for key, value in before.items()
        if now[key] != value
    ]


def effective_options(config: TrainConfig) -> dict[str, Any]:
    """Values of the options that can change the codes, by name, as ``method.beta``."""
    return _flat(_with_effect(config))


def up_to_graph(config: TrainConfig) -> TrainConfig:
    """The options that features, first codes and graph follow from; the others at one value each.

    Runs for which these are alike share what comes before the loop.
    """
    method = dataclasses.replace(MethodConfig(), directions=0)
    return dataclasses.replace(
        config,
        bits=config.loop_bits,
        preset="balanced",
        method=method,
        solver=SolverConfig(),
    )


def _with_effect(config: TrainConfig) -> dict[str, Any]:
    return {key: value for key, value in to_dict(config).items() if key not in _WITHOUT_EFFECT}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def dump_config(config: TrainConfig) -> str:
    """The YAML text that `load_config` reads back to the same configuration."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)
