"""Codes in the forms that other tools read: faiss, usearch, NumPy, Parquet.

Everywhere bit j of a code is bit j % 8 of byte j // 8, as `numpy.packbits(…, bitorder="little")`
packs them; `numpy.unpackbits(codes, axis=1, bitorder="little")` gives the bits back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.lib.format import open_memmap

from srch_dist.errors import ConfigError, InputError, StorageError, require
from srch_dist.kernels.sampling import Stream, smallest_hashes
from srch_dist.kernels.types import Packed
from srch_dist.runtime.progress import Progress, ProgressStage, silent
from srch_dist.search.hamming import search_codes
from srch_dist.storage.code_store import CodeStore
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.locations import local_path

Format = Literal["faiss", "faiss-ivf", "usearch", "npy", "parquet"]

# Rows of codes that an inverted file's lists are learned from, a list (faiss asks for 39).
_ROWS_A_LIST = 64
_RECALL_QUERIES, _RECALL_TOP = 200, 10


def export_codes(
    codes: CodeStore,
    out: str | Path,
    form: Format,
    store: FeatureStore | None = None,
    lists: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Write codes to ``out``; nothing is there unless all of them were written.

    Parameters
    ----------
    form : ``faiss`` an IndexBinaryFlat; ``faiss-ivf`` an IndexBinaryIVF, whose recall against
        exact search is measured and kept beside it in ``OUT.json``; ``usearch`` an index by
        Hamming distance; ``npy`` the packed codes; ``parquet`` row numbers, ids and codes. Keys
        of all indexes are row numbers.
    store : the features that were encoded; its ids and titles go into Parquet.
    lists : of ``faiss-ivf``; about 4 √n when absent.

    Raises
    ------
    StorageError : ``out`` is there already or cannot be written.
    InputError : a store of other rows. ExtraError : the format's library is not installed.
    """
    progress = progress or silent()
    if form not in get_args(Format):
        raise ConfigError(f"format is {form!r}; known formats: {', '.join(get_args(Format))}")
    target = local_path(out)
    if target.exists():
        raise StorageError(f"{target} is already there; remove it or name another file")
    if store is not None and store.rows != codes.rows:
        raise InputError(
            f"{store.path} has {store.rows} rows, {codes.path} {codes.rows}; give the store that "
            "was encoded"
        )
    if lists is not None and not 1 <= lists <= codes.rows:
        raise ConfigError(f"lists is {lists}; there are {codes.rows} rows to put into them")
    partial = target.with_name(f".{target.name}.partial")
    writers: dict[str, Callable[[ProgressStage], None]] = {
        "faiss": lambda stage: _write_flat(codes, partial, stage),
        "faiss-ivf": lambda stage: _write_ivf(codes, partial, lists, seed, stage),
        "usearch": lambda stage: _write_usearch(codes, partial, stage),
        "npy": lambda stage: _write_npy(codes, partial, stage),
        "parquet": lambda stage: _write_parquet(codes, partial, store, stage),
    }
    try:
        with progress.stage(f"export {form}", codes.rows) as stage:
            writers[form](stage)
        if form == "faiss-ivf":
            record = _measure_recall(codes, partial, seed, progress)
            Path(f"{target}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return target


def _write_flat(codes: CodeStore, path: Path, stage: ProgressStage) -> None:
    faiss = require("faiss", "export", "a faiss index")
    _add_all(faiss.IndexBinaryFlat(codes.bits), codes, path, stage)


def _write_ivf(
    codes: CodeStore, path: Path, lists: int | None, seed: int, stage: ProgressStage
) -> None:
    faiss = require("faiss", "export", "a faiss index")
    count = lists or max(1, min(codes.rows, round(4 * math.sqrt(codes.rows))))
    quantiser = faiss.IndexBinaryFlat(codes.bits)
    index = faiss.IndexBinaryIVF(quantiser, codes.bits, count)
    index.cp.seed = 1 + seed % (1 << 30)
    index.cp.min_points_per_centroid = 1  # faiss would warn on standard output
    index.train(_sample(codes, min(codes.rows, _ROWS_A_LIST * count), seed))
    _add_all(index, codes, path, stage)


def _add_all(index: Any, codes: CodeStore, path: Path, stage: ProgressStage) -> None:
    faiss = require("faiss", "export", "a faiss index")
    for _, run in codes.runs():
        index.add(np.ascontiguousarray(run))
        stage.advance(len(run))
    try:
        faiss.write_index_binary(index, str(path))
    except RuntimeError as error:
        raise OSError(str(error).strip().splitlines()[-1]) from None


def _write_usearch(codes: CodeStore, path: Path, stage: ProgressStage) -> None:
    usearch = require("usearch.index", "export", "a usearch index")
    kind, metric = usearch.ScalarKind.B1, usearch.MetricKind.Hamming
    index = usearch.Index(ndim=codes.bits, metric=metric, dtype=kind)
    for start, run in codes.runs():
        index.add(np.arange(start, start + len(run), dtype=np.uint64), np.ascontiguousarray(run))
        stage.advance(len(run))
    index.save(str(path))


def _write_npy(codes: CodeStore, path: Path, stage: ProgressStage) -> None:
    shape = (codes.rows, codes.bits // 8)
    mapped = open_memmap(path, "w+", np.uint8, shape)
    for start, run in codes.runs():
        mapped[start : start + len(run)] = run
        stage.advance(len(run))
    mapped.flush()


def _write_parquet(
    codes: CodeStore, path: Path, store: FeatureStore | None, stage: ProgressStage
) -> None:
    """Columns ``row``, ``ids`` and ``titles`` where the store has them, and ``code``."""
    pa = require("pyarrow", "export", "a Parquet file")
    parquet = require("pyarrow.parquet", "export", "a Parquet file")
    beside = [] if store is None else [name for name in ("ids", "titles") if name in store.side]
    width = codes.bits // 8
    metadata = {"bits": str(codes.bits), "bitorder": "little", "modality": codes.modality or ""}
    writer = None
    try:
        for start, run in codes.runs():
            stop = start + len(run)
            columns = {"row": pa.array(np.arange(start, stop))}
            for name in beside:
                assert store is not None
                columns[name] = pa.array(store.read(name, start, stop).tolist())
            data = pa.py_buffer(np.ascontiguousarray(run))
            columns["code"] = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(width), len(run), [None, data]
            )
            table = pa.table(columns)
            if writer is None:
                writer = parquet.ParquetWriter(path, table.schema.with_metadata(metadata))
            writer.write_table(table.replace_schema_metadata(metadata))
            stage.advance(len(run))
    finally:
        if writer is not None:
            writer.close()


def _sample(codes: CodeStore, count: int, seed: int) -> Packed:
    """``count`` codes drawn by row number and seed."""
    rows = np.arange(codes.rows)
    return codes.read_scattered(smallest_hashes(rows, count, seed, Stream.INDEX_SAMPLE))


def _measure_recall(codes: CodeStore, path: Path, seed: int, progress: Progress) -> dict[str, Any]:
    """Share of the 10 nearest distances that an inverted file reaches, by lists looked at.

    Queries are rows of the codes. A row counts as found where its distance is one of the exact
    ones: rows at equal distance stand for each other.
    """
    faiss = require("faiss", "export", "a faiss index")
    index = faiss.read_index_binary(str(path))
    queries = _sample(codes, min(codes.rows, _RECALL_QUERIES), seed + 1)
    top = min(_RECALL_TOP, codes.rows)
    exact = search_codes(codes, queries, top, progress).distances
    recall, probes = {}, 1
    while True:
        index.nprobe = min(probes, index.nlist)
        found, rows = index.search(queries, top)
        far = np.where(rows < 0, codes.bits + 1, found)
        recall[str(index.nprobe)] = float((far <= exact[:, -1:]).mean())
        if probes >= index.nlist:
            break
        probes *= 2
    named = ", ".join(f"{key}: {value:.3f}" for key, value in recall.items())
    progress.note(f"recall@{top} by lists looked at, of {index.nlist}: {named}")
    return {"lists": index.nlist, "top": top, "queries": len(queries), "recall": recall}
