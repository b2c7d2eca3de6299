"""Plain .npz files that cannot harm who opens them: no pickle, and no more memory than the file.

Members are stored, not compressed, so a file cannot unfold into more than its own size, and the
shape that a member claims is held against its bytes before anything is allocated.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib import format as npy

from srch_dist.errors import StorageError
from srch_dist.kernels.types import Array
from srch_dist.storage.atomic_files import read_bytes, write_bytes
from srch_dist.storage.locations import Location

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def write_npz(path: Location, members: Mapping[str, Array]) -> bytes:
    """Write arrays in one step and return the bytes of the file."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(values) for name, values in members.items()}
    np.savez(buffer, **arrays)
    content = buffer.getvalue()
    write_bytes(path, content)
    return content


def read_npz(path: Location, what: str = "") -> dict[str, Array]:
    """The arrays of a file of `write_npz`; ``what`` it is stands in the message.

    Raises
    ------
    StorageError : nothing there, damaged, or a file that NumPy would need pickle, decompression
        or more memory than the file's size for.
    """
    return unpack_npz(read_bytes(path), f"{what} {path}".strip())


def unpack_npz(content: bytes, name: str) -> dict[str, Array]:
    """`read_npz` of bytes; ``name`` is for the message."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > len(content):
                raise ValueError("its members claim more bytes than the file has")
            return {
                member.filename.removesuffix(".npy"): _read_member(archive, member)
                for member in members
            }
    # zipfile and NumPy raise many kinds over a damaged file, none of them for users.
    except Exception as error:
        raise StorageError(f"cannot read {name}: {error}") from None


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    data = archive.read(member)  # compares the checksum too
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version not in _READERS:
        raise ValueError(f"{member.filename} is of version {version} of the .npy format")
    shape, fortran, dtype = _READERS[version](stream)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} is an object array")
    size = math.prod(shape) * dtype.itemsize
    if any(length < 0 for length in shape) or size != len(data) - stream.tell():
        raise ValueError(
            f"{member.filename} claims shape {shape} of {dtype} over {len(data)} bytes"
        )
    flat = np.frombuffer(data, dtype, offset=stream.tell()) if size else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C").copy()
