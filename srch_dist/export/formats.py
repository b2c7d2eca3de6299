"""Write codes in the formats of faiss, usearch, NumPy and Parquet.

In every format, bit j of a code is bit j % 8 of byte j // 8 (NumPy's ``bitorder="little"``).
`numpy.unpackbits(codes, axis=1, bitorder="little")` restores the bits. Keys of indexes are row
numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
from numpy.lib.format import open_memmap

from srch_dist.config.nearest import did_you_mean
from srch_dist.errors import ConfigError, InputError, require
from srch_dist.kernels.sampling import Stream, smallest_hashes
from srch_dist.kernels.types import Array, Packed
from srch_dist.runtime.progress import Progress, ProgressStage, silent
from srch_dist.search.hamming import search_codes
from srch_dist.storage.code_store import CodeStore
from srch_dist.storage.failures import storage_error
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.locations import local_path
from srch_dist.storage.outputs import check_file, check_new

Format = Literal["faiss", "faiss-ivf", "usearch", "npy", "parquet"]

# Training codes per list of an inverted file (faiss recommends 39 or more).
_ROWS_A_LIST = 64
_RECALL_QUERIES, _RECALL_TOP = 200, 10


# The function has seven parameters, because it is public and takes the command's options.
def export_codes(
    codes: CodeStore,
    out: str | Path,
    form: Format,
    store: FeatureStore | None = None,
    lists: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Write codes to a file in the format of another tool.

    ``out`` appears after all codes are written.

    Parameters
    ----------
    codes : codes of n rows.
    out : file to create.
    form : ``faiss``, an IndexBinaryFlat; ``faiss-ivf``, an IndexBinaryIVF, whose recall against
        exact search is measured and written to ``OUT.json``; ``usearch``, an index by Hamming
        distance; ``npy``, the packed codes (n, l / 8) uint8; ``parquet``, row numbers, ids, titles
        and codes.
    store : feature store that was encoded; ``parquet`` also writes its ids and titles.
    lists : number of lists of ``faiss-ivf``; None means about 4 √n.
    seed : seed of two samples: the codes that train the lists, and the queries that measure recall.
    progress : display of the progress; None shows nothing.

    Returns
    -------
    Path of the file.

    Raises
    ------
    StorageError : ``out`` already exists or cannot be written.
    InputError : store and codes have different numbers of rows.
    ConfigError : the format is unknown, or ``lists`` is out of range.
    ExtraError : the library of the format is not installed.
    """
    progress = progress or silent()
    target = _check_request(codes, out, form, store, (lists, seed))
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
        raise storage_error("write", target, error) from None
    finally:
        partial.unlink(missing_ok=True)
    return target


def _check_request(
    codes: CodeStore,
    out: str | Path,
    form: Format,
    store: FeatureStore | None,
    numbers: tuple[int | None, int],
) -> Path:
    """Raise an error for options that `export_codes` cannot use; else return ``out`` as a path.

    ``numbers`` are ``lists`` and ``seed``.
    """
    lists, seed = numbers
    if form not in get_args(Format):
        raise ConfigError(
            f"unknown format {form!r}; known formats: "
            f"{', '.join(get_args(Format))}{did_you_mean(str(form), get_args(Format))}"
        )
    target = local_path(out)
    check_file(target)
    check_new(target)
    if store is not None and store.rows != codes.rows:
        raise InputError(
            f"{store.path} has {store.rows} rows, but {codes.path} has {codes.rows}. Give the "
            "store that was encoded."
        )
    if not 0 <= seed < 1 << 63:
        raise ConfigError(f"seed is {seed}, expected 0 to 2**63 - 1")
    if lists is not None and not 1 <= lists <= codes.rows:
        raise ConfigError(f"lists is {lists}, expected 1 to {codes.rows}, the number of rows")
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
    index.cp.min_points_per_centroid = 1  # keeps faiss from warning on standard output
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
    """Write a Parquet table: ``row``, ``code``, and the store's ``ids`` and ``titles`` if any."""
    pa = require("pyarrow", "export", "a Parquet file")
    parquet = require("pyarrow.parquet", "export", "a Parquet file")
    side = [] if store is None else [name for name in ("ids", "titles") if name in store.side]
    width = codes.bits // 8
    metadata = {"bits": str(codes.bits), "bitorder": "little", "modality": codes.modality or ""}
    writer = None
    try:
        for start, run in codes.runs():
            stop = start + len(run)
            columns = {"row": pa.array(np.arange(start, stop))}
            for name in side:
                assert store is not None
                columns[name] = _arrow_column(pa, store.read(name, start, stop))
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


def _arrow_column(pa: ModuleType, values: Array) -> Any:
    """Rows of a side array (n, …) as an Arrow array of the same type; lists if a row has axes."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.dtype.kind in "UT":
        flat = pa.array(values.ravel().tolist(), pa.string())
    else:  # Arrow has no types of foreign byte order
        flat = pa.array(values.astype(values.dtype.newbyteorder("="), copy=False).ravel())
    for axis in range(values.ndim - 1, 0, -1):
        ends = np.arange(math.prod(values.shape[:axis]) + 1, dtype=np.int32) * values.shape[axis]
        flat = pa.ListArray.from_arrays(pa.array(ends), flat)
    return flat


def _sample(codes: CodeStore, count: int, seed: int) -> Packed:
    """Draw a seeded sample of ``count`` codes, in row order."""
    rows = np.arange(codes.rows)
    return codes.read_scattered(smallest_hashes(rows, count, seed, Stream.INDEX_SAMPLE))


def _measure_recall(codes: CodeStore, path: Path, seed: int, progress: Progress) -> dict[str, Any]:
    """Measure recall@10 of an inverted file for 1, 2, 4, … searched lists.

    Queries are a sample of the codes. A result counts as found if its distance is at most the
    distance of the exact 10th neighbour, so ties count.
    """
    faiss = require("faiss", "export", "a faiss index")
    index = faiss.read_index_binary(str(path))
    queries = _sample(codes, min(codes.rows, _RECALL_QUERIES), seed + 1)
    top = min(_RECALL_TOP, codes.rows)
    exact = search_codes(codes, queries, top, progress).distances
    recall, probes = {}, 1
    while True:
        index.nprobe = min(probes, index.nlist)
        distances, rows = index.search(queries, top)
        distances = np.where(rows < 0, codes.bits + 1, distances)  # faiss pads short results
        recall[str(index.nprobe)] = float((distances <= exact[:, -1:]).mean())
        if probes >= index.nlist:
            break
        probes *= 2
    listing = " ".join(f"{key}={value:.3f}" for key, value in recall.items())
    progress.note(f"export faiss-ivf: lists={index.nlist} recall@{top} by probes: {listing}")
    return {"lists": index.nlist, "top": top, "queries": len(queries), "recall": recall}
