"""Open what `encode` reads: a feature store, or a file or folder with the rows of one modality."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from srch_dist.config.nearest import did_you_mean
from srch_dist.encode.model import Model
from srch_dist.encode.scoring import check_modality, modality_of_width
from srch_dist.errors import InputError
from srch_dist.ingest.checks import check_block
from srch_dist.ingest.sources.base import Source
from srch_dist.ingest.sources.contents import may_be_modality, native_text
from srch_dist.ingest.sources.formats import is_zarr, open_source
from srch_dist.kernels.types import Array
from srch_dist.storage.feature_store import FeatureStore, open_store
from srch_dist.storage.locations import Location, locate


@dataclass(frozen=True)
class FileInput:
    """Rows of one modality in files that were not ingested.

    Attributes
    ----------
    path : file or folder.
    source : the opened source, which streams blocks of rows.
    array : name of the array in the source.
    rows, width : its shape.
    """

    path: Path
    source: Source
    array: str
    rows: int
    width: int

    def blocks(self, rows: int, start: int = 0) -> Iterator[tuple[int, Array]]:
        """Yield (first row, block) in order, in blocks of ``rows`` rows.

        Raises
        ------
        InputError : the file cannot be read, or a row holds NaN or Inf.
        """
        for block in self.source.blocks(self.array, rows, start):
            check_block(str(self.path), self.array, block, start, modality=True)
            yield start, block
            start += len(block)
        if start != self.rows:
            raise InputError(f"{self.path}: {self.array} is truncated: {start} of {self.rows} rows")

    def read_side(self, name: str) -> Array:
        """Read a side array of the source, one value per row."""
        specs = self.source.specs()
        if name not in specs or specs[name][0] != (self.rows,):
            fitting = [key for key, (shape, _) in specs.items() if shape == (self.rows,)]
            raise InputError(
                f"{self.path} has no column {name!r} with one value per row; it has "
                f"{', '.join(fitting) or 'none'}{did_you_mean(name, fitting)}"
            )
        return native_text(next(iter(self.source.blocks(name, self.rows))))


def open_input(
    data: str | Location, model: Model, modality: str, array: str | None = None
) -> FeatureStore | FileInput:
    """Open features of one modality.

    Parameters
    ----------
    data : feature store, or a local file or folder that ingest can read.
    model : the model that will encode the rows.
    modality : name of the modality.
    array : array or column of a file or folder; None chooses it.

    Raises
    ------
    InputError : the path has no such array, or its width is not that of the modality in training.
    """
    place = locate(data)
    if not isinstance(place, Path) or _is_store(place):
        if array is not None and array != modality:
            raise InputError(f"{place} is a feature store; --array is for files and folders")
        return open_store(place)
    check_modality(model, modality)
    source = open_source(place)
    try:
        name = _choose(source, model, modality, array)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    rows, width = source.specs()[name][0]
    return FileInput(place, source, name, rows, width)


def _is_store(place: Path) -> bool:
    """Whether a path should be opened as a feature store: also one that is missing or damaged."""
    if not place.exists():
        return place.suffix in ("", ".zarr")
    if not is_zarr(place):
        return place.is_dir() and not any(place.iterdir())
    try:
        described = json.loads((place / "zarr.json").read_text(encoding="utf-8"))
        return bool(described["node_type"] == "group")
    except (OSError, ValueError, KeyError, TypeError):
        return (place / "zarr.json").exists()


def _choose(source: Source, model: Model, modality: str, array: str | None) -> str:
    """Return the name of the array to encode; see `open_input`."""
    specs, width = source.specs(), len(model.means[modality])
    if array is not None and array in source.unreadable:
        raise InputError(f"{array} {source.unreadable[array]}")
    matrices = [name for name, spec in specs.items() if may_be_modality(*spec)]
    fitting = [name for name in matrices if specs[name][0][1] == width]
    if array is None:
        if modality in matrices:
            array = modality
        elif len(fitting) == 1 or len(matrices) == 1:
            array = (fitting or matrices)[0]
        else:
            reasons = "; ".join(f"{name} {why}" for name, why in source.unreadable.items())
            raise InputError(
                f"which array holds the rows of {modality} ({width} dimensions)? Name it with "
                f"--array; known: {', '.join(fitting or matrices) or 'none'}"
                f"{f'. Unreadable: {reasons}' if reasons else ''}"
            )
    if array not in specs:
        raise InputError(
            f"there is no array {array!r}; it has {', '.join(specs)}{did_you_mean(array, specs)}"
        )
    shape, dtype = specs[array]
    if len(shape) != 2 or dtype.kind not in "fiub":
        raise InputError(f"{array} has shape {shape} of {dtype}, expected numbers (n, {width})")
    if shape[1] != width:
        raise InputError(
            f"{array} has {shape[1]} dimensions; the model was trained on {width} for {modality}"
            f"{modality_of_width(model, shape[1:])}"
        )
    if shape[0] < 1:
        raise InputError(f"{array} has no rows")
    return array
