"""Open a file or folder as a source.

The file ending selects the reader, and decides whether the reader runs in the sandbox, a child
process.

A reader and the library of its format are imported when a file of that format is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from srch_dist.errors import InputError, refusal
from srch_dist.ingest.sources.contents import ListedSource


def open_source(path: str | Path | Sequence[str | Path]) -> ListedSource:
    """Open a file or folder, or several files and folders as one source.

    Raises
    ------
    InputError : a path does not exist, or has an unknown format.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(part) for part in path]
    try:
        return _open_path(paths[0]) if len(paths) == 1 else _open_files(paths)
    except OSError as error:
        raise refusal(
            InputError, f"cannot read {error.filename or paths[0]}: {error.strerror}", error
        ) from None


def open_in_process(path: Path, *shards: Path) -> ListedSource:
    """Open a file, a folder or the shards of a table in this process, without the sandbox."""
    if shards:
        return _open_tables([path, *shards])
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if is_zarr(path):
        return _open_zarr(path)
    if path.is_dir():
        return _open_folder(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path}: unknown format; known endings: {', '.join(ENDINGS)}, and folders of such "
            "files"
        )
    return reader(path)


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return any((path / name).is_file() for name in _ZARR_FILES)


def is_known(path: Path) -> bool:
    """Whether a path is a file with a known ending."""
    return path.is_file() and path.suffix.lower() in ENDINGS


def _open_path(path: Path) -> ListedSource:
    if is_zarr(path) or (path.is_file() and path.suffix.lower() in _SANDBOXED):
        from srch_dist.ingest.sources.sandbox import SandboxedSource

        return SandboxedSource(path)
    return open_in_process(path)


def _open_files(paths: Sequence[Path]) -> ListedSource:
    from srch_dist.ingest.sources.folder import open_files

    return open_files(paths)


def _open_folder(path: Path) -> ListedSource:
    from srch_dist.ingest.sources.folder import open_folder

    return open_folder(path)


def _open_npz(path: Path) -> ListedSource:
    from srch_dist.ingest.sources.npz import NpzSource

    return NpzSource(path)


def _open_npy(path: Path) -> ListedSource:
    from srch_dist.ingest.sources.npy import NpySource

    return NpySource(path)


def _open_mat(path: Path) -> ListedSource:
    from srch_dist.ingest.sources.matlab import open_matlab

    return open_matlab(path)


def _open_hdf5(path: Path) -> ListedSource:
    from srch_dist.ingest.sources.hdf5 import Hdf5Source

    return Hdf5Source(path)


def _open_tables(path: Path | Sequence[Path]) -> ListedSource:
    from srch_dist.ingest.sources.tables import TableSource

    return TableSource(path)


def _open_zarr(path: Path) -> ListedSource:
    from srch_dist.ingest.sources.zarr_group import ZarrSource

    return ZarrSource(path)


_READERS: dict[str, Callable[[Path], ListedSource]] = {
    ".npz": _open_npz,
    ".npy": _open_npy,
    ".mat": _open_mat,
    ".h5": _open_hdf5,
    ".hdf5": _open_hdf5,
    ".parquet": _open_tables,
    ".arrow": _open_tables,
    ".feather": _open_tables,
}
TABLES = (".parquet", ".arrow", ".feather")
# Zarr is recognised by its metadata files; the ending is listed for messages only.
ENDINGS = (*_READERS, ".zarr")
_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")
# Formats read by C libraries that a damaged file can crash. Zarr is sandboxed too, because its
# codecs allocate the memory that a chunk claims.
_SANDBOXED = (".mat", ".h5", ".hdf5", *TABLES)
