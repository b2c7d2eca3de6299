"""Arrays of Python callers: every kind is converted to the same numbers, or refused by name."""

from __future__ import annotations

import re

import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse

from srch_dist.errors import InputError
from srch_dist.storage.in_memory import as_array, index_of, read_rows

VALUES = np.arange(12.0).reshape(4, 3) / 3
NAMES = ["a", "b", "c"]
WORDS = ["one", "two", "three", "four"]


class Tensor:
    """An array of another library, whose dtype NumPy does not know."""

    shape, dtype = VALUES.shape, "torch.float32"

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def __array__(self, dtype=None, copy=None):
        if self.error:
            raise self.error
        return VALUES


Tensor.__module__ = "torch"


def polars_frame():
    return pytest.importorskip("polars").DataFrame(dict(zip(NAMES, VALUES.T, strict=True)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: VALUES,
        lambda: VALUES.tolist(),
        lambda: tuple(map(tuple, VALUES)),
        lambda: list(VALUES),
        lambda: VALUES.astype(object),
        lambda: np.ma.array(VALUES, mask=False),
        lambda: pd.DataFrame(VALUES),
        lambda: pd.DataFrame(VALUES, columns=NAMES, index=WORDS).astype("Float64"),
        lambda: pd.Series(list(VALUES)),
        lambda: pd.Series(VALUES.tolist()),
        lambda: pa.table(dict(zip(NAMES, VALUES.T, strict=True))),
        lambda: pa.RecordBatch.from_arrays(list(VALUES.T.copy()), NAMES),
        lambda: pa.array(VALUES.tolist()),
        lambda: pa.chunked_array([VALUES[:1].tolist(), VALUES[1:].tolist()]),
        lambda: pa.array(VALUES.tolist(), pa.list_(pa.float64(), 3)),
        lambda: da.from_array(VALUES, chunks=2),
        lambda: da.ma.masked_invalid(da.from_array(VALUES, chunks=2)),
        lambda: Tensor(),
        lambda: [row.tolist() if place % 2 else row for place, row in enumerate(VALUES)],
        polars_frame,
        lambda: polars_frame().to_arrow(),
    ],
)
def test_numbers_of_every_kind_are_the_same(make):
    array = as_array("x", make())
    assert array.shape == VALUES.shape
    np.testing.assert_array_equal(read_rows("x", array, 1, 3), VALUES[1:3], strict=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: WORDS,
        lambda: np.array(WORDS),
        lambda: np.array(WORDS, object),
        lambda: pd.Series(WORDS),
        lambda: pd.Series(WORDS, dtype=object),
        lambda: pd.Series(WORDS, dtype="category"),
        lambda: pd.Index(WORDS),
        lambda: pa.array(WORDS),
        lambda: pa.chunked_array([WORDS[:1], WORDS[1:]], pa.large_string()),
        lambda: pytest.importorskip("polars").Series(WORDS),
    ],
)
def test_text_of_every_kind_is_the_same(make):
    assert as_array("titles", make()).tolist() == WORDS


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (pd.Series([1, 2], dtype="UInt64") + 2**63, "u8"),
        (pa.array([2**64 - 1, 0], pa.uint64()), "u8"),
        (pd.Series([True, False], dtype="boolean"), "?"),
        ([2**63, 1], "u8"),
        (np.array([2**63, 1], object), "u8"),
        (pd.DataFrame({"a": [1, 2], "b": [0.5, 0.25]}), "f8"),
        (pd.DataFrame({"a": [True, False], "b": [True, True]}), "?"),
        (pd.DataFrame({"a": [1, 2], "b": [3, 4]}, dtype="uint8"), "u1"),
    ],
)
def test_types_of_numbers_are_kept(values, dtype):
    array = as_array("ids", values)
    assert array.dtype == dtype
    assert array.tolist() == (np.asarray(values).tolist())


