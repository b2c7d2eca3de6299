"""Print every option of every command for docs/reference/commands.md, from the commands themselves.

    python -m pipelines.docs.commands

Names, defaults and help texts are those that ``--help`` shows.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from unittest import mock

import tyro

from srch_dist.__main__ import COMMANDS, command_module
from srch_dist.cli.command import FLAT
from srch_dist.cli.help_texts import option_texts
from srch_dist.cli.logs import LogOptions

_POSITIONAL = tyro.conf.Positional[int].__metadata__[0]  # type: ignore[attr-defined]
_SUPPRESS = tyro.conf.Suppress[int].__metadata__[0]  # type: ignore[attr-defined]


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a command, as its help shows it."""

    name: str
    value: str
    default: str
    text: str
    positional: bool
    short: tuple[str, ...] = ()


def options_class(name: str) -> type[Any]:
    """The dataclass of a command's options."""
    module = command_module(name)
    with mock.patch.object(module, "run_command") as run:
        module.main([])
    kind: type[Any] = run.call_args.args[1]
    return kind


def options(kind: type[Any], prefix: str = "") -> Iterator[Option]:
    """All options of a dataclass, those of nested dataclasses included."""
    hints, texts = get_type_hints(kind, include_extras=True), option_texts(kind)
    for item in dataclasses.fields(kind):
        hint = hints[item.name]
        marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield from options(inner, prefix if FLAT in marks else f"{prefix}{item.name}.")
            continue
        if _SUPPRESS in marks:
            continue
        positional = _POSITIONAL in marks
        metavars = (getattr(mark, "metavar", None) for mark in marks)
        shown = next(filter(None, metavars), item.name.upper()) if positional else item.name
        name = f"{prefix}{shown}".replace("_", "-")
        short = tuple(chain.from_iterable(getattr(mark, "aliases", None) or () for mark in marks))
        text = texts.get(item.name, "")
        yield Option(name, _value(inner), _default(item), text, positional, short)


def _value(hint: Any) -> str:
    """The values that an option takes, as its help shows them."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _value(get_args(hint)[0])
    if origin is Literal:
        return " ".join(str(value) for value in get_args(hint))
    if origin in (Union, types.UnionType):
        return " or ".join(_value(one) for one in get_args(hint) if one is not type(None))
    if origin in (tuple, list):
        return f"{_value(get_args(hint)[0])} …"
    return {"str": "TEXT", "bool": "flag"}.get(hint.__name__, hint.__name__.upper())


def _default(item: dataclasses.Field[Any]) -> str:
    value = item.default
    if value is dataclasses.MISSING and item.default_factory is not dataclasses.MISSING:
        value = item.default_factory()
    if value is dataclasses.MISSING:
        return "required"
    if value is None or value == ():
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def table(rows: Iterator[Option]) -> str:
    """Options as a Markdown table."""
    lines = ["| option | value | default | description |", "|---|---|---|---|"]
    for row in rows:
        name = row.name if row.positional else f"--{row.name}"
        names = ", ".join(f"`{one}`" for one in (*row.short, name))
        cells = (names, row.value, row.default, row.text)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The sections of all commands as Markdown."""
    text = "| command | does |\n|---|---|\n"
    text += "".join(f"| [{name}](#{name}) | {summary} |\n" for name, summary in COMMANDS.items())
    text += "\n## Log options\n\nEvery command has these:\n\n" + table(options(LogOptions))
    for name in COMMANDS:
        kind = options_class(name)
        intro = re.sub(r"\s*\n\s*", " ", re.sub(r"\n\n\s*", "\0", (kind.__doc__ or "").strip()))
        text += f"\n## {name}\n\n{intro.replace(chr(0), chr(10) * 2)}\n\n"
        if name == "train":
            text += "[Options](../options.md) has the measured effect of each.\n\n"
        text += table(options(kind))
    return text


if __name__ == "__main__":
    print(page())
