"""`CrossModalHasher`: the applicable checks of scikit-learn, and the codes of `train_model`."""

from __future__ import annotations

import pickle

import dask.array as da
import distributed
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import zarr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks

from srch_dist.encode.batch import encode_store
from srch_dist.encode.scoring import QueryEncoder, encode_rows
from srch_dist.errors import ConfigError, InputError
from srch_dist.train.estimator import CrossModalHasher
from tests.helpers.runs import ROWS, make_pairs, make_store, no_cluster, train_here

pytestmark = pytest.mark.cluster

PAIRS = make_pairs(split=None, labels=None)
OPTIONS = {"bits": 16, "k": 5, "options": {"method": {"iterations": 3}}}


@pytest.fixture
def here(monkeypatch):
    """Train in this process."""
    monkeypatch.setattr("srch_dist.runtime.cluster.connect", no_cluster)


@pytest.mark.parametrize(
    "name",
    [
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_do_not_raise_errors_in_init_or_set_params",
        "check_valid_tag_types",
        "check_estimators_unfitted",
        "check_transformers_unfitted",
        "check_mixin_order",
    ],
)
def test_scikit_learn_checks(name):
    getattr(estimator_checks, name)("CrossModalHasher", CrossModalHasher())


@pytest.fixture(scope="module")
def fitted():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("srch_dist.runtime.cluster.connect", no_cluster)
        return CrossModalHasher(**OPTIONS).fit({"image": PAIRS["image"], "text": PAIRS["text"]})


def test_codes_equal_those_of_train_model(fitted, tmp_path):
    store = make_store(tmp_path, **PAIRS)
    trained = train_here(
        store.path, tmp_path / "run", "balanced", bits=16, graph={"k": 5}, method={"iterations": 3}
    )
    learned = zarr.open_array(str(trained.run.codes), mode="r")[:]
    np.testing.assert_array_equal(fitted.codes_, learned)
    for modality in ("image", "text"):
        out = encode_store(trained.run.path, store.path, modality, tmp_path / f"{modality}.zarr")
        expected = zarr.open_array(str(out), mode="r")[:]
        np.testing.assert_array_equal(fitted.encode(PAIRS[modality], modality), expected)


def test_numpy_dask_and_zarr_give_the_same_codes(fitted, tmp_path):
    values = PAIRS["text"]
    expected = fitted.encode(values, "text")
    assert (expected.shape, expected.dtype) == ((ROWS, 2), np.uint8)
    lazy = fitted.encode(da.from_array(values, chunks=(17, 5)), "text")
    assert isinstance(lazy, da.Array)
    assert lazy.shape == (ROWS, 2)
    np.testing.assert_array_equal(lazy.compute(), expected)
    array = zarr.create_array(str(tmp_path / "a"), shape=values.shape, chunks=(7, 12), dtype="f4")
    array[:] = values
    np.testing.assert_array_equal(fitted.encode(array, "text"), expected)
    np.testing.assert_array_equal(fitted.encode(values.tolist(), "text"), expected)
    assert fitted.encode(values[:0], "text").shape == (0, 2)


def test_transform_returns_the_codes_as_signs(fitted):
    signs = fitted.transform(PAIRS["image"])
    assert (signs.shape, signs.dtype) == ((ROWS, 16), np.int8)
    assert set(np.unique(signs)) == {-1, 1}
    packed = np.packbits(signs > 0, axis=1, bitorder="little")
    np.testing.assert_array_equal(packed, fitted.encode(PAIRS["image"], "image"))
    lazy = fitted.transform(da.from_array(PAIRS["image"], chunks=(40, 20)))
    np.testing.assert_array_equal(lazy.compute(), signs)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", ["dask", "zarr", "store", "pandas", "arrow"])
def test_every_kind_of_input_gives_the_same_codes(fitted, tmp_path, kind):
    pairs = {g: PAIRS[g] for g in ("image", "text")}
    if kind == "dask":
        given = {g: da.from_array(values, chunks=(31, 4)) for g, values in pairs.items()}
    elif kind == "zarr":
        given = {}
        for g, values in pairs.items():
            path = str(tmp_path / g)
            given[g] = zarr.create_array(path, shape=values.shape, chunks=(9, 3), dtype="f4")
            given[g][:] = values
    elif kind == "pandas":
        given = {g: pd.DataFrame(values) for g, values in pairs.items()}
    elif kind == "arrow":
        given = {g: pa.table(pd.DataFrame(values)) for g, values in pairs.items()}
    else:
        given = make_store(tmp_path, **pairs)
    again = clone(fitted).fit(given)
    np.testing.assert_array_equal(again.codes_, fitted.codes_)
    assert (again.modalities_, again.n_features_in_) == (("image", "text"), 20)


