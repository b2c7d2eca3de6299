"""Build a `TrainConfig` from a preset, a YAML file and given values; refuse wrong values.

A preset is a named set of values for the section ``method``. A YAML file overrides the preset, and
the command line overrides both.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from srch_dist.config.identity import to_dict
from srch_dist.config.nearest import did_you_mean
from srch_dist.config.options import MethodConfig, TrainConfig
from srch_dist.errors import ConfigError, refusal

# Maximum characters of an options file. Real files have a few thousand.
_MAX_FILE_CHARACTERS = 1 << 20

# Options of earlier versions, and what replaces them.
_REMOVED = {
    "graph.overlap": "Remove it, or set graph.leaves (8 by default) instead.",
    "graph.overlap_max": "Remove it, or set graph.leaves_max (24 by default) instead.",
    "graph.refine": "Remove it: rows of different clusters are compared without it.",
}

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
        embedding_rank=0,
        drop=0.0,
        forcing=0.0,
        directions=0,
        encoder="projection",
    ),
}


def build_config(values: Mapping[str, Any], preset: str | None = None) -> TrainConfig:
    """Build a `TrainConfig` from nested values, which override the values of a preset.

    Parameters
    ----------
    values : values by option name, nested as in a YAML file. Missing values come from the preset.
    preset : name of the preset; overrides ``values["preset"]``.

    Raises
    ------
    ConfigError : a name is unknown (the message suggests the nearest one), or a value has the wrong
        type or is out of range.
    """
    name = preset if preset is not None else values.get("preset", "balanced")
    if not isinstance(name, str) or name not in _PRESETS:
        hint = did_you_mean(str(name), _PRESETS)
        raise ConfigError(f"preset is {name!r}; known presets: {', '.join(_PRESETS)}{hint}")
    _refuse_unknown(values, TrainConfig, "")
    method = values.get("method") or {}
    _refuse_conflicts(values, method, name)
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
            f"{_choice_hint(item)}"
            for item in error.errors()
        ]
        raise ConfigError("; ".join(lines)) from None
    if config.graph.leaves > config.graph.leaves_max:
        raise ConfigError(
            f"graph.leaves is {config.graph.leaves}, above graph.leaves_max "
            f"{config.graph.leaves_max}. Lower graph.leaves or raise graph.leaves_max."
        )
    return config


def check_config(config: TrainConfig) -> TrainConfig:
    """Validate a configuration that was created without `build_config`.

    If all values of ``method`` are defaults, the preset's values replace them.

    Raises
    ------
    ConfigError : a value has the wrong type or is out of range.
    """
    values = to_dict(config)
    if config.method == MethodConfig():
        del values["method"]
    return build_config(values)


def load_config(path: str | Path, preset: str | None = None) -> TrainConfig:
    """Read a YAML file of options; see `build_config`."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(_MAX_FILE_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise refusal(ConfigError, f"cannot read the options file {path}: {error}", error) from None
    if len(text) > _MAX_FILE_CHARACTERS:
        raise ConfigError(
            f"{path} has more than {_MAX_FILE_CHARACTERS} characters, too many for options. "
            "Choose another file."
        )
    return parse_config(text, str(path), preset)


def parse_config(text: str, path: str, preset: str | None = None) -> TrainConfig:
    """Parse the options in YAML ``text``; errors name ``path``. See `build_config`."""
    try:
        values = parse_plain(text)
    # Python raises ValueError for numbers and dates that it cannot hold.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds a {type(values).__name__}, expected a mapping. Write lines such as "
            "'bits: 32'."
        )
    try:
        return build_config(values, preset)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_plain(text: str) -> Any:
    """Parse YAML text into plain values; raise `yaml.YAMLError` or ValueError if it is invalid."""
    return yaml.load(text, Loader=_PlainLoader)


class _PlainLoader(yaml.SafeLoader):
    """YAML loader of plain values; refuses aliases, because they can expand without limit."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("it has an alias (*NAME); write the value itself")
        return super().compose_node(parent, index)


# YAML 1.1 reads on and off as booleans. Here they stay text, because off is a value of options such
# as solver.coarse. Options of type bool still accept on and off: pydantic converts the text.
_BOOLEAN = "tag:yaml.org,2002:bool"
_PlainLoader.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver[0] != _BOOLEAN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    _BOOLEAN, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def _names(kind: type[Any], prefix: str) -> list[str]:
    """Dotted names of every option and section of ``kind``."""
    names = []
    for item in dataclasses.fields(kind):
        names.append(f"{prefix}{item.name}")
        section: Any = item.default_factory
        if isinstance(section, type):
            names += _names(section, f"{prefix}{item.name}.")
    return names


def _choice_hint(item: Mapping[str, Any]) -> str:
    """Return the clause of `did_you_mean` if a value is none of its choices, else ""."""
    if item["type"] != "literal_error":
        return ""
    return did_you_mean(str(item["input"]), re.findall(r"'([^']+)'", item["ctx"]["expected"]))


def _refuse_unknown(values: Mapping[str, Any], kind: type[Any], prefix: str) -> None:
    """Raise ConfigError for the first key that is no field of ``kind``; suggest a near name."""
    known = {item.name: item for item in dataclasses.fields(kind)}
    for key, value in values.items():
        if (reason := _REMOVED.get(f"{prefix}{key!s}")) is not None:
            raise ConfigError(f"{prefix}{key} is no longer an option. {reason}")
        if key not in known:
            hint = did_you_mean(f"{prefix}{key!s}", _names(TrainConfig, ""))
            raise ConfigError(f"unknown option {prefix}{key!s}{hint}")
        section: Any = known[key].default_factory
        if isinstance(section, type) and value is not None:
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{prefix}{key} is {value!r}, expected a section. Write the section's options "
                    "below its name."
                )
            _refuse_unknown(value, section, f"{prefix}{key}.")


def _refuse_conflicts(values: Mapping[str, Any], method: Mapping[str, Any], preset: str) -> None:
    """Raise ConfigError if the values leave the preset without effect, or make all bits equal."""
    complete = {item.name for item in dataclasses.fields(MethodConfig)} <= set(method)
    if complete and values.get("preset", preset) != preset:
        raise ConfigError(
            f"preset {preset!r} would have no effect: the file sets every option of its section "
            f"'method', for preset {values['preset']!r}. Remove the section 'method' from the "
            "file, or do not set the option 'preset'."
        )
    if method.get("directions") == 1:
        raise ConfigError(
            "method.directions is 1, so all bits would be equal. Use at least 2, or 0 to keep the "
            "codes of the loop."
        )
