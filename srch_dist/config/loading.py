"""Every option of a run, once: the YAML file, the command line and the record of a run.

`TrainConfig` holds what `srch_dist.train` accepts. A preset names a set of values for the
method; a YAML file overrides the preset, and the command line overrides both.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from srch_dist.config.identity import to_dict
from srch_dist.config.options import MethodConfig, TrainConfig
from srch_dist.errors import ConfigError

# Characters of a file of options.
_LARGEST_FILE = 1 << 20


_PRESETS: dict[str, MethodConfig] = {
    "balanced": MethodConfig(),
    "paper": MethodConfig(
        scaling="printed",
        alpha=1e-4,
        beta=1e-3,
        lam=10.0,
        stop="objective",
        threshold=1e-5,
        weights="equal",
        rotate=False,
        drop=0.0,
        forcing=0.0,
        directions=0,
        encoder="projection",
    ),
}


def build_config(values: Mapping[str, Any], preset: str | None = None) -> TrainConfig:
    """Make a `TrainConfig` from nested values on top of a preset.

    Parameters
    ----------
    values : nested mapping of option names, as in a YAML file. Whatever it leaves out comes
        from the preset.
    preset : overrides ``values["preset"]``.

    Raises
    ------
    ConfigError : an unknown name (with the nearest known one), a wrong type or range.
    """
    name = preset if preset is not None else values.get("preset", "balanced")
    if not isinstance(name, str) or name not in _PRESETS:
        raise ConfigError(f"preset is {name!r}; known presets: {', '.join(_PRESETS)}")
    _refuse_unknown(values, TrainConfig, "")
    method = values.get("method") or {}
    whole = {item.name for item in dataclasses.fields(MethodConfig)} <= set(method)
    if whole and values.get("preset", name) != name:
        raise ConfigError(
            f"preset {name} was asked for, but all options of method are given, for preset "
            f"{values['preset']}; leave one of the two out"
        )
    if method.get("directions") == 1:
        raise ConfigError(
            "method.directions is 1: every bit would be the same; 0 keeps the codes of the loop"
        )
    merged = {
        **{key: value for key, value in values.items() if value is not None},
        "preset": name,
        "method": {**dataclasses.asdict(_PRESETS[name]), **method},
    }
    try:
        config = TypeAdapter(TrainConfig).validate_python(merged)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc'])} is {item['input']!r}: {item['msg']}"
            for item in error.errors()
        ]
        raise ConfigError("; ".join(lines)) from None
    if config.graph.overlap > config.graph.overlap_max:
        raise ConfigError(
            f"graph.overlap is {config.graph.overlap}, above graph.overlap_max "
            f"{config.graph.overlap_max}; lower the one or raise the other"
        )
    return config


def check_config(config: TrainConfig) -> TrainConfig:
    """Validate every value of a configuration made directly; raises ConfigError.

    Where it names a preset and leaves the method at its default, the preset's method is meant.
    """
    values = to_dict(config)
    if config.method == MethodConfig():
        del values["method"]
    return build_config(values)


class _PlainLoader(yaml.SafeLoader):
    """Plain values without aliases, by which a few lines may stand for any number of values."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("it has an alias, which options do not need")
        return super().compose_node(parent, index)


# Only true and false are so by themselves: off is a choice of some options (solver.coarse), and
# where an option is yes or no, its own type reads off and on.
_BOOLEAN = "tag:yaml.org,2002:bool"
_PlainLoader.yaml_implicit_resolvers = {
    first: [one for one in known if one[0] != _BOOLEAN]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    _BOOLEAN, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def parse_plain(text: str) -> Any:
    """The value that a text of YAML stands for; raises what `yaml` does, and ValueError."""
    return yaml.load(text, Loader=_PlainLoader)


def load_config(path: str | Path, preset: str | None = None) -> TrainConfig:
    """Read a YAML file of options; see `build_config`."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(_LARGEST_FILE + 1)
        if len(text) > _LARGEST_FILE:
            raise ConfigError(f"{path} is no configuration: it is longer than {_LARGEST_FILE}")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from None
    return parse_config(text, str(path), preset)


def parse_config(text: str, path: str, preset: str | None = None) -> TrainConfig:
    """The options in YAML text, which is from ``path``; see `build_config`."""
    try:
        values = parse_plain(text)
    # Numbers and dates that Python cannot hold come as ValueError.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}, expected option: value lines")
    try:
        return build_config(values, preset)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _refuse_unknown(values: Mapping[str, Any], kind: type[Any], prefix: str) -> None:
    """Raise on the first key that ``kind`` has no field for, naming the nearest one."""
    known = {item.name: item for item in dataclasses.fields(kind)}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise ConfigError(f"unknown option {prefix}{key!s}; did you mean {prefix}{near[0]}?")
        section: Any = known[key].default_factory
        if isinstance(section, type) and value is not None:
            if not isinstance(value, Mapping):
                raise ConfigError(f"{prefix}{key} is {value!r}, expected a section of options")
            _refuse_unknown(value, section, f"{prefix}{key}.")
