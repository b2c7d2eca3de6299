"""The estimator after `fit`: search, score, save and load, with pandas and Arrow inputs."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from srch_dist.config.loading import build_config
from srch_dist.encode.scoring import encode_rows
from srch_dist.errors import InputError, StorageError
from srch_dist.storage.code_store import CodeStore, open_codes
from srch_dist.train.estimator import CrossModalHasher
from srch_dist.train.runner import train_model
from tests.helpers.runs import ROWS, make_pairs, make_store, no_cluster

PAIRS = make_pairs(split=None, labels=None)


@pytest.fixture(scope="module")
def hasher():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("srch_dist.runtime.cluster.connect", no_cluster)
        return CrossModalHasher(16, k=5, options={"method": {"iterations": 3}}).fit(PAIRS)


def arrow_lists(values):
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


INPUTS = {
    "numpy": lambda values: values,
    "pandas": pd.DataFrame,
    "pandas-lists": lambda values: pd.Series(list(values)),
    "arrow": lambda values: pa.table({f"c{n}": column for n, column in enumerate(values.T)}),
    "arrow-lists": arrow_lists,
}


@pytest.mark.parametrize("kind", INPUTS)
def test_search_finds_the_nearest_codes(hasher, kind):
    found = hasher.search(INPUTS[kind](PAIRS["text"][:4]), 7, "text", hasher.encode(PAIRS["image"]))
    model = hasher.model_
    queries = encode_rows(model, "text", PAIRS["text"][:4])
    database = encode_rows(model, "image", PAIRS["image"])
    distances = np.bitwise_count(queries[:, None] ^ database[None]).sum(axis=2, dtype=np.int64)
    np.testing.assert_array_equal(found.distances, np.sort(distances, axis=1)[:, :7])
    np.testing.assert_array_equal(np.take_along_axis(distances, found.rows, 1), found.distances)
    assert repr(found) == "SearchResult(4 queries, 7 rows each)"


def test_search_is_among_the_training_rows_by_default(hasher):
    found = hasher.search(PAIRS["image"][:3], 5)
    queries = hasher.encode(PAIRS["image"][:3])
    distances = np.bitwise_count(queries[:, None] ^ hasher.codes_[None]).sum(axis=2)
    np.testing.assert_array_equal(found.distances, np.sort(distances, axis=1)[:, :5])


def test_score_is_the_recall_of_partners(hasher):
    first, second = (hasher.transform(PAIRS[name], name).astype(int) for name in ("image", "text"))
    distances = (16 - first @ second.T) // 2
    recalls = []
    for matrix in (distances, distances.T):
        for row, values in enumerate(matrix):
            closer, tied = (values < values[row]).sum(), (values == values[row]).sum()
            recalls.append(np.clip((10 - closer) / tied, 0, 1))
    assert hasher.score(PAIRS) == pytest.approx(np.mean(recalls))
    assert hasher.score(PAIRS["image"], PAIRS["text"]) == hasher.score(PAIRS)
    with pytest.raises(InputError, match="X has 90 rows, but y has 3; give pairs"):
        hasher.score(PAIRS["image"], PAIRS["text"][:3])


def test_a_saved_estimator_loads_equal(hasher, tmp_path):
    folder = hasher.save(tmp_path / "saved")
    loaded = CrossModalHasher.load(folder)
    assert loaded.get_params() == hasher.get_params()
    np.testing.assert_array_equal(loaded.codes_, hasher.codes_)
    for name in ("image", "text"):
        np.testing.assert_array_equal(
            loaded.encode(PAIRS[name], name), hasher.encode(PAIRS[name], name)
        )
    assert (loaded.modalities_, loaded.n_features_in_) == (("image", "text"), 20)
    with pytest.raises(StorageError, match="already exists"):
        hasher.save(folder)
    described = json.loads((folder / "estimator.json").read_text())
    (folder / "estimator.json").write_text(json.dumps({**described, "format": 7}))
    with pytest.raises(StorageError, match="format 7, expected 1"):
        CrossModalHasher.load(folder)
    with pytest.raises(StorageError, match="nowhere"):
        CrossModalHasher.load(tmp_path / "nowhere")


def test_reprs_are_short(hasher, tmp_path):
    assert repr(hasher.model_).startswith("Model(16 bits, dimensions: image 20, text 12; ")
    hasher.save(tmp_path / "saved")
    codes = open_codes(tmp_path / "saved" / "codes.npy")
    assert isinstance(codes, CodeStore)
    assert repr(codes).endswith(f"codes.npy', {ROWS} rows, 16 bits)")


def test_train_model_shows_progress_on_request(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("srch_dist.runtime.cluster.connect", no_cluster)
    store = make_store(tmp_path, 13, **make_pairs(split=None, labels=None))
    assert repr(store).endswith(f"{ROWS} rows, dimensions: image 20, text 12)")
    quick = {"bits": 16, "graph": {"k": 5}, "baseline": False, "report": False}
    values = {**quick, "data": store.path, "method": {"iterations": 2}}
    train_model(build_config({**values, "out": str(tmp_path / "a")}))
    assert capsys.readouterr().err == ""
    trained = train_model(build_config({**values, "out": str(tmp_path / "b")}), progress=True)
    assert "graph image: " in capsys.readouterr().err
    assert repr(trained).startswith(f"Trained('{tmp_path}/b', ")
