"""Runs with pages, on data with titles that try to be more than text."""

from __future__ import annotations

import numpy as np
import pytest
from test_training import ROWS, make_pairs, make_store, train_here

# What a browser must not take for anything but text, and what matplotlib would set as formulas.
HOSTILE = (
    "<script>document.title = 'taken'</script>",
    '"><img src=x onerror="document.title=\'taken\'">',
    "</style></title></svg><b>bold</b>",
    "javascript:alert(1) & co &lt;i&gt;",
    "https://example.org/pixel.png $\\frac{1}{$",
    "a very long title without any place to break it " + "x" * 200,
)


def show_arrays(rows: int = ROWS) -> dict[str, np.ndarray]:
    """Titles, which are hostile by turns, and pictures of one colour each."""
    titles = np.array([f"{HOSTILE[row % len(HOSTILE)]} {row}" for row in range(rows)])
    pixels = np.random.default_rng(0).integers(0, 256, (rows, 1, 1, 3), dtype=np.uint8)
    return {"titles": titles, "thumbnails": np.repeat(np.repeat(pixels, 6, axis=1), 6, axis=2)}


@pytest.fixture(scope="package")
def shown(tmp_path_factory):
    """A run of two modalities with labels, titles and thumbnails, in a folder named to harm."""
    folder = tmp_path_factory.mktemp("shown")
    store = make_store(folder, 25, **make_pairs(**show_arrays()))
    out = folder / "_<i>$a$ & 'b'"
    return train_here(
        store.path, out, partition_rows=20, seed=7, baseline=True, report=True, preset="balanced"
    )


@pytest.fixture(scope="package")
def other(shown):
    """A run with other options on the same data; its baseline is the same."""
    out = shown.run.path.parent / "other"
    return train_here(
        shown.store.path, out, partition_rows=20, seed=7, bits=24, graph={"k": 7}, baseline=True
    )