MIXED = pd.DataFrame({"a": [1.0, 2.0], "name": ["x", "y"]})


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (
            scipy.sparse.csr_matrix(VALUES),
            "is a sparse matrix. Pass a dense array, x.toarray()",
        ),
        (
            scipy.sparse.coo_array(VALUES),
            "decomposition.TruncatedSVD(256).fit_transform(x)",
        ),
        (da.from_array(VALUES).map_blocks(scipy.sparse.csr_matrix), "block.toarray()"),
        ([scipy.sparse.csr_matrix(VALUES)] * 2, "row 0 holds a csr_matrix. Pass numbers, or text"),
        (MIXED, "column 'name' is text; every column of a table must hold numbers"),
        (pa.Table.from_pandas(MIXED), "column 'name' is text; every column"),
        (MIXED[[]], "is a table without columns"),
        (pd.DataFrame({"when": pd.to_datetime(["2024-05-01"] * 2)}), "column 'when' is datetime64"),
        (
            pd.DataFrame({"a": [2**53 + 1, 2], "b": [0.5, 1]}),
            "column 'a' row 0 is 90071992547",
        ),
        (pa.table({"a": [1.0, 2.0], "b": [3, None]}), "column 'b' row 1: missing value. Fill in"),
        (pd.DataFrame({"a": pd.array([1, None], "Int64")}), "column 'a' row 1: missing value"),
        (pd.Series(["a", None]), "row 1: missing value"),
        (pa.array(["a", None]), "row 1: missing value"),
        (["a", None], "row 1: missing value"),
        ([[1.0, 2.0], [3.0, None]], "row 1: missing value"),
        ([[1.0, 2.0], None], "row 1: missing value"),
        (np.ma.array(VALUES, mask=VALUES == 3), "row 3: missing value"),
        ([[1, 2], [3, 4], [5]], "row 2 has 1 values, expected 2 values as in row 0"),
        ([[5], [1, 2], [3, 4]], "row 0 has 1 values, expected 2 values as in row 1"),
        (pa.array([[1, 2], [3]]), "row 1 has 1 values, expected 2 values as in row 0"),
        ([[1, 2], 3], "row 0 holds a list"),
        ([["a", "b"], ["c"]], "row 0 is <U1. Pass numbers in every row"),
        ([1, "a"], "row 1 is 'a', but row 0 is 1. Pass numbers or text, not both"),
        ([2**63, -1], "row 0 is 9223372036854775808: no integer type of 64 bits holds all rows"),
        (np.array([2**63, -1], object), "row 0 is 9223372036854775808: no integer type"),
        ([1, 2**70], "row 1 is 1180591620717411303424: no integer type"),
        (np.array([[2**70], [1]], object), "row 0 holds 1180591620717411303424, which needs"),
        ([{}, {}], "row 0 holds a dict"),
        ({1, 2}, "is a set. Pass an array (rows, dimensions)"),
        (None, "is a NoneType. Pass an array"),
        (iter([1]), "is a list_iterator. Pass an array"),
        (Tensor(RuntimeError("requires grad")), "requires grad. Pass x.detach().cpu().float()"),
        (
            Tensor(TypeError("can't convert cuda:0")),
            "cuda:0. Pass x.detach().cpu().float()",
        ),
        ([Tensor(TypeError("on cuda:0"))] * 2, "on cuda:0. Pass x.detach().cpu().float()"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(values, problem):
    with pytest.raises(InputError, match=re.escape(problem)) as refused:
        as_array("x", values)
    assert str(refused.value).startswith("x ")


def test_masked_rows_of_dask_are_refused_with_their_row():
    array = as_array("x", da.ma.masked_equal(da.from_array(VALUES, chunks=2), 3))
    read_rows("x", array, 0, 2)
    with pytest.raises(InputError, match="x row 3: missing value"):
        read_rows("x", da.ma.masked_equal(da.from_array(VALUES, chunks=2), VALUES[3, 0]), 2, 4)


def test_arrays_on_a_device_are_refused_when_they_are_read():
    class Device:
        shape, dtype = VALUES.shape, VALUES.dtype

        def __getitem__(self, rows):
            return Tensor(TypeError("implicit conversion is not allowed"))

    array = as_array("x", Device())
    with pytest.raises(InputError, match=r"implicit conversion is not allowed. Pass x\."):
        read_rows("x", array, 0, 2)


def test_dask_tables_are_refused_with_the_call():
    class Frame:
        to_dask_array = None

    with pytest.raises(InputError, match=r"x is a Dask Frame. .*x\.to_dask_array\(lengths=True\)"):
        as_array("x", Frame())


def test_index_of_a_table_that_numbers_its_rows_says_nothing():
    assert index_of(pd.DataFrame(VALUES)) is None
    assert index_of(VALUES) is None
    assert list(index_of(pd.Series(WORDS, index=[3, 1, 2, 0]))) == [3, 1, 2, 0]
