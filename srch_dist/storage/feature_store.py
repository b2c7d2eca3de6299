"""The feature store: a Zarr group with one array (n, d_g) per modality g, and side arrays.

A side array has other data of the n rows, such as titles. A store is finished when the attributes
of its group contain the manifest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from srch_dist.config.nearest import did_you_mean
from srch_dist.errors import InputError, StorageError
from srch_dist.kernels.types import Array, IntArray
from srch_dist.storage import arrays
from srch_dist.storage._text_codec import TEXT
from srch_dist.storage._zarr_stores import zarr_store
from srch_dist.storage.durable import flush
from srch_dist.storage.failures import storage_error
from srch_dist.storage.journal import Journal
from srch_dist.storage.locations import Location, check_access, locate, writing
from srch_dist.storage.recorded_runs import parse_runs, read_verified
from srch_dist.storage.side_text import shown_text

FORMAT = 1
# Target size of a chunk of the widest array. The memory model counts the chunks that a task reads.
CHUNK_BYTES = 32 << 20
MANIFEST_KEY = "srch_dist"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class FeatureStore:
    """A finished feature store. The object holds names and shapes but no data.

    Attributes
    ----------
    path : folder or s3:// URL of the Zarr group.
    rows : number of rows n.
    modalities : number of dimensions d_g by modality name, in the order of the store.
    side : names of the other arrays of n rows (labels, split, ids, titles, …).
    rows_per_chunk : rows per chunk, the same in every array.
    attributes : small arrays that do not have n rows (label_names, …), as JSON values by name.
    checksums : by array name, the crc32 of all rows; the same for every chunk size.
    """

    path: str
    rows: int
    modalities: Mapping[str, int]
    side: tuple[str, ...]
    rows_per_chunk: int
    attributes: Mapping[str, Any]
    checksums: Mapping[str, int]

    def __repr__(self) -> str:
        dims = ", ".join(f"{name} {width}" for name, width in self.modalities.items())
        side = f"; {', '.join(self.side)}" if self.side else ""
        return f"FeatureStore({self.path!r}, {self.rows} rows, dimensions: {dims}{side})"

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Read rows ``start`` to ``stop`` - 1 (None: to the end) of a modality or side array.

        Raises
        ------
        StorageError : a chunk is damaged, or the rows do not match their recorded checksum.
        """
        self._check(name)
        path, runs = locate(self.path) / name, self._runs(name)
        stop = self.rows if stop is None else min(stop, self.rows)
        values = read_verified(path, runs, start, stop)
        # Earlier versions recorded no runs of side arrays, and encoded text differently for crc32.
        if not len(runs) and values.dtype.kind in "biuf" and len(values) == self.rows:
            arrays.verify_values(path, 0, values, self.checksums[name])
        return values

    def read_selected(self, name: str, rows: NDArray[np.int64]) -> Array:
        """Read the rows with the ascending numbers ``rows`` (m,), one chunk at a time.

        Raises StorageError as `read` does.
        """
        self._check(name)
        path = locate(self.path) / name
        return arrays.read_selected(path, rows, partial(read_verified, path, self._runs(name)))

    def show(self, name: str, row: int) -> str:
        """Return a row as text: values are joined by " / ", and a value "x, x" becomes "x"."""
        return shown_text(self.read(name, row, row + 1))

    def _runs(self, name: str) -> IntArray:
        # Not a field: a store is part of every task, and a large one has many runs.
        return _cached_runs(self.path, self.rows, tuple(self.checksums.items()))[name]

    def _check(self, name: str) -> None:
        if name not in self.modalities and name not in self.side:
            names = [*self.modalities, *self.side]
            known = ", ".join(names) + did_you_mean(name, names)
            raise InputError(f"{self.path} has no array {name!r}; it has {known}")


# The public name, so that pickles survive moves of modules.
FeatureStore.__module__ = "srch_dist"


