"""Arrays in memory as a source: what is taken as it is, converted, or refused by name."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import zarr

from srch_dist.errors import InputError
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.ingest.sources.arrays import ArraySource

ROWS = 12


def one_block(source: ArraySource, name: str) -> np.ndarray:
    return np.concatenate(list(source.blocks(name, 5)))


@pytest.mark.parametrize(
    "wrap", [np.asarray, da.from_array, zarr.array], ids=["np", "dask", "zarr"]
)
@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f8", "i8", "u8", "?"])
def test_numbers_keep_their_type_and_value(wrap, kind):
    # 1/3 in float64 is no number of a narrower type; "float64" begins as "float6" does.
    values = (np.arange(ROWS * 3).reshape(ROWS, 3) / 3).astype(kind)
    source = ArraySource({"x": wrap(values)})
    assert source.specs()["x"][1].newbyteorder("=") == values.dtype.newbyteorder("=")
    block = one_block(source, "x")
    assert block.dtype.itemsize == values.dtype.itemsize
    np.testing.assert_array_equal(block, values)


def test_every_role_may_be_a_table_a_column_or_a_list(tmp_path):
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(ROWS, 3)), rng.normal(size=(ROWS, 2))
    given = {
        "image": pd.DataFrame(image),
        "text": text.tolist(),
        "labels": pd.Series(["cat", "dog"] * (ROWS // 2), dtype="category"),
        "ids": pa.array(range(2**63, 2**63 + ROWS), pa.uint64()),
        "split": [0, 1] * (ROWS // 2),
    }
    store = ingest_source(given, tmp_path / "a.zarr")
    np.testing.assert_array_equal(store.read("image"), image)
    np.testing.assert_array_equal(store.read("text"), text)
    assert store.read("labels").tolist() == ["cat", "dog"] * (ROWS // 2)
    assert store.read("ids").tolist() == list(range(2**63, 2**63 + ROWS))
    assert store.read("split").tolist() == [0, 1] * (ROWS // 2)


@pytest.mark.parametrize("role", ["image", "text", "labels", "ids", "split"])
@pytest.mark.parametrize("values", [scipy.sparse.eye(ROWS, format="csr"), [[1], [2, 3]], None])
def test_what_is_refused_is_named_in_every_role(tmp_path, role, values):
    pairs = {"image": np.ones((ROWS, 3)), "text": np.ones((ROWS, 2)), role: values}
    with pytest.raises(InputError, match=rf"the arrays: {role} (is a|row 1|row 0)"):
        ingest_source(pairs, tmp_path / "a.zarr")
    if role in ("labels", "ids", "split"):  # nobody asks for it
        ingest_source(pairs, tmp_path / "a.zarr", ["image", "text"])


def test_tables_of_pandas_whose_rows_are_in_another_order_are_refused(tmp_path):
    frame = pd.DataFrame(np.arange(ROWS * 2.0).reshape(ROWS, 2), index=np.arange(ROWS) + 5)
    with pytest.raises(
        InputError, match=r"text has a different index than image: row 0 is .*16.* 5"
    ):
        ingest_source({"image": frame, "text": frame[::-1]}, tmp_path / "a.zarr")
    ingest_source({"image": frame, "text": frame}, tmp_path / "b.zarr")
    ingest_source({"image": frame, "text": frame[::-1].to_numpy()}, tmp_path / "c.zarr")
