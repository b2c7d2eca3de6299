"""Paired features with known classes on curved manifolds of low dimension, any number of rows.

A row is a class, drawn with unequal weights, and a point of a Gaussian cloud about the centre of
its class in a latent space of ``INTRINSIC`` dimensions. Each modality sees the point with some
error of its own, sends it through random waves (a smooth map that bends every direction), mixes the
waves into its d_g features and adds noise. Some rows repeat an earlier one, in one modality or in
both.

A row depends on the seed and its number alone: rows are made in cells of ``CELL`` rows, each from a
generator of its own, so any run of rows can be made by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.storage.feature_store import FeatureStore, FeatureWriter

Array = NDArray[Any]

CELL = 1024
INTRINSIC, CLASSES, WAVES = 20, 40, 256
# Spread of the classes' centres and of the rows about them, and of what a modality sees amiss.
_CENTRES, _WITHIN, _AMISS = 0.8, 1.0, 0.25
# Length of the noise, as a share of that of the features.
_NOISE = 0.05
# Share of the rows that repeat an earlier one of their cell: in both modalities, in the second.
_REPEATED, _REPEATED_SECOND = 0.01, 0.05
_CHUNK_BYTES = 32 << 20


@dataclass(frozen=True)
class Manifolds:
    """A source of rows; see the module."""

    dims: Mapping[str, int]
    seed: int = 0

    def block(self, start: int, stop: int) -> dict[str, Array]:
        """Rows ``start`` … ``stop`` - 1: (rows, d_g) by modality, and ``labels`` (rows,)."""
        cells = range(start // CELL, -(-stop // CELL))
        shared = self._shared()
        parts = [self._cell(number, shared) for number in cells]
        offset = start - cells[0] * CELL
        own = slice(offset, offset + stop - start)
        return {name: np.concatenate([part[name] for part in parts])[own] for name in parts[0]}

    def _cell(self, number: int, shared: Mapping[str, Array]) -> dict[str, Array]:
        rng = np.random.default_rng([self.seed, 1, number])
        labels = rng.choice(CLASSES, size=CELL, p=shared["weights"])
        points = shared["centres"][labels] + _WITHIN * _normal(rng, CELL, INTRINSIC)
        source = np.arange(CELL)
        earlier = rng.integers(0, np.maximum(source, 1))
        repeated = rng.random((2, CELL))
        rows: dict[str, Array] = {}
        for position, (g, dims) in enumerate(self.dims.items()):
            seen = points + _AMISS * _normal(rng, CELL, INTRINSIC)
            waves = np.sin(seen @ shared[f"directions {g}"] + shared[f"phases {g}"])
            features = waves @ shared[f"mixing {g}"]
            features += np.float32(_NOISE / np.sqrt(2)) * _normal(rng, CELL, dims)
            share = _REPEATED + (_REPEATED_SECOND if position else 0.0)
            own = np.where(repeated[0] < share, earlier, source)
            rows[g] = features[own]
        rows["labels"] = labels[np.where(repeated[0] < _REPEATED, earlier, source)].astype(np.int16)
        return rows

    def _shared(self) -> dict[str, Array]:
        """What all cells have in common."""
        rng = np.random.default_rng([self.seed, 0])
        weights = 1.0 / np.arange(1, CLASSES + 1) ** 0.8
        found = {
            "weights": weights / weights.sum(),
            "centres": _CENTRES * _normal(rng, CLASSES, INTRINSIC),
        }
        for g, dims in self.dims.items():
            # Waves about as long as a class is wide.
            scale = np.float32(1 / np.sqrt(INTRINSIC))
            found[f"directions {g}"] = scale * _normal(rng, INTRINSIC, WAVES)
            found[f"phases {g}"] = rng.uniform(0, 2 * np.pi, WAVES).astype(np.float32)
            found[f"mixing {g}"] = _normal(rng, WAVES, dims) / np.float32(np.sqrt(WAVES))
        return found


def _normal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    return rng.standard_normal((rows, columns), dtype=np.float32)


def write_store(
    path: str | Path,
    rows: int,
    queries: int,
    source: Manifolds,
    advance: Callable[[int], None] | None = None,
) -> FeatureStore:
    """Write a feature store chunk by chunk; one row in rows / queries is a query.

    Queries are spread evenly. At most one chunk is in memory.
    """
    widest = max(source.dims.values())
    chunk = min(rows, max(CELL, _CHUNK_BYTES // (4 * widest) // CELL * CELL))
    specs: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
        g: ((rows, dims), np.dtype(np.float32)) for g, dims in source.dims.items()
    }
    specs |= {"labels": ((rows,), np.dtype(np.int16)), "split": ((rows,), np.dtype(np.uint8))}
    writer = FeatureWriter(path, specs, tuple(source.dims), chunk)
    try:
        for start in range(0, rows, chunk):
            stop = min(start + chunk, rows)
            block = source.block(start, stop)
            numbers = np.arange(start, stop)
            block["split"] = (numbers * queries // rows < (numbers + 1) * queries // rows).astype(
                np.uint8
            )
            for name in specs:
                writer.write(name, start, block[name])
            if advance is not None:
                advance(stop - start)
        return writer.finish({})
    except BaseException:
        writer.discard()
        raise
