"""The model file: a round trip is exact, and anything but plain NumPy is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from srch_dist.encode.model import Anchors, Model, load_model, save_model
from srch_dist.errors import StorageError


@pytest.fixture
def model():
    rng = np.random.default_rng(3)
    dims = {"image": 5, "text": 3, "sound-2": 4}
    return Model(
        {g: rng.normal(size=d) for g, d in dims.items()},
        {g: rng.normal(size=(16, d)) for g, d in dims.items()},
        {g: rng.normal(size=(16, d)) for g, d in dims.items()},
        {
            "image": Anchors(
                rng.normal(size=(4, 5)), rng.normal(size=(16, 4)), rng.normal(size=16), 0.7
            )
        },
        16,
        True,
        False,
        {"versions": {"numpy": "2"}, "note": "é 🙂"},
    )


def rewrite(path, **changes) -> None:
    """Replace members of a model file; None takes one out."""
    with np.load(path, allow_pickle=False) as file:
        members = {name: file[name] for name in file.files}
    members.update({name.replace("__", "/"): values for name, values in changes.items()})
    with path.open("wb") as file:
        np.savez(file, **{name: v for name, v in members.items() if v is not None})


def test_model_comes_back_exactly(tmp_path, model):
    save_model(tmp_path / "model.npz", model)
    for place in (tmp_path, tmp_path / "model.npz"):  # of a run, or the file itself
        found = load_model(place)
        assert (found.bits, found.center, found.unit_norm) == (16, True, False)
        assert found.metadata == model.metadata
        for kind in ("means", "projections", "encoders"):
            expected = getattr(model, kind)
            assert list(getattr(found, kind)) == list(expected)
            for g, values in expected.items():
                np.testing.assert_array_equal(getattr(found, kind)[g], values, strict=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


def test_numpy_reads_every_member_without_pickle(tmp_path, model):
    save_model(tmp_path / "model.npz", model)
    with np.load(tmp_path / "model.npz", allow_pickle=False) as members:
        kinds = {name: members[name].dtype.kind for name in members.files}
        header = json.loads(str(members["header"]))
    assert kinds.pop("header") == "U"
    assert set(kinds.values()) == {"f"}
    expected = [f"{kind}/{g}" for kind in ("mean", "projection", "encoder") for g in model.means]
    parts = ("rows", "encoder", "offset", "bandwidth")
    assert sorted(kinds) == sorted(expected + [f"anchors/image/{part}" for part in parts])
    assert (header["format"], header["modalities"], header["bits"]) == (1, list(model.means), 16)


@pytest.mark.parametrize("member", ["header", "mean__image", "encoder__text"])
def test_pickled_member_is_refused_and_not_run(tmp_path, model, member):
    marker = tmp_path / "unpickled"

    class Trap:
        def __reduce__(self):
            return (type(marker).touch, (marker,))

    save_model(tmp_path / "model.npz", model)
    rewrite(tmp_path / "model.npz", **{member: np.array([Trap()], dtype=object)})
    with pytest.raises(StorageError, match=r"cannot read the model .*model\.npz"):
        load_model(tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"header": None},
        {"header": np.array("{")},
        {"header": np.array("[]")},
        {"header": np.array('{"format": 2}')},
        {"header": np.array('{"format": 1}')},
        {"mean__text": None},
        {"encoder__image": None},
        {"anchors/image/rows": None},
    ],
)
def test_incomplete_or_foreign_model_is_refused(tmp_path, model, change):
    save_model(tmp_path / "model.npz", model)
    rewrite(tmp_path / "model.npz", **change)
    with pytest.raises(StorageError, match=r"model\.npz"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 half of a zip"])
def test_file_that_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "model.npz").write_bytes(content)
    with pytest.raises(StorageError, match=r"cannot read the model .*model\.npz"):
        load_model(tmp_path)


def test_flipped_bit_is_noticed(tmp_path, model):
    save_model(tmp_path / "model.npz", model)
    raw = bytearray((tmp_path / "model.npz").read_bytes())
    raw[raw.index(model.encoders["text"].tobytes()) + 7] ^= 0x10
    (tmp_path / "model.npz").write_bytes(raw)
    with pytest.raises(StorageError, match="cannot read the model"):
        load_model(tmp_path)


def test_missing_model_is_refused_by_name(tmp_path):
    with pytest.raises(StorageError, match=r"model\.npz"):
        load_model(tmp_path)
