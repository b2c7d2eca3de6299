"""Generate paired features with classes on curved low-dimensional manifolds, for any row count.

A row has a class, drawn with unequal weights, and a latent point: Gaussian around the centre of its
class, in ``INTRINSIC`` dimensions. Each modality perturbs the point independently and maps it
through random sine waves, which bend every direction. It mixes the waves into its d_g features and
adds noise. Some rows repeat an earlier row, in one modality or in both.

A row depends only on the seed and its row number. Rows are generated in cells of ``CELL`` rows,
each with its own generator, so any range of rows can be generated alone.
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
# Standard deviations: class centres, rows within a class, perturbation by a modality.
_CENTRES, _WITHIN, _PERTURBATION = 0.8, 1.0, 0.25
# Noise norm relative to the feature norm.
_NOISE = 0.05
# Share of rows that repeat an earlier row of their cell: in both modalities, in the second only.
_REPEATED, _REPEATED_SECOND = 0.01, 0.05
_CHUNK_BYTES = 32 << 20


@dataclass(frozen=True)
class Manifolds:
    """Row generator.

    Attributes
    ----------
    dims : mapping of modality name to d_g
    seed : int
    """

    dims: Mapping[str, int]
    seed: int = 0

    def block(self, start: int, stop: int) -> dict[str, Array]:
        """Rows ``start`` … ``stop`` - 1: float32 (rows, d_g) by modality, ``labels`` (rows,)."""
        cells = range(start // CELL, -(-stop // CELL))
        shared = self._shared()
        parts = [self._cell(number, shared) for number in cells]
        offset = start - cells[0] * CELL
        rows = slice(offset, offset + stop - start)
        return {name: np.concatenate([part[name] for part in parts])[rows] for name in parts[0]}

    def _cell(self, number: int, shared: Mapping[str, Array]) -> dict[str, Array]:
        """All rows of a cell."""
        rng = np.random.default_rng([self.seed, 1, number])
        labels = rng.choice(CLASSES, size=CELL, p=shared["weights"])
        points = shared["centres"][labels] + _WITHIN * _normal(rng, CELL, INTRINSIC)
        source = np.arange(CELL)
        earlier = rng.integers(0, np.maximum(source, 1))
        repeated = rng.random((2, CELL))
        rows: dict[str, Array] = {}
        for position, (g, dims) in enumerate(self.dims.items()):
            perturbed = points + _PERTURBATION * _normal(rng, CELL, INTRINSIC)
            waves = np.sin(perturbed @ shared[f"directions {g}"] + shared[f"phases {g}"])
            features = waves @ shared[f"mixing {g}"]
            features += np.float32(_NOISE / np.sqrt(2)) * _normal(rng, CELL, dims)
            share = _REPEATED + (_REPEATED_SECOND if position else 0.0)
            rows[g] = features[np.where(repeated[0] < share, earlier, source)]
        rows["labels"] = labels[np.where(repeated[0] < _REPEATED, earlier, source)].astype(np.int16)
        return rows

    def _shared(self) -> dict[str, Array]:
        """Class weights and centres, and the waves and mixing matrix of each modality."""
        rng = np.random.default_rng([self.seed, 0])
        weights = 1.0 / np.arange(1, CLASSES + 1) ** 0.8
        shared = {
            "weights": weights / weights.sum(),
            "centres": _CENTRES * _normal(rng, CLASSES, INTRINSIC),
        }
        for g, dims in self.dims.items():
            # The wavelength is about the width of a class.
            scale = np.float32(1 / np.sqrt(INTRINSIC))
            shared[f"directions {g}"] = scale * _normal(rng, INTRINSIC, WAVES)
            shared[f"phases {g}"] = rng.uniform(0, 2 * np.pi, WAVES).astype(np.float32)
            shared[f"mixing {g}"] = _normal(rng, WAVES, dims) / np.float32(np.sqrt(WAVES))
        return shared


def _normal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    return rng.standard_normal((rows, columns), dtype=np.float32)


def write_store(
    path: str | Path,
    rows: int,
    queries: int,
    source: Manifolds,
    advance: Callable[[int], None] | None = None,
) -> FeatureStore:
    """Write a feature store chunk by chunk, with one chunk in memory.

    Parameters
    ----------
    path : path-like
        New store.
    rows, queries : int
        All rows, and how many of them are queries (split 1), spread evenly.
    source : Manifolds
    advance : callable, optional
        Called with the number of rows of each chunk written.
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
