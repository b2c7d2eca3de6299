"""Arrays in memory as a source: what is taken as it is, converted, or refused by name."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr

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
