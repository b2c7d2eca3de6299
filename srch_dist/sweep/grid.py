"""Grids of options: what a sweep trains with, checked as a whole before any work."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import yaml

from srch_dist.config.identity import effective_options, to_dict
from srch_dist.config.loading import build_config, parse_plain
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ConfigError

Grid = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Combination:
    """One point of a grid.

    Attributes
    ----------
    values : of the options of the grid, by name as ``method.beta``, as the configuration has them.
    config : all options.
    """

    values: Mapping[str, Any]
    config: TrainConfig

    @property
    def name(self) -> str:
        """The values as one word, as ``bits=16,graph.k=10``; a name for a folder."""
        return ",".join(f"{option}={value}" for option, value in self.values.items())


def parse_grid(items: Sequence[str]) -> dict[str, list[Any]]:
    """Values by option from texts such as ``bits=16,32,64``.

    Raises
    ------
    ConfigError : not of that form, or an option named twice.
    """
    grid: dict[str, list[Any]] = {}
    for item in items:
        option, _, text = item.partition("=")
        option = option.strip()
        values = [_scalar(part.strip()) for part in text.split(",")]
        if not option or None in values:
            raise ConfigError(f"grid is {item!r}; write an option and values, as bits=16,32,64")
        if option in grid:
            raise ConfigError(f"grid names {option} twice; give all its values at once")
        grid[option] = values
    return grid


def combine(base: TrainConfig, grid: Grid) -> list[Combination]:
    """Every combination of the grid's values, over the other options of ``base``.

    Raises
    ------
    ConfigError : no option, one that is unknown or does not change codes, a value out of range,
        or two values that mean the same.
    """
    if not grid:
        raise ConfigError("a sweep needs --grid, as --grid bits=16,32,64")
    known = sorted(set(effective_options(base)) - {"preset"})
    for option in grid:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.0)[0]
            raise ConfigError(
                f"grid names {option}, which is no option that changes codes by itself; did you "
                f"mean {near}?"
            )
    found = [_combination(base, dict(zip(grid, values, strict=True))) for values in _points(grid)]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"the grid holds {name} twice")
    return found


def _points(grid: Grid) -> product[tuple[Any, ...]]:
    return product(*grid.values())


def _combination(base: TrainConfig, values: Mapping[str, Any]) -> Combination:
    nested = to_dict(base)
    for option, value in values.items():
        section, _, name = option.rpartition(".")
        (nested[section] if section else nested)[name] = value
    try:
        config = build_config(nested)
    except ConfigError as error:
        asked = ", ".join(f"{option}={value}" for option, value in values.items())
        raise ConfigError(f"the grid's {asked}: {error}") from None
    resolved = effective_options(config)
    return Combination({option: resolved[option] for option in values}, config)


def _scalar(text: str) -> Any:
    """A value as in a file of options; None for nothing, and for what is no plain value."""
    try:
        value = parse_plain(text)
    except (yaml.YAMLError, ValueError):
        return None
    return value if isinstance(value, bool | int | float | str) else None
