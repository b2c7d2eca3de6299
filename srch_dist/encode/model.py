"""Model of a run, and its .npz file; opening the file is safe, because no pickle is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from srch_dist.errors import StorageError
from srch_dist.kernels.types import Matrix
from srch_dist.storage.atomic_files import read_bytes
from srch_dist.storage.locations import Location, locate
from srch_dist.storage.run.head import read_record
from srch_dist.storage.safe_npz import unpack_npz, write_npz

FORMAT = 1


@dataclass(frozen=True)
class Anchors:
    """Anchor term of a modality's scores: ``encoder @ exp(-‖x - rows‖² / bandwidth) + offset``.

    Attributes
    ----------
    rows : (m, d_g) normalised features of the m anchors.
    encoder : (l, m) weights.
    offset : (l,) constant that is added to the scores.
    bandwidth : width of the Gaussian, a squared distance.
    """

    rows: Matrix
    encoder: Matrix
    offset: Matrix
    bandwidth: float


@dataclass(frozen=True)
class Model:
    """Out-of-sample encoders of a run: a row's code is the sign of its scores.

    Except for ``metadata``, the keys of mappings are modalities, in the order of the store.

    Attributes
    ----------
    means : (d_g,) mean, subtracted from features before they are scaled to unit norm.
    projections : W_g (l, d_g), Eq. 11.
    encoders : (l, d_g) linear part of the scores: W_g (Eq. 18) or a ridge regression.
    anchors : anchor part of the scores; empty if ``method.encoder`` was not "anchors".
    bits : number l of bits per code.
    center, unit_norm : whether features are centred and scaled to unit norm.
    metadata : versions and options of the run; encoding does not use them.
    """

    means: Mapping[str, Matrix]
    projections: Mapping[str, Matrix]
    encoders: Mapping[str, Matrix]
    anchors: Mapping[str, Anchors]
    bits: int
    center: bool
    unit_norm: bool
    metadata: Mapping[str, Any]

    def __repr__(self) -> str:
        dims = ", ".join(f"{g} {len(mean)}" for g, mean in self.means.items())
        encoder = f"{len(self.anchors)} anchor encoders" if self.anchors else "linear encoders"
        return f"Model({self.bits} bits, dimensions: {dims}; {encoder})"


# Pickles store these public names, so a pickle can be loaded after the module moves.
Anchors.__module__ = Model.__module__ = "srch_dist"


def save_model(path: Location, model: Model) -> None:
    """Write the model file atomically."""
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
    write_npz(path, members)


def load_model(path: str | Location) -> Model:
    """Load a model from its file, or from the directory of a finished run.

    Raises
    ------
    StorageError : the file does not exist, is damaged, or has another format.
    """
    file, content = _read_file(path)
    members = unpack_npz(content, f"the model {file}")
    try:
        header = json.loads(str(members["header"]))
        if header["format"] != FORMAT:
            raise StorageError(f"{file} has format {header['format']}, expected {FORMAT}")
        names = header["modalities"]
        model = Model(
            {g: members[f"mean/{g}"] for g in names},
            {g: members[f"projection/{g}"] for g in names},
            {g: members[f"encoder/{g}"] for g in names},
            {g: _read_anchors(members, g) for g in header["anchors"]},
            header["bits"],
            header["center"],
            header["unit_norm"],
            header["metadata"],
        )
        _check(model)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(f"cannot read the model {file}: {error!r}") from None
    return model


def _read_file(path: str | Location) -> tuple[Location, bytes]:
    location = locate(path) if str(path).startswith("s3://") else Path(str(path))
    # An object store has no folders, so the suffix decides.
    is_run = location.is_dir() if isinstance(location, Path) else location.suffix != ".npz"
    if is_run:
        return location / "model.npz", read_record(location / "model.npz")
    if isinstance(location, Path) and not location.exists():
        raise StorageError(
            f"{location} does not exist. Give a model file or the directory of a finished run."
        )
    return location, read_bytes(location)


def _check(model: Model) -> None:
    """Raise ValueError if the dtypes or the shapes of the model's arrays do not fit together."""
    if type(model.bits) is not int or model.bits < 8 or model.bits % 8:
        raise ValueError(f"bits is {model.bits!r}, expected a multiple of 8")
    for g, mean in model.means.items():
        if mean.ndim != 1 or mean.dtype.kind != "f":
            raise ValueError(f"mean of {g} is {mean.dtype} {mean.shape}, expected floats (d,)")
        expected = (model.bits, len(mean))
        shapes = {"projection": model.projections[g], "encoder": model.encoders[g]}
        for name, matrix in shapes.items():
            if matrix.shape != expected or matrix.dtype.kind != "f":
                raise ValueError(
                    f"{name} of {g} is {matrix.dtype} {matrix.shape}, expected floats {expected}"
                )
        if g in model.anchors:
            anchors = model.anchors[g]
            count = len(anchors.rows)
            actual = (anchors.rows.shape, anchors.encoder.shape, anchors.offset.shape)
            if actual != ((count, len(mean)), (model.bits, count), (model.bits,)):
                raise ValueError(
                    f"anchors of {g} have shapes {actual}, expected "
                    f"{((count, len(mean)), (model.bits, count), (model.bits,))}"
                )


def _read_anchors(members: Mapping[str, Any], g: str) -> Anchors:
    rows, encoder, offset, bandwidth = (
        members[f"anchors/{g}/{name}"] for name in ("rows", "encoder", "offset", "bandwidth")
    )
    return Anchors(rows, encoder, offset, float(bandwidth))
