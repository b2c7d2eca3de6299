"""Append codes of new rows to stored codes, replace rows by their ids, and delete rows.

New chunks are written to a folder beside the codes, with a journal: the same call resumes there. A
commit moves them in and then replaces the metadata of the array in one step. Until then readers see
the codes as they were. Old rows keep their numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from srch_dist.encode.batch import open_rows
from srch_dist.encode.input_profile import InputProfile, profile_rows
from srch_dist.encode.inputs import FileInput
from srch_dist.encode.model import Model, load_model
from srch_dist.encode.provenance import check_model
from srch_dist.encode.row_ids import read_ids
from srch_dist.encode.scoring import encode_rows
from srch_dist.errors import ConfigError, InputError
from srch_dist.ingest.fingerprint import SourceFiles
from srch_dist.kernels.types import Array, IntArray
from srch_dist.runtime.progress import Progress, silent
from srch_dist.storage import arrays
from srch_dist.storage._text_codec import TEXT
from srch_dist.storage.atomic_files import read_json, write_json
from srch_dist.storage.code_store import IDS, CodeStore, open_codes
from srch_dist.storage.durable import flush
from srch_dist.storage.failures import storage_error
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.journal import Journal
from srch_dist.storage.locations import Location, local_path
from srch_dist.storage.locks.output_lock import hold_output
from srch_dist.storage.recorded_runs import RUNS
from srch_dist.storage.run.open import open_run


@dataclass(frozen=True)
class Appended:
    """What an append or a deletion did.

    Attributes
    ----------
    rows : number of rows of the codes now, deleted ones included.
    added, deleted : rows that were added, and rows that were deleted or replaced.
    """

    rows: int
    added: int
    deleted: int


# The public name, so that pickles survive moves of modules.
Appended.__module__ = "srch_dist"


def append_codes(
    model: str | Location,
    data: str | Location,
    modality: str,
    codes: str | Path,
    progress: Progress | None = None,
    array: str | None = None,
) -> Appended:
    """Encode rows and append their codes; a row whose id is there already replaces the old one.

    Parameters
    ----------
    model : run directory of the run that made the codes.
    data, modality, array : what to encode, as in `encode_store`.
    codes : array of codes that `encode_store` wrote, on a local disk.
    progress : display of the progress; None shows nothing.

    Raises
    ------
    InputError : other model or modality; the same rows were appended before; the codes have ids,
        and the rows have none, or two of the rows have the same id.
    StorageError : the codes cannot be read or written, or another process writes them.
    """
    progress = progress or silent()
    loaded = load_model(open_run(model).path)
    rows = open_rows(data, loaded, modality, array)
    place = local_path(codes)
    with hold_output(place) as check_lock:
        stored = _open(place)
        check_model(stored, loaded, str(model))
        if stored.modality not in (None, modality):
            raise InputError(f"{place} holds codes of {stored.modality}, not of {modality}")
        ids = _new_ids(stored, rows, progress)
        replaced = _rows_with(stored, ids) if ids is not None else np.empty(0, np.int64)
        staging = _Staging(stored, _fingerprint(stored, loaded, modality, rows))
        try:
            features = staging.encode(loaded, modality, rows, progress)
            if features in _known_features(stored):
                staging.discard()
                raise InputError(f"{place} holds the rows of {rows.path} already")
            check_lock()
            staging.commit(ids, replaced, features)
        except OSError as error:
            raise storage_error("write", place, error) from None
        finally:
            staging.close()
    return Appended(stored.rows + rows.rows, rows.rows, len(replaced))


def delete_codes(codes: str | Path, ids: Sequence[str]) -> Appended:
    """Mark rows as deleted: no search finds them. Other rows keep their numbers.

    Parameters
    ----------
    codes : array of codes on a local disk.
    ids : ids of the rows; row numbers if the codes have no ids.

    Raises
    ------
    InputError : there is no such row.
    """
    place = local_path(codes)
    with hold_output(place) as check_lock:
        stored = _open(place)
        if stored.read_ids(0, 1) is None:
            try:
                rows = np.array([int(name) for name in ids], np.int64)
            except (ValueError, OverflowError):
                raise InputError(f"{place} has no ids; name rows by their numbers") from None
            stored.read_scattered(rows)
        else:
            rows = _rows_with(stored, np.array(list(ids), TEXT), every=True)
        before = len(stored.deleted)
        deleted = np.union1d(stored.deleted, rows)
        check_lock()
        _replace_metadata(place, {"deleted": deleted.tolist()})
    return Appended(stored.rows, 0, len(deleted) - before)


class _Staging:
    """New chunks of codes beside the array, in its own grid of chunks.

    The first new chunk repeats the rows of the last old chunk, which it will replace.
    """

    def __init__(self, stored: CodeStore, fingerprint: str) -> None:
        assert isinstance(stored.path, Path)
        self._stored, self._target = stored, stored.path
        self._path = stored.path.with_name(f".{stored.path.name}.append")
        self._journal = Journal(self._path, fingerprint)
        self._chunk = int(arrays.open_array(stored.path).chunks[0])
        self._runs: list[list[int]] = []

    def close(self) -> None:
        """Close the journal; an unfinished append stays and can be resumed."""
        self._journal.close()

    def discard(self) -> None:
        """Remove the new chunks."""
        self._journal.close()
        arrays.remove(self._path)

    def encode(
        self, model: Model, modality: str, rows: FeatureStore | FileInput, progress: Progress
    ) -> int:
        """Write the codes of all new rows that are not there yet; return the features' crc32."""
        stored = self._stored
        done, features = self._resume(stored.rows + rows.rows)
        if done:
            progress.note(f"encode {modality}: resuming from row {done}")
        profile = InputProfile()
        with progress.stage(f"encode {modality}", rows.rows) as stage:
            stage.advance(done)
            sizes = self._sizes(rows.rows, done)
            for start, block in _blocks(rows, modality, sizes, done, self._chunk):
                codes = encode_rows(model, modality, block)
                first = stored.rows + start
                base = first // self._chunk * self._chunk
                before = stored.read(base, first) if base < first else codes[:0]
                arrays.write_rows(self._path, base, np.concatenate([before, codes]))
                run = [first, first + len(codes), arrays.checksum(codes)]
                features = arrays.checksum(block, features)
                profile.add(profile_rows(model, modality, block, start))
                self._journal.append({"run": run, "features": features})
                self._runs.append(run)
                stage.advance(len(block))
        for text in profile.warnings(modality):
            progress.warn(text)
        self._journal.settle()
        return features

    def commit(self, ids: Array | None, replaced: IntArray, features: int) -> None:
        """Move the new chunks in, and replace the metadata."""
        stored = self._stored
        if ids is not None:
            self._write_ids(ids)
        rows = stored.rows + sum(stop - start for start, stop, _ in self._runs)
        parts = stored.parts or ((stored.rows, stored.features),)
        changes: dict[str, Any] = {
            "parts": [*map(list, parts), [rows - stored.rows, features]],
            "deleted": np.union1d(stored.deleted, replaced).tolist(),
        }
        if len(stored.recorded):
            changes[RUNS] = [*stored.recorded.tolist(), *self._runs]
        flush(self._path)
        if ids is not None:
            _move_chunks(self._path / IDS, self._target / IDS)
            (self._path / IDS / "zarr.json").replace(self._target / IDS / "zarr.json")
        _move_chunks(self._path, self._target)
        flush(self._target)
        _replace_metadata(self._target, changes, rows)
        self._journal.close()
        arrays.remove(self._path)

    def _resume(self, rows: int) -> tuple[int, int]:
        """Find what an interrupted append wrote, or start again.

        Returns the number of new rows that are done, and the crc32 of their features.
        """
        if self._path.exists() and self._journal.belongs():
            records = self._journal.read()
            if records:
                self._runs = [record["run"] for record in records]
                return self._runs[-1][1] - self._stored.rows, int(records[-1]["features"])
        arrays.remove(self._path)
        self._path.mkdir()
        self._journal.start()
        shape = (rows, self._stored.bits // 8)
        arrays.create_array(self._path, shape, self._chunk, np.uint8)
        return 0, 0

    def _sizes(self, rows: int, done: int) -> Iterator[int]:
        """Yield the numbers of new rows that fill whole chunks."""
        while done < rows:
            size = self._chunk - (self._stored.rows + done) % self._chunk
            yield min(size, rows - done)
            done += size

    def _write_ids(self, ids: Array) -> None:
        place, first = self._path / IDS, self._stored.rows
        base = first // self._chunk * self._chunk
        before = self._stored.read_ids(base, first)
        assert before is not None
        arrays.remove(place)
        arrays.create_array(place, (first + len(ids),), self._chunk, TEXT)
        arrays.write_rows(place, base, np.concatenate([before, ids]))


def _open(place: Path) -> CodeStore:
    stored = open_codes(place)
    if stored.values is not None or stored.learned:
        raise ConfigError(f"{place} cannot change; give an array that srch_dist.encode wrote")
    return stored


def _blocks(
    rows: FeatureStore | FileInput, modality: str, sizes: Iterator[int], start: int, chunk: int
) -> Iterator[tuple[int, Array]]:
    """Yield (first row, features) in blocks of the given sizes."""
    if isinstance(rows, FeatureStore):
        for size in sizes:
            yield start, rows.read(modality, start, start + size)
            start += size
        return
    pieces = (block for _, block in rows.blocks(chunk, start))
    pending: Array | None = None
    for size in sizes:
        while pending is None or len(pending) < size:
            piece = next(pieces)
            pending = piece if pending is None else np.concatenate([pending, piece])
        yield start, pending[:size]
        pending, start = pending[size:], start + size
    next(pieces, None)  # lets the reader find out that rows are missing


def _new_ids(stored: CodeStore, rows: FeatureStore | FileInput, progress: Progress) -> Array | None:
    """Read the ids of new rows, if the codes have ids; raise InputError if they are no keys."""
    ids = read_ids(rows)
    if stored.read_ids(0, 1) is None:
        if ids is not None:
            progress.note(f"append: {stored.path} has no ids, so the ids of the rows are not kept")
        return None
    if ids is None:
        raise InputError(
            f"{stored.path} has ids, but the new rows have none. Add a column 'ids' to them."
        )
    unique, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"two of the new rows have the id {str(unique[counts > 1][0])!r}")
    return ids


