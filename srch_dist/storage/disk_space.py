"""Check and reserve disk space before anything is written."""

from __future__ import annotations

import errno
import math
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from srch_dist.errors import StorageError
from srch_dist.storage.failures import storage_error
from srch_dist.storage.locations import Location


def check_space(place: Location, needed: int, what: str, stored: int = 0) -> None:
    """Raise an error if an output does not fit on its disk. An object store has no limit.

    Parameters
    ----------
    place : file or folder to write.
    needed : number of bytes of the complete output.
    what : name of the output, for the message.
    stored : number of bytes of the output that are already on the disk; they count as free.

    Raises
    ------
    StorageError : the output does not fit; the message names the numbers of needed and free bytes.
    """
    if not isinstance(place, Path):
        return
    folder = next(parent for parent in place.parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if needed > free + stored:
        raise StorageError(
            f"{what} needs {needed} bytes, but the disk of {folder} has {free} bytes free"
            f"{f', plus {stored} bytes of {what} already written' if stored else ''}. Free disk "
            "space, or choose another location."
        )


def create_map(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Create a file with reserved disk space, and map the file into memory.

    Without the reservation, writing to the map on a full disk would end the process with SIGBUS.

    Raises
    ------
    StorageError : the disk is full, or the file cannot be written.
    """
    try:
        with path.open("xb") as file:
            _reserve(file, math.prod(shape) * dtype.itemsize)
        return np.memmap(path, dtype, "r+", shape=shape)
    except OSError as error:
        raise storage_error("write", path, error) from None


def _reserve(file: BinaryIO, size: int) -> None:
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except AttributeError:  # macOS
        file.truncate(size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        file.truncate(size)  # the file system cannot reserve
