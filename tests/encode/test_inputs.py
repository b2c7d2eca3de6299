"""Encoding one modality alone: files and folders give the codes that the store gives."""

from __future__ import annotations

import warnings
from collections import deque

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from srch_dist.encode import __main__ as encode
from srch_dist.encode.batch import encode_store
from srch_dist.encode.input_profile import InputProfile, profile_rows
from srch_dist.encode.model import load_model
from srch_dist.encode.scoring import QueryEncoder, encode_rows
from srch_dist.errors import InputError
from srch_dist.storage.code_store import open_codes
from tests.helpers.runs import make_pairs, make_store, train_here

WIDTH = 20


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose modalities have the same width and lie apart, as those of CLIP do."""
    folder = tmp_path_factory.mktemp("one")
    pairs = make_pairs(split=None)
    pairs["text"] = np.pad(pairs["text"], ((0, 0), (0, WIDTH - 12))) + np.float32(4)
    store = make_store(folder, 13, **pairs)
    return train_here(store.path, folder / "run", bits=24)


@pytest.fixture
def rows(trained):
    return trained.store.read("image")


def write_npy(folder, rows):
    np.save(folder / "new.npy", rows)
    return folder / "new.npy"


def write_parquet(folder, rows):
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    table = pa.table({"url": [f"u{row}" for row in range(len(rows))], "embedding": column})
    pq.write_table(table, folder / "new.parquet")
    return folder / "new.parquet"


def write_shards(folder, rows):
    (folder / "img_emb").mkdir()
    for number, part in enumerate(np.array_split(rows, 3)):
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", part)
    return folder / "img_emb"


def write_zarr(folder, rows):
    zarr.save_array(str(folder / "new.zarr"), rows)
    return folder / "new.zarr"


WRITERS = [write_npy, write_parquet, write_shards, write_zarr]


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_of_one_modality_gives_the_codes_of_the_store(
    trained, rows, tmp_path, write, monkeypatch
):
    monkeypatch.setattr("srch_dist.encode.batch._TASK_BYTES", 8 * WIDTH * 7)  # blocks of 7 rows
    path = write(tmp_path, rows)
    out = encode_store(trained.run.path, path, "image", tmp_path / "codes.zarr")
    expected = encode_rows(load_model(trained.run.path), "image", rows)
    codes = open_codes(out)
    np.testing.assert_array_equal(codes.read(0, codes.rows), expected)
    # The codes fit a store that is ingested from the same rows.
    assert (codes.modality, codes.features) == ("image", trained.store.checksums["image"])


def test_the_command_encodes_a_file_without_a_cluster(trained, rows, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(encode, "connect_for", lambda *_: pytest.fail("a cluster started"))
    path, out = write_parquet(tmp_path, rows), tmp_path / "codes.zarr"
    options = ["--model", str(trained.run.path), "--data", str(path), "--modality", "image"]
    encode.main([*options, "--array", "embedding", "--out", str(out)])
    assert capsys.readouterr().out.strip() == f"codes: {out}"
    assert open_codes(out).rows == len(rows)


@pytest.mark.parametrize(
    ("content", "array", "message"),
    [
        (np.ones((4, 7)), None, "new has 7 dimensions; the model was trained on 20 for image"),
        (np.ones(4), None, "which array holds the rows of image .20 dimensions."),
        (np.ones((4, WIDTH)), "nwe", "no array 'nwe'; it has new; did you mean new"),
        (
            np.array([[1.0] * WIDTH, [np.nan] * WIDTH]),
            None,
            "1e150 or more in row 1",
        ),
        (np.ones((0, WIDTH)), None, "new has no rows"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_leave_nothing(
    trained, tmp_path, content, array, message
):
    path = write_npy(tmp_path, content)
    with pytest.raises(InputError, match=message):
        encode_store(trained.run.path, path, "image", tmp_path / "codes.zarr", array=array)
    assert [each.name for each in tmp_path.iterdir()] == ["new.npy"]


def test_two_arrays_that_fit_are_not_guessed(trained, rows, tmp_path):
    np.savez(tmp_path / "new.npz", a=rows, b=rows)
    with pytest.raises(InputError, match="Name it with --array; known: a, b"):
        encode_store(trained.run.path, tmp_path / "new.npz", "image", tmp_path / "codes.zarr")


@pytest.mark.parametrize("stored", [False, True])
def test_rows_of_another_modality_and_zeros_are_said(trained, rows, tmp_path, stored, caplog):
    wrong = trained.store.read("text").copy()
    wrong[[3, 50]] = 0
    if stored:
        path = make_store(tmp_path, 13, image=wrong, text=rows).path
    else:
        path = write_npy(tmp_path, wrong)
    encode_store(trained.run.path, path, "image", tmp_path / "codes.zarr")
    assert "nearer to the training mean of text than to that of image" in caplog.text
    assert "image: 2 of 90 rows are zeros (row 3, 50)" in caplog.text
    caplog.clear()
    encode_store(trained.run.path, write_npy(tmp_path, rows), "image", tmp_path / "right.zarr")
    assert caplog.text == ""


def test_a_query_encoder_says_the_same(trained, rows):
    model = load_model(trained.run.path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = QueryEncoder(model, "image")
        for row in rows:
            encoder(row)
    encoder = QueryEncoder(model, "image")
    with pytest.warns(UserWarning, match="nearer to the training mean of text"):
        deque(map(encoder, trained.store.read("text")[:10]))
    with pytest.warns(UserWarning, match="1 of 1 rows are zeros"):
        QueryEncoder(model, "image")(np.zeros(WIDTH))
    assert repr(encoder) == "QueryEncoder('image', 20 dimensions, 24 bits)"


def test_profiles_do_not_depend_on_the_blocks(trained):
    model, rows = load_model(trained.run.path), trained.store.read("text").copy()
    rows[[0, 40, 41]] = 0
    whole = profile_rows(model, "image", rows)
    for step in (1, 7, 50):
        parts = InputProfile()
        for start in range(0, len(rows), step):
            parts.add(profile_rows(model, "image", rows[start : start + step], start))
        assert (parts.rows, parts.zeros, parts.zero_count) == (90, [0, 40, 41], 3)
        np.testing.assert_allclose(parts.places["text"], whole.places["text"])