def _rows_with(stored: CodeStore, ids: Array, every: bool = False) -> IntArray:
    """Find the living rows with these ids; ``every``: raise InputError if an id has none."""
    wanted = {str(name) for name in ids.tolist()}
    dead, found, seen = set(stored.deleted.tolist()), [], set()
    step = 1 << 16
    for start in range(0, stored.rows, step):
        names = stored.read_ids(start, start + step)
        assert names is not None
        for row, name in enumerate(names.tolist(), start):
            if name in wanted and row not in dead:
                found.append(row)
                seen.add(name)
    if every and (missing := wanted - seen):
        raise InputError(f"{stored.path} has no row with the id {min(missing)!r}")
    return np.array(found, np.int64)


def _known_features(stored: CodeStore) -> set[int]:
    """Return the checksums of the features of all parts, as far as they are recorded."""
    parts = stored.parts or ((stored.rows, stored.features),)
    return {crc for _, crc in parts if crc is not None}


def _fingerprint(
    stored: CodeStore, model: Model, modality: str, rows: FeatureStore | FileInput
) -> str:
    """Compute what an interrupted append has to match; refuse rows that were appended before."""
    if isinstance(rows, FeatureStore):
        if rows.checksums.get(modality) in _known_features(stored):
            raise InputError(f"{stored.path} holds the rows of {rows.path} already")
        source = json.dumps([rows.path, dict(rows.checksums)])
    else:
        layout: Mapping[str, Any] = {"array": rows.array, "rows": rows.rows}
        source = SourceFiles([rows.path], stored.path).fingerprint(layout, stored.rows)
    return hashlib.sha256(f"{source} {modality} {model.bits} {stored.rows}".encode()).hexdigest()


def _move_chunks(source: Path, target: Path) -> None:
    for file in sorted((source / "c").rglob("*")):
        if file.is_file():
            place = target / "c" / file.relative_to(source / "c")
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)


def _replace_metadata(place: Path, changes: Mapping[str, Any], rows: int | None = None) -> None:
    """Replace ``zarr.json`` of an array in one step: attributes, and the number of rows."""
    described = read_json(place / "zarr.json")
    described["attributes"] = {**described.get("attributes", {}), **changes}
    if rows is not None:
        described["shape"][0] = rows
    write_json(place / "zarr.json", described)
