"""Data whose titles contain markup and other hostile text."""

from __future__ import annotations

import numpy as np

from tests.helpers.runs import ROWS

# A browser must render these as text. matplotlib would typeset some as formulas.
HOSTILE = (
    "<script>document.title = 'taken'</script>",
    '"><img src=x onerror="document.title=\'taken\'">',
    "</style></title></svg><b>bold</b>",
    "javascript:alert(1) & co &lt;i&gt;",
    "https://example.org/pixel.png $\\frac{1}{$",
    "a very long title without any place to break it " + "x" * 200,
)


def show_arrays(rows: int = ROWS) -> dict[str, np.ndarray]:
    """Titles from HOSTILE in rotation, and thumbnails of one colour each."""
    titles = np.array([f"{HOSTILE[row % len(HOSTILE)]} {row}" for row in range(rows)])
    pixels = np.random.default_rng(0).integers(0, 256, (rows, 1, 1, 3), dtype=np.uint8)
    return {"titles": titles, "thumbnails": np.repeat(np.repeat(pixels, 6, axis=1), 6, axis=2)}
