"""Values of side arrays as text to show."""

from __future__ import annotations

import numpy as np

from srch_dist.kernels.types import Array


def shown_text(values: Array) -> str:
    """Return the values of one row as text; see `FeatureStore.show`."""
    texts = (str(value).strip() for value in np.ravel(values))
    return " / ".join(_once(text) for text in texts if text)


def _once(text: str) -> str:
    """Return "x" for the text "x, x"; any other text unchanged."""
    half = text[: len(text) // 2 - 1]
    return half if half and text == f"{half}, {half}" else text
