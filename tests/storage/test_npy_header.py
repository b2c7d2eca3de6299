"""Headers of .npy files are read without their values, and refused before NumPy trusts them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.lib import format as npy

from srch_dist.storage.npy_header import ObjectArrayError, read_npy_header


def stored(values: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    npy.write_array(file, values, version=version)
    return file.getvalue()


def claim(shape: str, dtype: str = "'<f4'") -> io.BytesIO:
    """A header of ``shape`` with no values behind it."""
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}".encode()
    text = text.ljust(117) + b"\n"
    return io.BytesIO(npy.magic(1, 0) + len(text).to_bytes(2, "little") + text)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_header_says_where_the_values_are(version, order):
    values = np.arange(12, dtype=">i2").reshape(4, 3, order=order)
    content = stored(values, version)
    file = io.BytesIO(b"before" + content)
    file.seek(6)
    header = read_npy_header(file)
    assert (header.shape, header.column_major, header.dtype) == ((4, 3), order == "F", values.dtype)
    assert (header.row_values, header.value_bytes) == (3, 24)
    assert file.tell() == 6 + header.offset
    assert content[header.offset :] == values.tobytes(order="A")
    assert [header.fits(size) for size in (23, 24, 25)] == [False, True, True]


def test_object_arrays_are_refused_without_their_values():
    with pytest.raises(ObjectArrayError, match="object array"):
        read_npy_header(claim("(3,)", "'|O'"))
    with pytest.raises(ObjectArrayError):
        read_npy_header(claim("(3,)", "[('a', '|O'), ('b', '<f4')]"))


@pytest.mark.parametrize("shape", ["(-1, 6)", "(1000000000000000, 6)", "(2, -3)"])
def test_shapes_that_do_not_fit_are_told_apart_without_memory(shape):
    assert not read_npy_header(claim(shape)).fits(1 << 40)


class Counting(io.BytesIO):
    """Counts the bytes that are asked for."""

    asked = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.asked += size if size is not None and size >= 0 else 1 << 40
        return super().read(size)


@pytest.mark.parametrize(("version", "digits"), [(1, 2), (2, 4)])
def test_length_of_a_header_is_checked_before_it_is_read(version, digits):
    length = 256**digits - 1
    file = Counting(npy.magic(version, 0) + length.to_bytes(digits, "little") + b"{" * 20_000)
    with pytest.raises(ValueError, match=f"claims {length} bytes, expected at most 10000"):
        read_npy_header(file)
    assert file.asked < 100


def test_longest_header_is_read():
    names = [f"field_{number:03d}" for number in range(400)]
    content = stored(np.zeros(3, [(name, "<f4") for name in names]), (2, 0))
    header = read_npy_header(io.BytesIO(content))
    assert (header.shape, header.dtype.names) == ((3,), tuple(names))
    assert header.offset + header.value_bytes == len(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPX\x01\x00",
        stored(np.arange(3), (3, 0)),
        stored(np.arange(3))[:60],
        claim("(3,").getvalue(),
        claim("('a',)").getvalue(),
        claim("(3,)", "'what'").getvalue(),
        claim("(3,)", "{[]: 1}").getvalue(),
    ],
    ids=["empty", "cut magic", "magic", "version", "cut", "syntax", "shape", "dtype", "unhashable"],
)
def test_damaged_headers_raise_value_error(content):
    with pytest.raises(ValueError, match=r"."):
        read_npy_header(io.BytesIO(content))
