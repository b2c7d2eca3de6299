"""Characters that act on a terminal or reorder a line never reach one."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srch_dist.cli.safe_text import dump_json, visible


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