class FeatureWriter:
    """Write a feature store in blocks of rows; readers refuse the store until `finish` returns.

    Parameters
    ----------
    specs : (shape, dtype) of every array by name, modalities first.
    modalities : names of the modalities.
    rows_per_chunk : rows per chunk of every array.
    fingerprint : text that identifies the source and the options. If given, the writer keeps a
        journal. A later writer with the same fingerprint resumes after the last written block.

    Attributes
    ----------
    written : number of rows written so far, by array name.
    state : by array name, a JSON value that the caller sets and the journal stores.

    Raises
    ------
    StorageError : the location cannot be written, or holds another store.
    """

    def __init__(
        self,
        path: str | Location,
        specs: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
        modalities: tuple[str, ...],
        rows_per_chunk: int,
        fingerprint: str | None = None,
    ) -> None:
        self.path = locate(path)
        self.rows_per_chunk = rows_per_chunk
        self._journal = Journal(self.path, fingerprint)
        self._specs, self._modalities = specs, modalities
        for name in specs:
            check_name(name)
        self._reset()
        if self.path.exists():
            if not self._journal.belongs():
                raise StorageError(f"{self.path} already exists; remove it or choose another store")
            # In an object store the rows cannot be resumed: the caller's scratch files were on the
            # disk of the earlier process.
            if isinstance(self.path, Path) and self._resume():
                return
            self.discard()
            self._reset()
        self._create()

    def write(self, name: str, start: int, block: Array) -> None:
        """Append ``block`` at row ``start`` of the array ``name``.

        Blocks are whole chunks, in row order; the last chunk of an array may be shorter.
        """
        # As it is read again: text of a fixed width becomes text of any length.
        stored = block.astype(_stored(self._specs[name][1]), copy=False)
        checksum = arrays.write_rows(self.path / name, start, stored)
        self._runs[name].append([start, start + len(block), checksum])
        self._checksums[name] = arrays.checksum(block, self._checksums[name])
        self.written[name] = start + len(block)
        self._journal.append(
            {
                "array": name,
                "run": [start, start + len(block), checksum],
                "checksum": self._checksums[name],
                "state": self.state.get(name),
            }
        )

    def finish(self, attributes: Mapping[str, Any], scratch: Iterable[Path] = ()) -> FeatureStore:
        """Write the manifest, which finishes the store, and open the store.

        Parameters
        ----------
        attributes : small arrays that do not have n rows, as JSON values by name.
        scratch : files that only a resumed writer needs; removed after the manifest is written.
        """
        self._journal.settle()
        flush(self.path)
        group = zarr.open_group(zarr_store(self.path), mode="r+")
        rows = self._specs[self._modalities[0]][0][0]
        with writing(self.path):
            group.attrs.update(
                {
                    **attributes,
                    MANIFEST_KEY: {
                        "format": FORMAT,
                        "rows": rows,
                        "modalities": list(self._modalities),
                        "side": [name for name in self._specs if name not in self._modalities],
                        "attributes": list(attributes),
                        "rows_per_chunk": self.rows_per_chunk,
                        "checksums": self._checksums,
                        "runs": self._runs,
                    },
                }
            )
        flush(self.path)
        for file in scratch:
            file.unlink(missing_ok=True)
        # Removed last: if this process is killed here, the same command starts the store again.
        self._journal.remove()
        return open_store(self.path)

    def _reset(self) -> None:
        self.written: dict[str, int] = {}
        self.state: dict[str, Any] = {}
        self._checksums = dict.fromkeys(self._specs, 0)
        self._runs: dict[str, list[list[int]]] = {name: [] for name in self._specs}

    def _create(self) -> None:
        """Create the group and its empty arrays."""
        try:
            self._journal.start()
            with writing(self.path):
                zarr.create_group(zarr_store(self.path), zarr_format=3)
                for name, (shape, dtype) in self._specs.items():
                    arrays.create_array(
                        self.path / name, shape, self.rows_per_chunk, _stored(dtype)
                    )
        except StorageError:
            self.discard()
            raise

    def _resume(self) -> bool:
        """Read the journal of an earlier writer; return whether its store can be resumed."""
        records = self._journal.read()
        if not records:
            return False
        try:
            group = zarr.open_group(zarr_store(self.path), mode="r", zarr_format=3)
            if MANIFEST_KEY in group.attrs:  # `finish` was cut off: scratch files may be gone
                return False
            for name in self._specs:
                arrays.open_array(self.path / name)
        except Exception:  # Zarr raises many kinds over metadata that were cut off
            return False
        try:
            for record in records:
                name, (start, stop, checksum) = record["array"], record["run"]
                if start != self.written.get(name, 0):
                    raise ValueError(
                        f"{name}: row {start}, expected row {self.written.get(name, 0)}"
                    )
                self.written[name] = stop
                self._checksums[name] = record["checksum"]
                self._runs[name].append([start, stop, checksum])
                if record["state"] is not None:
                    self.state[name] = record["state"]
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(
                f"the journal of {self.path} is damaged ({error!r}); remove {self.path} to start "
                "again"
            ) from None
        return True

    def discard(self) -> None:
        """Remove everything written so far."""
        self._journal.close()
        arrays.remove(self.path)

    def settle(self) -> None:
        """Flush the written rows to disk, then record them in the journal."""
        self._journal.settle()


def _stored(dtype: np.dtype[Any]) -> Any:
    """Return the dtype in which a store keeps ``dtype``; text of fixed width becomes `TEXT`."""
    return TEXT if dtype.kind == "U" else dtype


