"""Text from data made safe to print: control, escape and bidirectional characters become visible.

Captions, names and ids come from files of strangers. Raw, they can clear a terminal, set its title,
write its clipboard (OSC 52) or reverse the order of a line. See Unicode TR 36, "Bidirectional text
spoofing".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# C0 and DEL but tab and newline, C1, and what changes the direction of text. The joiners and
# variation selectors of emoji and of Indic scripts (U+200C, U+200D, U+FE0F) are harmless.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Text with every unsafe character written as its escape, as ``\x1b`` or ``\u202e``.

    Tabs and newlines stay.
    """
    return _LONE_SURROGATE.sub(_escape, _UNSAFE.sub(_escape, text))


def dump_json(value: Any, indent: int | None = None) -> str:
    """JSON in UTF-8 that is safe to print: unsafe characters stay in their JSON escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    # Outside of strings JSON has no such characters, so that this changes strings alone.
    text = _LONE_SURROGATE.sub(_json_escape, text)
    return _UNSAFE.sub(_json_escape, text)


class SafeConsole(Console):
    """A console on which text of data cannot act: it prints everything as `visible` does.

    Colours and cursor movements of rich itself stay.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Segments of a renderable, with unsafe characters replaced by their escapes."""
        for segment in super().render(renderable, options):
            if segment.control or not _UNSAFE.search(segment.text):
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Let the command end: it knows the exit code."""
        raise BrokenPipeError


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def _json_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
