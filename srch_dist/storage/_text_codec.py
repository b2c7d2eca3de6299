"""Chunks of text, whose own count of items is checked before memory is set aside for them.

The codec ``vlen-utf8`` of Zarr and numcodecs believes the count that a chunk begins with: four
bytes changed make it allocate 32 GiB. Importing this module puts one that does not in their place,
which reads and writes the same.
"""

from __future__ import annotations

from typing import Any

import numcodecs
import zarr
from numcodecs.vlen import VLenUTF8
from zarr.codecs import vlen_utf8
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.registry import register_codec

_COUNT_BYTES = 4


class CheckedFilter(VLenUTF8):  # type: ignore[misc]
    """As of Zarr v2: a filter of numcodecs."""

    codec_id = "vlen-utf8"

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Texts of a chunk."""
        _check_count(memoryview(buf).cast("B"))
        return super().decode(buf, out)


class VLenUTF8Codec(vlen_utf8.VLenUTF8Codec):
    """As of Zarr v3, which knows the codec of text by the name of its class."""

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        _check_count(memoryview(chunk_bytes.to_bytes()))
        return await super()._decode_single(chunk_bytes, chunk_spec)

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        _check_count(memoryview(chunk_bytes.to_bytes()))
        return super()._decode_sync(chunk_bytes, chunk_spec)


def _check_count(content: memoryview) -> None:
    """Refuse more texts than there are bytes for their lengths."""
    count = int.from_bytes(content[:_COUNT_BYTES], "little")
    if (count + 1) * _COUNT_BYTES > len(content):
        raise ValueError(f"it says that it holds {count} texts in {len(content)} bytes")


numcodecs.register_codec(CheckedFilter)
register_codec("vlen-utf8", VLenUTF8Codec)
zarr.config.set({"codecs.vlen-utf8": f"{VLenUTF8Codec.__module__}.{VLenUTF8Codec.__qualname__}"})
