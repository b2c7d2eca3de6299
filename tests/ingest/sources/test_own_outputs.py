"""Outputs of this package inside the folder of a source are no data of the source."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from srch_dist.encode.batch import encode_store
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.ingest.sources.own_outputs import own_output
from tests.helpers.runs import make_pairs, make_store, train_here


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A source of two arrays with a store, codes and a run beside them."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("image", "text"):
        np.save(folder / f"{name}.npy", make_pairs()[name])
    store = ingest_source(folder, folder / "a.zarr")
    train_here(store.path, folder / "run", queries=10)
    encode_store(folder / "run", store.path, "image", folder / "codes.zarr")
    return folder


def test_outputs_beside_the_arrays_are_skipped(folder, tmp_path):
    store = ingest_source(folder, tmp_path / "b.zarr")
    assert (list(store.modalities), store.rows) == (["image", "text"], 90)


def test_each_output_is_named(folder):
    assert own_output(folder / "a.zarr") == "a feature store of srch-dist"
    assert own_output(folder / "codes.zarr") == "codes of srch-dist"
    assert own_output(folder / "run") == "a run directory of srch-dist"
    assert own_output(folder / "run" / "codes.zarr") == "codes of srch-dist"
    assert own_output(folder) is None


def test_a_store_alone_in_a_folder_is_the_source(tmp_path):
    source = make_store(tmp_path / "made", **make_pairs())
    (tmp_path / "alone").mkdir()
    shutil.copytree(source.path, tmp_path / "alone" / "pairs.zarr")
    assert ingest_source(tmp_path / "alone", tmp_path / "b.zarr").rows == source.rows


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"attributes": 3}', b"[" * 100_000])
def test_any_other_zarr_json_is_no_output(tmp_path, content):
    (tmp_path / "zarr.json").write_bytes(content)
    assert own_output(tmp_path) is None
