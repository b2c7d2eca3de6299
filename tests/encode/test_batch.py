"""Encoding a store: codes follow from the model file alone, packed in row order."""

from __future__ import annotations

import dataclasses
import json
import zlib

import numpy as np
import pytest
import zarr

from srch_dist.encode.batch import encode_rows, encode_store, encoding_rows
from srch_dist.encode.model import load_model
from srch_dist.encode.provenance import model_identity
from srch_dist.errors import InputError, StorageError
from tests.helpers.models import numpy_bits
from tests.helpers.runs import DIMS, ROWS, exchange_chunk, make_pairs, make_store, train_here


@pytest.fixture(scope="module", params=["balanced", "paper"])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoding")
    store = make_store(folder, 13, **make_pairs(split=None))
    return train_here(store.path, folder / "run", request.param, bits=24)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_codes_are_a_packed_array_at_the_root_in_row_order(trained, tmp_path, modality):
    out = encode_store(trained.run.path, trained.store.path, modality, tmp_path / "codes.zarr")
    assert out == tmp_path / "codes.zarr"
    metadata = json.loads((out / "zarr.json").read_text())
    assert (metadata["node_type"], metadata["zarr_format"]) == ("array", 3)
    codes = zarr.open_array(out, mode="r")
    assert (codes.shape, codes.dtype) == ((ROWS, 3), np.uint8)
    bits = numpy_bits(trained.run.model, modality, trained.store.read(modality))
    np.testing.assert_array_equal(codes[:], np.packbits(bits, axis=1, bitorder="little"))
    assert len(np.unique(codes[:], axis=0)) > 10
    assert dict(codes.attrs) == {
        "modality": modality,
        "bits": 24,
        "bitorder": "little",
        "model": model_identity(load_model(trained.run.path)),
        "features": trained.store.checksums[modality],
        "checksums": [zlib.crc32(codes[:].tobytes())],
        "checksum_rows": encoding_rows(trained.store),
    }


def test_codes_do_not_depend_on_the_chunks_of_the_store(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("srch_dist.encode.batch._TASK_BYTES", 1)  # a task for every chunk
    pairs = make_pairs(split=None)
    found = []
    for chunk in (None, 1, 7, 89):
        store = make_store(tmp_path / f"{chunk}", chunk, **pairs)
        out = encode_store(trained.run.path, store.path, "image", tmp_path / f"{chunk}.zarr")
        found.append(zarr.open_array(out, mode="r")[:])
    for codes in found[1:]:
        np.testing.assert_array_equal(codes, found[0])


def test_rows_are_encoded_as_the_store_is(trained):
    model = load_model(trained.run.path)
    rows = trained.store.read("text")
    expected = np.packbits(numpy_bits(trained.run.model, "text", rows), axis=1, bitorder="little")
    np.testing.assert_array_equal(encode_rows(model, "text", rows), expected)
    np.testing.assert_array_equal(encode_rows(model, "text", rows[4:5]), expected[4:5])


def test_the_mean_itself_has_no_direction_and_gets_all_ones(trained):
    """A row that is zero after centring: sign(0) = +1, where no anchor is near it."""
    model = dataclasses.replace(load_model(trained.run.path), anchors={})
    assert encode_rows(model, "image", model.means["image"][None]).tolist() == [[255, 255, 255]]


def test_codes_of_a_trained_ridge_encoder_resemble_the_learned_ones(trained):
    model = load_model(trained.run.path)
    learned = np.unpackbits(zarr.open_array(trained.run.codes, mode="r")[:], axis=1)
    for g in DIMS:
        own = np.unpackbits(encode_rows(model, g, trained.store.read(g)), axis=1)
        assert np.mean(own == learned) > 0.75


@pytest.mark.parametrize(
    ("modality", "rows", "message"),
    [
        ("sound", np.ones((2, 20)), "no modality 'sound'; it has image, text"),
        ("image", np.ones((2, 12)), r"shape \(2, 12\), expected \(n, 20\)"),
        ("image", np.ones(20), r"shape \(20,\)"),
        (
            "image",
            np.array([[1.0] * 20, [np.nan] * 20]),
            "1e150 or more in row 1",
        ),
        ("image", np.array([[np.inf] * 20]), "1e150 or more in row 0"),
    ],
)
def test_rows_that_do_not_fit_the_model_are_refused(trained, modality, rows, message):
    with pytest.raises(InputError, match=message):
        encode_rows(load_model(trained.run.path), modality, rows)


def test_stores_that_do_not_fit_the_model_are_refused_and_leave_nothing(trained, tmp_path):
    other = make_store(tmp_path, image=np.ones((5, 3)), sound=np.ones((5, 20)))
    before = sorted(tmp_path.iterdir())
    for modality, message in (
        ("image", "image has 3 dimensions .* the model was trained on 20 dimensions"),
        ("text", "modality 'text' must be in the model and in"),
        ("sound", "modality 'sound' must be in the model and in"),
    ):
        with pytest.raises(InputError, match=message):
            encode_store(trained.run.path, other.path, modality, tmp_path / "codes.zarr")
    assert sorted(tmp_path.iterdir()) == before


def test_existing_output_is_refused_and_untouched(trained, tmp_path):
    (tmp_path / "codes.zarr").mkdir()
    (tmp_path / "codes.zarr" / "mine").write_text("x")
    with pytest.raises(StorageError, match="already exists"):
        encode_store(trained.run.path, trained.store.path, "image", tmp_path / "codes.zarr")
    assert [path.name for path in (tmp_path / "codes.zarr").iterdir()] == ["mine"]


def test_damaged_chunk_is_refused_and_leaves_no_codes(trained, tmp_path):
    store = make_store(tmp_path, 13, **make_pairs(split=None))
    chunk = tmp_path / "pairs.zarr" / "image" / "c" / "3" / "0"
    raw = bytearray(chunk.read_bytes())
    raw[100] ^= 0x40
    chunk.write_bytes(raw)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StorageError, match="the chunk with row 39 is damaged"):
        encode_store(trained.run.path, store.path, "image", tmp_path / "codes.zarr")
    assert sorted(tmp_path.iterdir()) == before


def test_chunk_of_another_store_is_refused_and_leaves_no_codes(trained, tmp_path):
    store = make_store(tmp_path / "a", 13, **make_pairs(split=None))
    other = make_store(tmp_path / "b", 13, **make_pairs(split=None, seed=1))
    exchange_chunk(f"{store.path}/image", f"{other.path}/image", 3)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StorageError, match="image: rows 39 to 51 do not match their recorded"):
        encode_store(trained.run.path, store.path, "image", tmp_path / "codes.zarr")
    assert sorted(tmp_path.iterdir()) == before


def test_unfinished_runs_do_not_encode(trained, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"format": 1, "finished": false}')
    (tmp_path / "run" / "model.npz").write_bytes(trained.run.model.read_bytes())
    with pytest.raises(StorageError, match="is not finished"):
        encode_store(tmp_path / "run", trained.store.path, "image", tmp_path / "codes.zarr")
    assert not (tmp_path / "codes.zarr").exists()
