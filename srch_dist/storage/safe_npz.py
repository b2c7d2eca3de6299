"""Write and read uncompressed .npz files, without pickle; memory is at most the file's size.

`write_npz` stores arrays uncompressed, so a file cannot expand beyond its own size. `read_npz`
compares the size that an array claims with its stored size before memory is allocated.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from srch_dist.errors import StorageError
from srch_dist.kernels.types import Array
from srch_dist.storage.atomic_files import read_bytes, write_bytes
from srch_dist.storage.locations import Location
from srch_dist.storage.npy_header import read_npy_header


def write_npz(path: Location, members: Mapping[str, Array]) -> bytes:
    """Write arrays to an .npz file atomically; return the content of the file."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(values) for name, values in members.items()}
    np.savez(buffer, **arrays)
    content = buffer.getvalue()
    write_bytes(path, content)
    return content


def read_npz(path: Location, what: str = "") -> dict[str, Array]:
    """Read the arrays of a file that `write_npz` wrote; error messages call the file ``what``.

    Raises
    ------
    StorageError : the file is absent or damaged, an array is compressed or holds Python objects, or
        the arrays claim more bytes than the file has.
    """
    return unpack_npz(read_bytes(path), f"{what} {path}".strip())


def unpack_npz(content: bytes, name: str) -> dict[str, Array]:
    """Read arrays as `read_npz` does, from the bytes of a file; messages use ``name``."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > len(content):
                raise ValueError("its members claim more bytes than the file has")
            return {
                member.filename.removesuffix(".npy"): _read_member(archive, member)
                for member in members
            }
    except Exception as error:  # zipfile and NumPy raise many kinds over a damaged file
        raise StorageError(f"cannot read {name}: {error}") from None


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    data = archive.read(member)  # also verifies the member's checksum
    try:
        header = read_npy_header(io.BytesIO(data))
    except ValueError as error:
        raise ValueError(f"{member.filename}: {error}") from None
    size = len(data) - header.offset
    if not header.fits(size) or header.value_bytes != size:
        raise ValueError(
            f"{member.filename} claims shape {header.shape} of {header.dtype} over {len(data)} "
            "bytes"
        )
    flat = (
        np.frombuffer(data, header.dtype, offset=header.offset)
        if size
        else np.empty(0, header.dtype)
    )
    return flat.reshape(header.shape, order="F" if header.column_major else "C").copy()