@pytest.mark.usefixtures("here")
def test_fit_accepts_two_arrays_and_keeps_its_parameters(fitted):
    estimator = clone(fitted)
    before = estimator.get_params()
    assert estimator.fit(PAIRS["image"], PAIRS["text"]) is estimator
    assert estimator.get_params() == before
    assert estimator.modalities_ == ("x", "y")
    np.testing.assert_array_equal(estimator.codes_, fitted.codes_)
    signs = clone(fitted).fit_transform(PAIRS["image"], PAIRS["text"])
    np.testing.assert_array_equal(np.packbits(signs > 0, axis=1, bitorder="little"), fitted.codes_)


def test_fitted_estimator_can_be_pickled_and_encoding_does_not_change_it(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.encode(PAIRS["image"]), fitted.encode(PAIRS["image"]))
    state = vars(fitted).copy()
    fitted.transform(PAIRS["image"])
    assert vars(fitted) == state


@pytest.mark.usefixtures("here")
def test_run_directory_is_kept_if_out_is_set(fitted, tmp_path):
    clone(fitted).set_params(out=str(tmp_path / "run")).fit(PAIRS["image"], PAIRS["text"])
    assert (tmp_path / "run" / "model.npz").is_file()


def test_the_current_client_is_used(monkeypatch):
    asked = []

    def connect(scheduler, *_others):
        asked.append(scheduler)
        return no_cluster()

    monkeypatch.setattr("srch_dist.runtime.cluster.connect", connect)
    options = {"processes": False, "n_workers": 1, "dashboard_address": None}
    with distributed.Client(**options, set_as_default=True) as client:
        CrossModalHasher(**OPTIONS).fit(PAIRS["image"], PAIRS["text"])
        assert asked == [client.scheduler.address]
    CrossModalHasher(**OPTIONS).fit(PAIRS["image"], PAIRS["text"])
    assert asked[1] is None


@pytest.mark.parametrize("kind", [list, pd.DataFrame, lambda x: pa.table(pd.DataFrame(x))])
def test_tables_and_lists_are_encoded(fitted, kind):
    values = PAIRS["image"]
    np.testing.assert_array_equal(fitted.encode(kind(values)), fitted.encode(values))
    np.testing.assert_array_equal(fitted.transform(kind(values)), fitted.transform(values))
    rows = kind(values.astype(np.float64))
    np.testing.assert_array_equal(encode_rows(fitted.model_, "image", rows), fitted.encode(values))


def test_sparse_matrices_are_refused_everywhere(fitted):
    sparse = scipy.sparse.csr_matrix(PAIRS["image"])
    calls = [
        lambda: CrossModalHasher().fit({"image": sparse, "text": PAIRS["text"]}),
        lambda: CrossModalHasher().fit_transform(PAIRS["text"], sparse),
        lambda: fitted.encode(sparse),
        lambda: fitted.transform(sparse),
        lambda: encode_rows(fitted.model_, "image", sparse),
        lambda: QueryEncoder(fitted.model_, "image")(sparse[:1]),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"(image|y) is a sparse matrix. .*\.toarray\(\)"):
            call()


def test_bad_input_is_refused(fitted):
    with pytest.raises(NotFittedError):
        CrossModalHasher().encode(PAIRS["image"])
    with pytest.raises(InputError, match="at least two modalities"):
        CrossModalHasher().fit(PAIRS["image"])
    with pytest.raises(InputError, match="unequal numbers of rows"):
        CrossModalHasher().fit(PAIRS["image"], PAIRS["text"][:-1])
    lazy = da.from_array(PAIRS["image"], chunks=9)
    with pytest.raises(InputError, match="compute_chunk_sizes"):
        CrossModalHasher().fit(lazy[lazy[:, 0] > 0], PAIRS["text"])
    wrong = CrossModalHasher(options={"bits": 8, "graph": {"k": 3}})
    with pytest.raises(ConfigError, match=r"'options' holds bits, graph\.k"):
        wrong.fit(PAIRS["image"], PAIRS["text"])
    with pytest.raises(InputError, match=r"expected \(n, 20\) as in fit"):
        fitted.encode(PAIRS["text"])
    with pytest.raises(InputError, match="it has image, text"):
        fitted.encode(PAIRS["text"], "sound")
    with pytest.raises(InputError, match="1e150 or more in row 1"):
        fitted.encode(np.where(np.arange(ROWS)[:, None] == 1, np.nan, PAIRS["image"]))
