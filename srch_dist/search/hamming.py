"""Nearest codes in Hamming distance through faiss, over codes that stay on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.errors import ConfigError, InputError, StorageError, require
from srch_dist.kernels.packed_codes import unpack_codes
from srch_dist.kernels.types import Packed
from srch_dist.runtime.progress import Progress, silent
from srch_dist.storage.code_store import CodeStore

PURPOSE = "Hamming search"


@dataclass(frozen=True)
class Found:
    """What queries found, best first.

    Attributes
    ----------
    rows : (q, top) row numbers. distances : (q, top) Hamming distances.
    scores : (q, top) agreement Σ_j s_j b_j of the query's real-valued bits s with the code b,
        by which the rows are then ranked; None without re-ranking.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.int64]
    scores: NDArray[np.float64] | None = None


def search_codes(
    codes: CodeStore, queries: Packed, top: int, progress: Progress | None = None
) -> Found:
    """The ``top`` nearest rows of each query (q, bits / 8), exactly, in one pass over the codes.

    Rows of equal distance are ordered by row number. Where more rows tie for the last places than
    there are places, which of them are found is faiss's choice.

    Raises
    ------
    InputError : queries of another width. ConfigError : ``top`` below 1 or above the rows.
    """
    progress = progress or silent()
    faiss = require("faiss", "search", PURPOSE)
    _check(codes.bits, codes.rows, queries, top)
    distances = np.empty((len(queries), 0), np.int64)
    rows = np.empty((len(queries), 0), np.int64)
    with progress.stage("search", codes.rows) as stage:
        for start, run in codes.runs():
            block = np.ascontiguousarray(run)
            near, places = faiss.knn_hamming(queries, block, min(top, len(block)))
            distances, rows = _best(
                np.concatenate([distances, near], axis=1),
                np.concatenate([rows, places.astype(np.int64) + start], axis=1),
                top,
            )
            stage.advance(len(block))
    return Found(rows, distances)


def search_index(path: str | Path, queries: Packed, top: int, probes: int | None = None) -> Found:
    """As `search_codes`, through a faiss binary index that `export` wrote.

    ``probes`` lists of an inverted file are looked at; fewer than ``top`` rows in them is an
    error, never a shorter answer.
    """
    faiss = require("faiss", "search", PURPOSE)
    index = open_index(path)
    _check(index.d, index.ntotal, queries, top)
    if isinstance(index, faiss.IndexBinaryIVF):
        index.nprobe = min(probes or default_probes(index.nlist), index.nlist)
    distances, rows = index.search(queries, top)
    if (rows < 0).any():
        raise ConfigError(
            f"fewer than {top} rows in the lists that were looked at; raise --probes, ask for "
            "fewer, or search without --index"
        )
    near, places = _best(distances.astype(np.int64), rows.astype(np.int64), top)
    return Found(places, near)


def default_probes(lists: int) -> int:
    """Lists of an inverted file that are looked at where nothing is said."""
    return max(1, lists // 32)


def open_index(path: str | Path) -> Any:
    """A faiss binary index from its file; raises StorageError."""
    faiss = require("faiss", "search", PURPOSE)
    if not Path(path).is_file():
        raise StorageError(f"{path} does not exist; make it with srch_dist.export")
    try:
        return faiss.read_index_binary(str(path))
    except RuntimeError as error:
        line = str(error).strip().splitlines()[-1]
        raise StorageError(f"cannot read {path} as a faiss binary index: {line}") from None


def stated_recall(path: str | Path, probes: int | None = None) -> str | None:
    """The recall that `export` measured for an index, in words; None where nothing was."""
    record = Path(f"{path}.json")
    if not record.is_file():
        return None
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        found = {int(key): float(value) for key, value in values["recall"].items()}
        wanted = probes or default_probes(int(values["lists"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"cannot read {record}: {error}") from None
    below = [key for key in sorted(found) if key <= wanted]
    if not below:
        return f"recall@{values['top']} below {found[min(found)]:.3f}, that of {min(found)} probes"
    exactly = "" if below[-1] == wanted else "at least "
    return f"recall@{values['top']} {exactly}{found[below[-1]]:.3f} at {wanted} probes"


def rerank(codes: CodeStore, scores: NDArray[np.float64], found: Found, top: int) -> Found:
    """The ``top`` of the rows found by real-valued bits (q, l) of the queries against codes.

    The agreement Σ_j s_j b_j tells apart what the signs of s alone do not.
    """
    if scores.shape != (len(found.rows), codes.bits):
        raise InputError(f"scores are {scores.shape}, expected {(len(found.rows), codes.bits)}")
    rows, distances, kept = [], [], []
    for score, near, apart in zip(scores, found.rows, found.distances, strict=True):
        bits = unpack_codes(codes.read_scattered(near)).astype(np.float64)
        agreement = bits @ score
        order = np.lexsort((near, -agreement))[:top]
        rows.append(near[order])
        distances.append(apart[order])
        kept.append(agreement[order])
    return Found(np.array(rows), np.array(distances), np.array(kept))


def _best(
    distances: NDArray[np.int64], rows: NDArray[np.int64], top: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ``top`` first by distance, then row number."""
    order = np.lexsort((rows, distances), axis=1)[:, :top]
    return np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)


def _check(bits: int, rows: int, queries: Packed, top: int) -> None:
    if queries.ndim != 2 or queries.dtype != np.uint8 or queries.shape[1] * 8 != bits:
        raise InputError(
            f"queries are {queries.shape} of {queries.dtype}, the codes have {bits} bits: expected "
            f"uint8 (q, {bits // 8})"
        )
    if not 1 <= top <= rows:
        raise ConfigError(f"top is {top}; there are {rows} rows to find")