def check_name(name: str) -> None:
    """Raise InputError unless ``name`` is valid for an array or attribute of a store."""
    if not _NAME.fullmatch(name) or name in ("zarr.json", MANIFEST_KEY):
        raise InputError(
            f"{name!r} is no valid name of an array; use letters, digits, _ - . (zarr.json and "
            f"{MANIFEST_KEY} are reserved)"
        )


def open_store(path: str | Location) -> FeatureStore:
    """Open a finished feature store and check its arrays against its manifest.

    Raises
    ------
    StorageError : the path does not exist, or holds no finished store, or chunks are missing.
    """
    folder = locate(path)
    check_access(folder)
    hint = "make a store with: python -m srch_dist.ingest SOURCE STORE"
    if not (folder / "zarr.json").exists():
        if not folder.exists():
            raise StorageError(f"{folder} does not exist; {hint}")
        raise StorageError(f"{folder} is not a feature store; {hint}")
    try:
        group = zarr.open_group(zarr_store(folder), mode="r", zarr_format=3)
        manifest = dict(group.attrs).get(MANIFEST_KEY)
    except Exception as error:
        raise storage_error("open the feature store", folder, error) from None
    if not isinstance(manifest, dict):
        raise StorageError(
            f"{folder} is not a finished feature store; repeat the command that started the "
            f"store, or remove the folder and {hint}"
        )
    if manifest.get("format") != FORMAT:
        raise StorageError(
            f"{folder} has format {manifest.get('format')!r}, this version reads {FORMAT}; {hint}"
        )
    store = _from_manifest(folder, group, manifest)
    for name in [*store.modalities, *store.side]:
        missing = arrays.missing_chunks(folder / name)
        if missing:
            raise StorageError(f"{folder / name}: {missing} chunks are missing; {hint}")
    return store


def _read_runs(path: str, rows: int, checksums: Mapping[str, int]) -> Mapping[str, IntArray]:
    """Read the r runs of every array as `parse_runs` returns them, (r, 3), by array name.

    Raises StorageError if ``checksums`` are not those of the store: the store was replaced.
    """
    folder = locate(path)
    try:
        group = zarr.open_group(zarr_store(folder), mode="r", zarr_format=3)
        manifest: Any = dict(group.attrs)[MANIFEST_KEY]
    except Exception as error:
        raise storage_error("read the manifest of", folder, error) from None
    try:
        recorded = dict(manifest.get("runs", {}))
        names = [*manifest["modalities"], *manifest["side"]]
        replaced = dict(manifest["checksums"]) != dict(checksums)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{path}: its manifest is damaged ({error!r})") from None
    if replaced:
        raise StorageError(f"{path} was replaced while it was in use; start again")
    return {name: parse_runs(folder / name, rows, recorded.get(name, [])) for name in names}


@lru_cache(maxsize=8)
def _cached_runs(
    path: str, rows: int, checksums: tuple[tuple[str, int], ...]
) -> Mapping[str, IntArray]:
    """Return the result of `_read_runs`, cached in this process by path and checksums."""
    return _read_runs(path, rows, dict(checksums))


def _from_manifest(
    folder: Location, group: zarr.Group, manifest: Mapping[str, Any]
) -> FeatureStore:
    """Build a `FeatureStore`; raise StorageError if the arrays do not match the manifest."""
    try:
        rows, per_chunk = int(manifest["rows"]), int(manifest["rows_per_chunk"])
        modalities, side = list(manifest["modalities"]), list(manifest["side"])
        values = {str(name): group.attrs[name] for name in manifest["attributes"]}
        checksums = {name: int(value) for name, value in dict(manifest["checksums"]).items()}
        if rows < 1 or per_chunk < 1 or not modalities:
            raise ValueError(f"{rows} rows, {per_chunk} rows per chunk, modalities {modalities}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise StorageError(f"{folder}: its manifest is damaged ({error!r})") from None
    dims: dict[str, int] = {}
    for name in [*modalities, *side]:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise StorageError(f"{folder}: its manifest names an array {name!r}, an invalid name")
        array = arrays.open_array(folder / name)
        wanted = 2 if name in modalities else array.ndim
        if array.shape[:1] != (rows,) or array.ndim != wanted:
            raise StorageError(f"{folder / name} has shape {array.shape}, expected {rows} rows")
        if name in modalities:
            if array.dtype.kind not in "biuf":
                raise StorageError(f"{folder / name} is {array.dtype}, expected numbers")
            dims[name] = int(array.shape[1])
    return FeatureStore(str(folder), rows, dims, tuple(side), per_chunk, values, checksums)
