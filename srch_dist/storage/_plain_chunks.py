"""The chunks that this package reads and writes without Zarr: plain values, then a crc32c."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import google_crc32c
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, Endian

from srch_dist.kernels.types import Array

CRC_BYTES = 4


def is_plain(array: zarr.Array[Any]) -> bool:
    """Whether each chunk holds uncompressed numbers in the byte order of this machine."""
    codecs: Sequence[Any] = getattr(array.metadata, "codecs", ())
    return (
        len(codecs) == 2
        and isinstance(codecs[0], BytesCodec)
        and codecs[0].endian in (None, Endian.little)
        and isinstance(codecs[1], Crc32cCodec)
        and array.dtype.kind in "biuf"
        and array.dtype.isnative
        and sys.byteorder == "little"
    )


def crc_of(raw: NDArray[Any]) -> bytes:
    """Compute the crc32c of bytes, as it is stored behind them."""
    # google_crc32c parses its argument as a read-only buffer.
    read_only = raw.view()
    read_only.flags.writeable = False
    return int(google_crc32c.value(read_only)).to_bytes(CRC_BYTES, "little")


def chunk_values(raw: NDArray[Any], array: zarr.Array[Any]) -> Array | None:
    """Return the values of a chunk from its bytes ``raw``; None if its crc32c does not match."""
    values, expected = raw[:-CRC_BYTES], raw[-CRC_BYTES:]
    if crc_of(values) != expected.tobytes():
        return None
    return values.view(array.dtype).reshape(array.chunks)
