"""Work around a bug of numcodecs: a corrupt chunk of text makes numcodecs allocate 32 GiB.

A chunk of the codec ``vlen-utf8`` starts with the number of its texts, in four bytes.
`numcodecs.vlen.VLenUTF8.decode` allocates eight bytes per text before it reads the first text, in
total up to 32 GiB. So a corrupt count raises MemoryError or fills the memory. The codecs here first
compare the count with the size of the chunk. If the count is possible, the codecs decode as
numcodecs does. Encoding is unchanged.

Importing this module replaces the codec in the registries of numcodecs (Zarr format 2) and of Zarr
(format 3), for the whole process. The codec for format 3 overrides private methods of Zarr's codec.

Every numcodecs up to 0.16.6 has the bug. That was the newest release at the time of zarr 3.1.6. No
report of the bug to numcodecs is known. ``tests/storage/test_text_codec.py`` fails once a numcodecs
without the bug is installed. Then delete this module, except for `TEXT`.
"""

from __future__ import annotations

from typing import Any

import numcodecs
import numpy as np
import zarr
from numcodecs.vlen import VLenUTF8
from zarr.codecs import vlen_utf8
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.registry import register_codec

# The dtype of text of any length.
TEXT = np.dtypes.StringDType()

_COUNT_BYTES = 4


class CheckedFilter(VLenUTF8):  # type: ignore[misc]
    """Codec ``vlen-utf8`` of Zarr format 2 (a numcodecs filter) that checks the count of texts."""

    codec_id = "vlen-utf8"

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode a chunk; raise ValueError if it claims more texts than fit in its bytes."""
        _check_count(memoryview(buf).cast("B"))
        return super().decode(buf, out)


class VLenUTF8Codec(vlen_utf8.VLenUTF8Codec):
    """Codec ``vlen-utf8`` of Zarr format 3 that checks the count; Zarr looks up this class name."""

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        _check_count(memoryview(chunk_bytes.to_bytes()))
        return await super()._decode_single(chunk_bytes, chunk_spec)

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        _check_count(memoryview(chunk_bytes.to_bytes()))
        return super()._decode_sync(chunk_bytes, chunk_spec)


def _check_count(content: memoryview) -> None:
    """Raise ValueError if a chunk claims more texts than fit in its bytes, four bytes per text."""
    count = int.from_bytes(content[:_COUNT_BYTES], "little")
    if (count + 1) * _COUNT_BYTES > len(content):
        raise ValueError(f"it claims to hold {count} texts in {len(content)} bytes")


numcodecs.register_codec(CheckedFilter)
register_codec("vlen-utf8", VLenUTF8Codec)
zarr.config.set({"codecs.vlen-utf8": f"{VLenUTF8Codec.__module__}.{VLenUTF8Codec.__qualname__}"})
