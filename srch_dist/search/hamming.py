"""Hamming top-k search with faiss: exact over codes on disk, or with an exported index."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from srch_dist.errors import ConfigError, InputError, StorageError, require
from srch_dist.kernels.packed_codes import unpack_codes
from srch_dist.kernels.types import IntArray, Mask, Matrix, Packed
from srch_dist.runtime.progress import Progress, silent
from srch_dist.search.index_codes import check_codes
from srch_dist.search.index_file import check_index
from srch_dist.storage.code_store import CodeStore
from srch_dist.storage.failures import storage_error

PURPOSE = "Hamming search"


@dataclass(frozen=True)
class SearchResult:
    """Nearest rows of q queries, best first.

    Attributes
    ----------
    rows : (q, top) row numbers.
    distances : (q, top) Hamming distances.
    scores : (q, top) inner products ⟨s, b⟩ of the query's real-valued scores s and the ±1 code b
        of the row, by which re-ranked rows are sorted. None without re-ranking.
    parts : (q, top) number of the code store of each row; None if one store was searched.
    """

    rows: IntArray
    distances: IntArray
    scores: Matrix | None = None
    parts: IntArray | None = None

    def __repr__(self) -> str:
        queries, top = self.rows.shape
        return f"SearchResult({queries} queries, {top} rows each)"


# The public name, so that pickles survive moves of modules.
SearchResult.__module__ = "srch_dist"


def search_codes(
    codes: CodeStore,
    queries: Packed,
    top: int,
    progress: Progress | None = None,
    allowed: Mask | None = None,
) -> SearchResult:
    """Find the nearest rows of each query, exactly, in one pass over the codes.

    Rows at equal distance are sorted by row number. If several rows tie for the last results,
    faiss chooses among them.

    Parameters
    ----------
    codes : codes of n rows, on disk or in memory.
    queries : (q, l / 8) uint8, packed codes.
    top : results per query, 1 … n.
    progress : display of the progress; None shows nothing.
    allowed : (n,) True for the rows that may be found; None finds all. If fewer than ``top`` rows
        are allowed, the result has as many columns as rows are allowed.

    Raises
    ------
    InputError : the queries do not have as many bits as the codes, or no row is allowed.
    ConfigError : ``top`` is out of range.
    """
    progress = progress or silent()
    faiss = require("faiss", "search", PURPOSE)
    _check_queries(codes.bits, codes.rows, queries, top)
    allowed = both_masks(codes.alive(), allowed)
    top = _most_results(top, codes.rows, allowed)
    distances = np.empty((len(queries), 0), np.int64)
    rows = np.empty((len(queries), 0), np.int64)
    with progress.stage("search", codes.rows) as stage:
        for start, run in codes.runs():
            numbers = np.arange(start, start + len(run))
            if allowed is not None:
                numbers = numbers[allowed[start : start + len(run)]]
            if len(numbers):
                block = np.ascontiguousarray(
                    run if len(numbers) == len(run) else run[numbers - start]
                )
                near, positions = faiss.knn_hamming(queries, block, min(top, len(block)))
                distances, rows = _nearest(
                    np.concatenate([distances, near], axis=1),
                    np.concatenate([rows, numbers[positions]], axis=1),
                    top,
                )
            stage.advance(len(run))
    return SearchResult(rows, distances)


def search_index(
    path: str | Path,
    queries: Packed,
    top: int,
    probes: int | None = None,
    codes: CodeStore | None = None,
    allowed: Mask | None = None,
) -> SearchResult:
    """Find the nearest rows of each query with a faiss binary index written by export.

    Parameters
    ----------
    path : file of the index.
    queries, top : as in `search_codes`.
    probes : number of lists to search, if the index is an inverted file; None uses
        `default_probes`.
    codes : the codes that the index should hold. All codes of the index are compared with them.
        If None, nothing is compared.
    allowed : (n,) as in `search_codes`.

    Raises
    ------
    ConfigError : the searched lists have fewer than ``top`` rows.
    InputError : the rows or the codes of the index differ from ``codes``.
    StorageError : the index does not exist, is damaged or cannot be read.
    """
    faiss = require("faiss", "search", PURPOSE)
    index = open_index(path)
    _check_queries(index.d, index.ntotal, queries, top)
    if codes is not None:
        check_codes(path, index, codes)
        allowed = both_masks(codes.alive(), allowed)
    if allowed is not None and len(allowed) != index.ntotal:
        raise InputError(
            f"{path} holds {index.ntotal} rows, but the filter has {len(allowed)}. Give the index "
            "that was exported from the codes."
        )
    top = _most_results(top, index.ntotal, allowed)
    if isinstance(index, faiss.IndexBinaryIVF):
        index.nprobe = min(probes or default_probes(index.nlist), index.nlist)
    if allowed is None:
        distances, rows = index.search(queries, top)
    else:
        distances, rows = _search_allowed(index, queries, top, allowed)
    if rows.min() < -1 or rows.max() >= index.ntotal:
        raise StorageError(
            f"{path} is damaged: its lists hold row numbers outside 0 to {index.ntotal - 1}. "
            "Write it again with: python -m srch_dist.export"
        )
    if (rows < 0).any():
        raise ConfigError(
            f"the searched lists hold fewer than {top} rows. Raise --probes, lower --top, or "
            "search without --index."
        )
    distances, rows = _nearest(distances.astype(np.int64), rows.astype(np.int64), top)
    return SearchResult(rows, distances)


def _search_allowed(
    index: Any, queries: Packed, top: int, allowed: Mask
) -> tuple[IntArray, IntArray]:
    """Search allowed rows: by a bitmap in a flat index, else among more and more results.

    Returns distances and rows (q, top); a row of -1 was not found.
    """
    faiss = require("faiss", "search", PURPOSE)
    if not isinstance(index, faiss.IndexBinaryIVF):
        selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        found: tuple[IntArray, IntArray] = index.search(
            queries, top, params=faiss.SearchParameters(sel=selector)
        )
        return found
    # faiss has no selector for binary inverted files.
    wanted = min(index.ntotal, 2 * top * len(allowed) // int(allowed.sum()))
    while True:
        distances, rows = index.search(queries, wanted)
        keep = (rows >= 0) & allowed[rows]
        if wanted == index.ntotal or (keep.sum(axis=1) >= top).all():
            break
        wanted = min(index.ntotal, 4 * wanted)
    order = np.argsort(~keep, axis=1, kind="stable")[:, :top]
    rows = np.where(keep, rows, -1)
    return np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)


def both_masks(one: Mask | None, other: Mask | None) -> Mask | None:
    """Return where both masks (n,) are True; None is True everywhere."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _most_results(top: int, rows: int, allowed: Mask | None) -> int:
    """Return the number of results that allowed rows can give, at most ``top``."""
    if allowed is None:
        return top
    if len(allowed) != rows:
        raise InputError(f"the filter has {len(allowed)} rows, but the codes have {rows}")
    if not allowed.any():
        raise InputError("no row may be found: the filter matches none, or all are deleted.")
    return min(top, int(allowed.sum()))


