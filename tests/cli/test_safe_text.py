"""Characters that act on a terminal or reorder a line never reach one."""

from __future__ import annotations

import json
import unicodedata
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress, TextColumn
from rich.table import Table

from srch_dist.cli.progress import on_console
from srch_dist.cli.safe_text import SafeConsole, dump_json, visible
from srch_dist.runtime.progress import table_lines


def acts(character: str) -> bool:
    """Whether a character is a control, or changes the direction of text."""
    directions = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    return (
        (unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\t\n")
        or unicodedata.bidirectional(character) in directions
        or character in "\u200e\u200f\u061c"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b[31mred", "\\x1b[2J\\x1b[31mred"),
        ("\x1b]52;c;cm0=\x07", "\\x1b]52;c;cm0=\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202edef", "abc\\u202edef"),
        ("👩\u200d🔬 \u2764\ufe0f é 中文 العربية", "👩\u200d🔬 \u2764\ufe0f é 中文 العربية"),
        ("tab\tand\nline", "tab\tand\nline"),
    ],
)
def test_what_acts_is_written_out_and_the_rest_stays(text, shown):
    assert visible(text) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_acts_afterwards_and_json_keeps_the_value(text):
    assert not any(acts(character) for character in visible(text))
    written = dump_json({"text": text})
    assert not any(acts(character) for character in written)
    assert json.loads(written) == {"text": text}


@pytest.mark.parametrize("name", ["[/x]", "[red]a", "[link=x]", ":smile:", "\\[b]"])
def test_names_are_no_markup_in_tables_titles_and_bars(name):
    table = Table(name, title=name)
    table.add_row(name)
    console = SafeConsole(file=StringIO(), width=80)
    console.print(table)
    console.print(name)
    bars = Progress(TextColumn("{task.description}", markup=False), console=console)
    bars.add_task(name)
    console.print(bars.get_renderable())
    assert console.file.getvalue().count(name) == 5
    assert "\n".join(table_lines(table)).count(name) == 3


def test_a_stage_with_brackets_is_shown_as_it_is():
    console = SafeConsole(file=StringIO(), width=80, force_terminal=True)
    with on_console(console).stage("encode [/x]", 2) as stage:
        stage.advance()
    assert "encode [/x]" in console.file.getvalue()
