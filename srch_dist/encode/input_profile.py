"""Notice rows that a model can encode but was not trained on: zeros, and another modality."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from srch_dist.encode.model import Model
from srch_dist.kernels.types import Array

# Rows without which the means of two modalities are not compared.
_FEWEST_ROWS = 5
# Standard errors by which rows must be nearer to another modality's mean.
_ERRORS = 3.0
# Rows of zeros that a message lists.
_LISTED = 5


@dataclass
class InputProfile:
    """What was seen of rows to encode as one modality.

    A row's place t between two training means is 0 at the mean of its modality and 1 at the mean of
    another modality of the same width. Modalities of one aligned model, such as CLIP, lie apart.

    Attributes
    ----------
    rows : number of rows seen.
    zeros : numbers of the first rows of zeros.
    zero_count : number of rows of zeros.
    places : by other modality: sums of t and of t².
    """

    rows: int = 0
    zeros: list[int] = field(default_factory=list)
    zero_count: int = 0
    places: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, other: InputProfile) -> None:
        """Add the profile of later rows."""
        self.rows += other.rows
        self.zeros = (self.zeros + other.zeros)[:_LISTED]
        self.zero_count += other.zero_count
        for name, (first, second) in other.places.items():
            before = self.places.get(name, (0.0, 0.0))
            self.places[name] = before[0] + first, before[1] + second

    def warnings(self, modality: str) -> list[str]:
        """Return what the user should know about rows that were encoded as ``modality``."""
        found = []
        if self.zero_count:
            listing = ", ".join(map(str, self.zeros))
            more = ", …" if self.zero_count > len(self.zeros) else ""
            found.append(
                f"{modality}: {self.zero_count} of {self.rows} rows are zeros (row {listing}"
                f"{more}). Their codes mean nothing; check the feature extractor"
            )
        for name in self._nearer():
            found.append(
                f"{modality}: the rows lie nearer to the training mean of {name} than to that of "
                f"{modality}, and both have the same width. Are these features of {name}?"
            )
        return found

    def _nearer(self) -> list[str]:
        if self.rows < _FEWEST_ROWS:
            return []
        found = []
        for name, (first, second) in self.places.items():
            mean = first / self.rows
            error = math.sqrt(max(0.0, second / self.rows - mean * mean) / self.rows)
            if mean - 0.5 > _ERRORS * error:
                found.append(name)
        return found


def profile_rows(model: Model, modality: str, rows: Array, start: int = 0) -> InputProfile:
    """Profile raw features (n, d_g) of rows ``start`` and following."""
    values = np.asarray(rows, np.float64)
    zeros = np.flatnonzero(~values.any(axis=1)) + start
    places = {}
    for name, (origin, direction) in _directions(model, modality).items():
        t = (values - origin) @ direction
        places[name] = float(t.sum()), float(t @ t)
    return InputProfile(len(values), zeros[:_LISTED].tolist(), len(zeros), places)


def _directions(model: Model, modality: str) -> Mapping[str, tuple[Array, Array]]:
    """Return for each other modality of the same width the mean to start at, and gap / ‖gap‖²."""
    origin = model.means[modality].astype(np.float64)
    found = {}
    for name, mean in model.means.items():
        gap = mean - origin if mean.shape == origin.shape else np.zeros(1)
        if name != modality and gap.any():
            found[name] = origin, gap / (gap @ gap)
    return found