def default_probes(lists: int) -> int:
    """Return the default number of lists to search, for an inverted file with ``lists`` lists."""
    return max(1, lists // 32)


def open_index(path: str | Path) -> Any:
    """Read a faiss binary index from a file; raise StorageError if it cannot be read."""
    faiss = require("faiss", "search", PURPOSE)
    if Path(path).exists() and not Path(path).is_file():
        raise StorageError(f"{path} is no file. Give an index that srch_dist.export wrote.")
    if not Path(path).is_file():
        raise StorageError(f"{path} does not exist. Write it with: python -m srch_dist.export")
    check_index(Path(path))
    try:
        return faiss.read_index_binary(str(path))
    except RuntimeError as error:
        line = str(error).strip().splitlines()[-1]
        raise StorageError(f"cannot read {path} as a faiss binary index: {line}") from None


def stated_recall(path: str | Path, probes: int | None = None) -> str | None:
    """Format the recall that export measured for an index; None if it measured no recall."""
    record = Path(f"{path}.json")
    if not record.is_file():
        return None
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        recall = {int(key): float(value) for key, value in values["recall"].items()}
        searched = probes or default_probes(int(values["lists"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise storage_error("read", record, error) from None
    measured = [key for key in sorted(recall) if key <= searched]
    if not measured:
        fewest = min(recall)
        return f"recall@{values['top']} below {recall[fewest]:.3f}, the value at {fewest} probes"
    bound = "" if measured[-1] == searched else "at least "
    return f"recall@{values['top']} {bound}{recall[measured[-1]]:.3f} at {searched} probes"


def rerank(codes: CodeStore, scores: Matrix, candidates: SearchResult, top: int) -> SearchResult:
    """Sort candidates by ⟨s, b⟩ of real-valued scores s and codes b, and keep the first ``top``.

    The magnitudes of s distinguish rows at equal Hamming distance from the query.

    Parameters
    ----------
    codes : codes of all rows.
    scores : (q, l) real-valued scores of the queries.
    candidates : rows found by Hamming distance, ``top`` or more per query.
    top : results per query.
    """
    expected = (len(candidates.rows), codes.bits)
    if scores.shape != expected:
        raise InputError(f"scores have shape {scores.shape}, expected {expected}")
    rows, distances, products = [], [], []
    for score, near, near_distances in zip(
        scores, candidates.rows, candidates.distances, strict=True
    ):
        bits = unpack_codes(codes.read_scattered(near)).astype(np.float64)
        product = bits @ score
        order = np.lexsort((near, -product))[:top]
        rows.append(near[order])
        distances.append(near_distances[order])
        products.append(product[order])
    return SearchResult(np.array(rows), np.array(distances), np.array(products))


def _nearest(distances: IntArray, rows: IntArray, top: int) -> tuple[IntArray, IntArray]:
    """Select the ``top`` nearest of m candidates for each of q queries; ties by row number.

    ``distances`` and ``rows`` of the candidates are (q, m); the results are (q, top).
    """
    order = np.lexsort((rows, distances), axis=1)[:, :top]
    return np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)


def _check_queries(bits: int, rows: int, queries: Packed, top: int) -> None:
    if queries.ndim != 2 or queries.dtype != np.uint8 or queries.shape[1] * 8 != bits:
        raise InputError(
            f"queries have shape {queries.shape} of {queries.dtype}, expected (q, {bits // 8}) of "
            f"uint8 for codes of {bits} bits"
        )
    if not 1 <= top <= rows:
        raise ConfigError(f"top is {top}, expected 1 to {rows}, the number of rows")
