"""Escape control, escape and bidirectional characters in text from data before it is printed.

Captions, names and ids come from untrusted files. Unescaped, they can clear a terminal, set its
title, write the clipboard (OSC 52) or reverse the order of a line. See Unicode TR 36,
"Bidirectional text spoofing".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# C0 and DEL except tab and newline, C1, and characters that change the direction of text. Joiners
# and variation selectors of emoji and Indic scripts (U+200C, U+200D, U+FE0F) are harmless.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Replace every unsafe character by its escape, such as ``\x1b`` or ``\u202e``.

    Tabs and newlines are kept.
    """
    return _LONE_SURROGATE.sub(_escape, _UNSAFE.sub(_escape, text))


def dump_json(value: Any, indent: int | None = None) -> str:
    """Convert a value to JSON text that is safe to print: unsafe characters are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    # JSON has such characters only inside strings, so nothing else changes.
    text = _LONE_SURROGATE.sub(_json_escape, text)
    return _UNSAFE.sub(_json_escape, text)


class SafeConsole(Console):
    """A rich console that escapes unsafe characters in all text, as `visible` does.

    Brackets are no markup and colons no emoji, also in the cells and titles of tables. The colours
    and cursor movements that rich adds are kept.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render an object to segments, with unsafe characters replaced by their escapes."""
        for segment in super().render(renderable, options):
            if segment.control or not _UNSAFE.search(segment.text):
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError, so that the command exits with its own exit code."""
        raise BrokenPipeError


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def _json_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
