"""Codes are used with the model and the store that made them, and with no others."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from srch_dist.encode.batch import encode_store
from srch_dist.encode.model import load_model
from srch_dist.encode.provenance import check_model, check_store, model_identity
from srch_dist.errors import InputError
from srch_dist.export.formats import export_codes
from srch_dist.search.__main__ import main as search
from srch_dist.storage.code_store import open_codes
from tests.helpers.runs import make_pairs, make_store, train_here

pytestmark = pytest.mark.cluster

OPTIONS = {"bits": 16, "graph": {"k": 5}, "method": {"iterations": 2}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two stores with equal numbers of rows, a run on each, and codes of the first."""
    folder = tmp_path_factory.mktemp("made")
    stores = [make_store(folder / f"d{seed}", 25, **make_pairs(seed=seed)) for seed in (0, 1)]
    runs = [
        train_here(store.path, folder / f"r{i}", **OPTIONS).run for i, store in enumerate(stores)
    ]
    encode_store(runs[0].path, stores[0].path, "image", folder / "codes.zarr")
    return folder, stores, runs


def test_the_model_and_the_store_that_made_the_codes_are_accepted(made):
    folder, stores, runs = made
    codes = open_codes(folder / "codes.zarr")
    check_model(codes, load_model(runs[0].path), "r0")
    check_store(codes, stores[0])


def test_another_model_of_as_many_bits_is_refused(made):
    folder, _, runs = made
    codes = open_codes(folder / "codes.zarr")
    with pytest.raises(InputError, match=r"codes\.zarr was encoded with another model than r1"):
        check_model(codes, load_model(runs[1].path), "r1")


def test_another_store_of_as_many_rows_is_refused(made, tmp_path):
    folder, stores, _ = made
    codes = open_codes(folder / "codes.zarr")
    with pytest.raises(InputError, match="the features 'image' differ"):
        check_store(codes, stores[1])
    with pytest.raises(InputError, match="the features 'image' differ"):
        export_codes(codes, tmp_path / "c.parquet", "parquet", stores[1])


def test_search_refuses_codes_of_another_model(made, capsys):
    folder, _, runs = made
    with pytest.raises(SystemExit) as ended:
        search(
            ["--model", str(runs[1].path), "--codes", str(folder / "codes.zarr"), "--query", "3"]
        )
    assert ended.value.code == 2
    assert "encoded with another model" in capsys.readouterr().err


def test_codes_that_do_not_record_their_origin_are_accepted(made, tmp_path):
    folder, stores, runs = made
    codes = open_codes(folder / "codes.zarr")
    np.save(tmp_path / "c.npy", codes.read(0, codes.rows))
    plain = open_codes(tmp_path / "c.npy")
    check_model(plain, load_model(runs[1].path), "r1")
    check_store(plain, stores[1])
    encode_store(runs[0].path, stores[0].path, "image", tmp_path / "c.zarr")
    zarr.open_array(tmp_path / "c.zarr").attrs["features"] = "?"
    check_store(open_codes(tmp_path / "c.zarr"), stores[1])


def test_the_identity_is_that_of_what_makes_codes(made):
    _, _, runs = made
    first, again = load_model(runs[0].path), load_model(runs[0].path)
    assert model_identity(first) == model_identity(again)
    again.encoders["text"][0, 0] += 1e-3
    assert model_identity(first) != model_identity(again)
