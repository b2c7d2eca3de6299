"""Files of query features whose header claims what the file does not hold."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.lib import format as npy

from srch_dist.errors import InputError, StorageError
from srch_dist.search.queries import _read_features
from srch_dist.storage.code_store import open_codes


def claim(path, shape, dtype="<f4", values=b"\0" * 64):
    buffer = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(buffer, header)
    path.write_bytes(buffer.getvalue() + values)
    return str(path)


@pytest.mark.parametrize(
    "shape", [(10**18, 20), (10**30, 2), (1 << 62, 4), (3, 10**9), (0, 10**30), (-1, 4)]
)
def test_a_huge_shape_is_refused_before_anything_is_allocated(tmp_path, shape):
    with pytest.raises(InputError, match=r"cannot read queries from .*q\.npy"):
        _read_features(claim(tmp_path / "q.npy", shape))
    with pytest.raises(StorageError, match=r"c\.npy"):
        open_codes(claim(tmp_path / "c.npy", shape, "|u1"))


@pytest.mark.parametrize("shape", [(4, 4), (16,), (2, 4)])
def test_values_are_those_of_numpy(tmp_path, shape):
    expected = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    np.save(tmp_path / "q.npy", expected)
    np.testing.assert_array_equal(_read_features(str(tmp_path / "q.npy")), np.atleast_2d(expected))


def test_a_single_number_is_no_query(tmp_path):
    np.save(tmp_path / "q.npy", np.float32(3))
    with pytest.raises(InputError, match="one array of numbers"):
        _read_features(str(tmp_path / "q.npy"))
