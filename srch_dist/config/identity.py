"""Convert configurations to plain values; compare the options that can change the codes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from srch_dist.config.options import MethodConfig, SolverConfig, TrainConfig

# Options of locations and of the way to compute. They never change the codes.
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
    "scratch",
    "spill",
    "keep_work",
    "resume",
    "work",
    "tls",
)


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Convert a configuration to nested plain values, for YAML and JSON."""
    return dataclasses.asdict(config)


def dump_config(config: TrainConfig) -> str:
    """Convert a configuration to YAML text, from which `load_config` reads the same values."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def fingerprint(config: TrainConfig) -> str:
    """Compute the SHA-256 (hex) of the options that can change the codes."""
    return hashlib.sha256(json.dumps(_with_effect(config), sort_keys=True).encode()).hexdigest()


def effective_options(config: TrainConfig) -> dict[str, Any]:
    """Return the options that can change the codes, by dotted name such as ``method.beta``."""
    return _flatten(_with_effect(config))


def differing_options(recorded: TrainConfig, requested: TrainConfig) -> list[str]:
    """Describe each option that differs and can change the codes: its name and both values."""
    before, now = effective_options(recorded), effective_options(requested)
    return [
        f"{key} is {now[key]!r}, the run has {value!r}"
        for key, value in before.items()
        if now[key] != value
    ]


def up_to_graph(config: TrainConfig) -> TrainConfig:
    """Reset, to fixed values, all options that have no effect on features and graph.

    If the resulting configurations of two runs are equal, the two runs have equal features, first
    codes and graphs.
    """
    method = dataclasses.replace(MethodConfig(), directions=0)
    return dataclasses.replace(
        config,
        bits=config.loop_bits,
        preset="balanced",
        method=method,
        solver=SolverConfig(),
    )


def up_to_loop(config: TrainConfig) -> TrainConfig:
    """Reset, to fixed values, all options that have an effect only after the loop.

    If the resulting configurations of two runs are equal, the two loops learn equal codes.
    ``method.anchors`` is kept: the loop learns its rotation from that number of sampled rows.
    """
    default = MethodConfig()
    method = dataclasses.replace(
        config.method,
        directions=0,
        pair=default.pair,
        loop_bits=default.loop_bits,
        encoder=default.encoder,
        ridge=default.ridge,
    )
    return dataclasses.replace(config, bits=config.loop_bits, preset="balanced", method=method)


def _with_effect(config: TrainConfig) -> dict[str, Any]:
    return {key: value for key, value in to_dict(config).items() if key not in _WITHOUT_EFFECT}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
