"""Refuse unknown options and choices, suggest the nearest known name, name missing options."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from srch_dist.cli.help_texts import option_texts
from srch_dist.config.nearest import did_you_mean
from srch_dist.errors import ConfigError

# Marks a field that has no option but a place on the command line.
_POSITIONAL = get_args(tyro.conf.Positional[str])[1]
# Options of every command, which are no fields.
_ALWAYS = ("--help", "-h", "--log-format", "--log-level", "--verbose")


def refuse_unknown_names(kind: type[Any], words: Sequence[str]) -> None:
    """Raise ConfigError for the first option or choice that the dataclass ``kind`` does not have.

    The parser refuses all other wrong command lines.
    """
    known = _options(kind, "")
    names = [*known, *_ALWAYS]
    for place, word in enumerate(words):
        if word == "--":
            return
        if not word.startswith("--"):
            continue
        name, equals, value = word.partition("=")
        option = name.replace("_", "-")
        if option not in names:
            raise ConfigError(f"unknown option {name}{did_you_mean(option, names)}")
        choices = known.get(option)
        if choices:
            value = value if equals else "".join(words[place + 1 : place + 2])
            if value and not value.startswith("-") and value not in choices:
                raise ConfigError(
                    f"{name} is {value!r}, expected {', '.join(choices)}"
                    f"{did_you_mean(value, choices)}"
                )


def refuse_missing_options(kind: type[Any], words: Sequence[str]) -> None:
    """Raise ConfigError if ``words`` lack a required option of the dataclass ``kind``."""
    given = {word.partition("=")[0].replace("_", "-") for word in words}
    if given & {"--help", "-h"}:
        return
    hints = get_type_hints(kind, include_extras=True)
    missing = {}
    for item in dataclasses.fields(kind):
        required = item.default is item.default_factory is dataclasses.MISSING
        option = f"--{item.name.replace('_', '-')}"
        if required and option not in given and _POSITIONAL not in get_args(hints[item.name]):
            missing[item.name] = option
    if missing:
        texts = option_texts(kind)  # it parses the source of the options
        named = [
            f"{option} ({texts.get(name, '').partition('. ')[0].rstrip('.')})"
            for name, option in missing.items()
        ]
        raise ConfigError(f"missing {' and '.join(named)}")


def _options(kind: type[Any], prefix: str) -> dict[str, tuple[str, ...]]:
    """Return the options of a dataclass by name, each with its choices (empty if it has none)."""
    options: dict[str, tuple[str, ...]] = {}
    hints = get_type_hints(kind, include_extras=True)
    for item in dataclasses.fields(kind):
        hint, flat = hints[item.name], False
        while get_origin(hint) is Annotated:
            flat = flat or any(getattr(extra, "name", None) == "" for extra in hint.__metadata__)
            hint = get_args(hint)[0]
        name = item.name.replace("_", "-")
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            options |= _options(hint, prefix if flat else f"{prefix}{name}.")
            continue
        options[f"--{prefix}{name}"] = _choices(hint)
        if hint is bool:
            options[f"--{prefix}no-{name}"] = ()
    return options


def _choices(hint: Any) -> tuple[str, ...]:
    if get_origin(hint) is Annotated:
        return _choices(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return tuple(str(value) for value in get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        others = [one for one in get_args(hint) if one is not NoneType]
        return _choices(others[0]) if len(others) == 1 else ()
    return ()
