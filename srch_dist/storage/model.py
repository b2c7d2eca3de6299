"""The model file: a plain .npz that NumPy reads without pickle, so it is safe to open."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import StorageError

FORMAT = 1
# What a damaged .npz makes NumPy and zipfile raise.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Anchors:
    """What similarities to anchor rows add to the scores of a modality.

    Attributes
    ----------
    rows : (m, d_g) normalised features. encoder : (l, m). offset : (l,).
    bandwidth : squared distance that the similarity is measured by.
    """

    rows: Matrix
    encoder: Matrix
    offset: Matrix
    bandwidth: float


@dataclass(frozen=True)
class Model:
    """What it takes to encode rows that were not trained on.

    Attributes
    ----------
    means : (d_g,) by modality, subtracted before rows are scaled to unit length.
    projections : W_g (l, d_g), Eq. 11.
    encoders : (l, d_g), what codes are taken the sign of: W_g (Eq. 18) or a ridge regression.
    anchors : by modality what is added to that; empty without the anchor encoder.
    bits : l. center, unit_norm : how features are normalised.
    metadata : versions and options, for the record.
    """

    means: Mapping[str, Matrix]
    projections: Mapping[str, Matrix]
    encoders: Mapping[str, Matrix]
    anchors: Mapping[str, Anchors]
    bits: int
    center: bool
    unit_norm: bool
    metadata: Mapping[str, Any]


def save_model(path: Path, model: Model) -> None:
    """Write the model file in one step."""
    header = {
        "format": FORMAT,
        "modalities": list(model.means),
        "anchors": list(model.anchors),
        "bits": model.bits,
        "center": model.center,
        "unit_norm": model.unit_norm,
        "metadata": dict(model.metadata),
    }
    members: dict[str, Any] = {"header": np.array(json.dumps(header))}
    for g in model.means:
        members[f"mean/{g}"] = model.means[g]
        members[f"projection/{g}"] = model.projections[g]
        members[f"encoder/{g}"] = model.encoders[g]
    for g, anchors in model.anchors.items():
        members[f"anchors/{g}/rows"] = anchors.rows
        members[f"anchors/{g}/encoder"] = anchors.encoder
        members[f"anchors/{g}/offset"] = anchors.offset
        members[f"anchors/{g}/bandwidth"] = np.array(anchors.bandwidth)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(file, **members)
    partial.replace(path)


def load_model(path: str | Path) -> Model:
    """Read a model file, or the one of a finished run given by its directory.

    Raises
    ------
    StorageError : nothing there, or not a model of this format.
    """
    file = Path(path) / "model.npz" if Path(path).is_dir() else Path(path)
    try:
        with np.load(file, allow_pickle=False) as members:
            header = json.loads(str(members["header"]))
            if header["format"] != FORMAT:
                raise StorageError(f"{file} has format {header['format']}, expected {FORMAT}")
            names = header["modalities"]
            return Model(
                {g: members[f"mean/{g}"] for g in names},
                {g: members[f"projection/{g}"] for g in names},
                {g: members[f"encoder/{g}"] for g in names},
                {g: _read_anchors(members, g) for g in header["anchors"]},
                header["bits"],
                header["center"],
                header["unit_norm"],
                header["metadata"],
            )
    except (*_DAMAGE, OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"cannot read the model {file}: {error}") from None


def _read_anchors(members: Mapping[str, Any], g: str) -> Anchors:
    rows, encoder, offset, bandwidth = (
        members[f"anchors/{g}/{name}"] for name in ("rows", "encoder", "offset", "bandwidth")
    )
    return Anchors(rows, encoder, offset, float(bandwidth))
