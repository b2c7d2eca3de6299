"""Parse the grid of options of a sweep, and validate all combinations before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import yaml

from srch_dist.config.identity import effective_options, to_dict
from srch_dist.config.loading import build_config, parse_plain
from srch_dist.config.nearest import did_you_mean
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ConfigError

Grid = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Combination:
    """One point of a grid.

    Attributes
    ----------
    values : validated values of the grid's options, by dotted name such as ``method.beta``.
    config : the configuration of the run, with these values.
    """

    values: Mapping[str, Any]
    config: TrainConfig

    @property
    def name(self) -> str:
        """The name of the run directory, made from the values, such as ``bits=16,graph.k=10``."""
        return ",".join(f"{option}={value}" for option, value in self.values.items())


def parse_grid(items: Sequence[str]) -> dict[str, list[Any]]:
    """Parse texts such as ``bits=16,32,64`` into a list of values by option name.

    Raises
    ------
    ConfigError : a text has another form, or an option occurs twice.
    """
    grid: dict[str, list[Any]] = {}
    for item in items:
        option, _, text = item.partition("=")
        option = option.strip()
        values = [_scalar(part.strip()) for part in text.split(",")]
        if not option or None in values:
            raise ConfigError(
                f"--grid is {item!r}. Write an option and its values, such as bits=16,32,64."
            )
        if option in grid:
            raise ConfigError(f"--grid has {option} twice. Write all its values in one --grid.")
        grid[option] = values
    return grid


def combine(base: TrainConfig, grid: Grid) -> list[Combination]:
    """List every combination of the grid's values; ``base`` gives all other options.

    Raises
    ------
    ConfigError : the grid is empty, an option is unknown or never changes codes, a value is out of
        range, or two values are equal.
    """
    if not grid:
        raise ConfigError("a sweep needs --grid. Add for example --grid bits=16,32,64.")
    known = sorted(set(effective_options(base)) - {"preset"})
    for option in grid:
        if option not in known:
            raise ConfigError(
                f"--grid has {option}, which is not an option that changes codes"
                f"{did_you_mean(option, known)}"
            )
    combinations = [
        _combination(base, dict(zip(grid, values, strict=True)))
        for values in product(*grid.values())
    ]
    names = [one.name for one in combinations]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"the grid has the run {name} twice. Remove one of the equal values.")
    return combinations


def _combination(base: TrainConfig, values: Mapping[str, Any]) -> Combination:
    nested = to_dict(base)
    for option, value in values.items():
        section, _, name = option.rpartition(".")
        (nested[section] if section else nested)[name] = value
    try:
        config = build_config(nested)
    except ConfigError as error:
        point = ", ".join(f"{option}={value}" for option, value in values.items())
        raise ConfigError(f"the grid's run {point}: {error}") from None
    resolved = effective_options(config)
    return Combination({option: resolved[option] for option in values}, config)


def _scalar(text: str) -> Any:
    """Parse a number, text or boolean as in an options file; return None for other values."""
    try:
        value = parse_plain(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return value if isinstance(value, bool | int | float | str) else None
