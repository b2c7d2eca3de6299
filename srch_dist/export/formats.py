"""Write codes in the formats of faiss, usearch, NumPy and Parquet.

In every format, bit j of a code is bit j % 8 of byte j // 8 (NumPy's ``bitorder="little"``).
`numpy.unpackbits(codes, axis=1, bitorder="little")` restores the bits. Keys of indexes are row
numbers.
"""

from __future__ import annotations

import errno
import json
import math
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
from numpy.lib.format import write_array_header_1_0

from srch_dist.config.nearest import did_you_mean
from srch_dist.encode.provenance import check_store
from srch_dist.errors import ConfigError, require
from srch_dist.kernels.sampling import Stream, smallest_hashes
from srch_dist.kernels.types import Array, Packed
from srch_dist.runtime.progress import Progress, ProgressStage, silent
from srch_dist.search.hamming import search_codes
from srch_dist.search.index_file import find_damage
from srch_dist.storage.atomic_files import is_stream, replacing
from srch_dist.storage.code_store import CodeStore
from srch_dist.storage.disk_space import check_space
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.locations import local_path
from srch_dist.storage.locks.output_lock import hold_output
from srch_dist.storage.outputs import check_file, check_new

Format = Literal["faiss", "faiss-ivf", "usearch", "npy", "parquet"]

# Training codes per list of an inverted file (faiss recommends 39 or more).
_ROWS_A_LIST = 64
_RECALL_QUERIES, _RECALL_TOP = 200, 10
# Bytes that faiss hands over at once.
_WRITE_BYTES = 1 << 20


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

    The file appears only after all codes are on the disk. If ``out`` is a device or a pipe, it is
    written directly, without ``OUT.json``.

    Parameters
    ----------
    codes : codes of n rows.
    out : file to create.
    form : ``faiss``, an IndexBinaryFlat; ``faiss-ivf``, an IndexBinaryIVF, whose recall against
        exact search is measured and written to ``OUT.json``; ``usearch``, an index by Hamming
        distance; ``npy``, the packed codes (n, l / 8) uint8; ``parquet``, row numbers, ids, titles
        and codes.
    store : feature store that was encoded. Only ``parquet`` uses it, and writes its ids and titles.
    lists : number of inverted lists of ``faiss-ivf``; None means about 4 √n.
    seed : seed that selects the codes that train the lists, and the queries that measure recall.
    progress : display of the progress; None shows nothing.

    Returns
    -------
    Path of the file.

    Raises
    ------
    StorageError : ``out`` or its ``OUT.json`` already exists, another process writes it, or it
        cannot be written.
    InputError : store and codes have different numbers of rows.
    ConfigError : the format is unknown, or ``lists`` is out of range.
    ExtraError : the library of the format is not installed.
    """
    progress = progress or silent()
    target = _check_request(codes, out, form, store, (lists, seed))
    write = _writer(form, store, lists, seed)
    record = None if form != "faiss-ivf" or is_stream(target) else Path(f"{target}.json")
    with ExitStack() as stack:
        outputs = [target] if record is None else [target, record]
        check_locks = [_claim(stack, output) for output in outputs]
        if not is_stream(target):
            check_space(target, _least_bytes(codes, form), "the export")
        # The record's file is created first, so that it gets its name last.
        record_file = None if record is None else stack.enter_context(replacing(record))
        path = stack.enter_context(replacing(target))
        with progress.stage(f"export {form}", codes.rows) as stage:
            write(codes, path, stage)
        if form == "faiss-ivf":
            _record_recall(codes, path, record_file, seed, progress)
        for check_lock in check_locks:
            check_lock()
    return target


def _claim(stack: ExitStack, place: Path) -> Callable[[], None]:
    """Lock the new output ``place`` until ``stack`` closes.

    Returns a function that raises an error if the lock is lost.
    """
    check_lock = stack.enter_context(hold_output(place))
    check_new(place)
    return check_lock


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
    if store is not None:
        check_store(codes, store)
    if not 0 <= seed < 1 << 63:
        raise ConfigError(f"'seed' is {seed}, expected 0 to 2**63 - 1")
    if lists is not None and not 1 <= lists <= codes.rows:
        raise ConfigError(f"'lists' is {lists}, expected 1 to {codes.rows}, the number of rows")
    return target


def _least_bytes(codes: CodeStore, form: Format) -> int:
    """Compute a lower bound of the file's bytes: the codes, and 8 bytes per row number."""
    keyed = form in ("faiss-ivf", "usearch")
    return codes.rows * (codes.bits // 8 + (8 if keyed else 0))


def _writer(
    form: Format, store: FeatureStore | None, lists: int | None, seed: int
) -> Callable[[CodeStore, Path, ProgressStage], None]:
    """Return the function (codes, file, progress stage) that writes a format."""
    writers: dict[str, Callable[[CodeStore, Path, ProgressStage], None]] = {
        "faiss": _write_flat,
        "faiss-ivf": partial(_write_ivf, lists=lists, seed=seed),
        "usearch": _write_usearch,
        "npy": _write_npy,
        "parquet": partial(_write_parquet, store=store),
    }
    return writers[form]


def _write_flat(codes: CodeStore, path: Path, stage: ProgressStage) -> None:
    faiss = require("faiss", "export", "a faiss index")
    _add_all(faiss.IndexBinaryFlat(codes.bits), codes, path, stage)


def _write_ivf(
    codes: CodeStore, path: Path, stage: ProgressStage, lists: int | None, seed: int
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
    # The file that faiss opens does not raise the error of its last bytes; one of Python does.
    try:
        with path.open("wb") as file:
            faiss.write_index_binary(index, faiss.PyCallbackIOWriter(file.write, _WRITE_BYTES))
    except RuntimeError as error:
        raise OSError(_one_line(error)) from None
    if damage := find_damage(path):
        raise OSError(f"faiss wrote a damaged file: {damage}")


def _write_usearch(codes: CodeStore, path: Path, stage: ProgressStage) -> None:
    usearch = require("usearch.index", "export", "a usearch index")
    kind, metric = usearch.ScalarKind.B1, usearch.MetricKind.Hamming
    index = usearch.Index(ndim=codes.bits, metric=metric, dtype=kind)
    for start, run in codes.runs():
        index.add(np.arange(start, start + len(run), dtype=np.uint64), np.ascontiguousarray(run))
        stage.advance(len(run))
    length = index.serialized_length
    try:
        index.save(str(path))
    except RuntimeError as error:  # it does not say why
        free = shutil.disk_usage(path.parent).free + path.stat().st_size
        cause = f"{_one_line(error)}. The index needs {length} bytes; {free} are free"
        raise OSError(errno.ENOSPC if free < length else errno.EIO, cause) from None
    _check_size(path, length)


def _write_npy(codes: CodeStore, path: Path, stage: ProgressStage) -> None:
    # A memory map of a full disk would end the process with SIGBUS.
    shape = (codes.rows, codes.bits // 8)
    with path.open("wb") as file:
        write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        length = file.tell() + codes.rows * shape[1]
        for _, run in codes.runs():
            file.write(np.ascontiguousarray(run).data)
            stage.advance(len(run))
    _check_size(path, length)


def _write_parquet(
    codes: CodeStore, path: Path, stage: ProgressStage, store: FeatureStore | None
) -> None:
    """Write a Parquet table: ``row``, ``code``, and the store's ``ids`` and ``titles`` if any."""
    pa = require("pyarrow", "export", "a Parquet file")
    parquet = require("pyarrow.parquet", "export", "a Parquet file")
    side = [] if store is None else [name for name in ("ids", "titles") if name in store.side]
    metadata = {"bits": str(codes.bits), "bitorder": "little", "modality": codes.modality or ""}
    with path.open("wb") as file, ExitStack() as stack:
        writer = None
        for start, run in codes.runs():
            columns = {"row": pa.array(np.arange(start, start + len(run)))}
            for name in side:
                assert store is not None
                columns[name] = _arrow_column(pa, store.read(name, start, start + len(run)))
            values = pa.py_buffer(np.ascontiguousarray(run))
            kind = pa.binary(codes.bits // 8)
            columns["code"] = pa.FixedSizeBinaryArray.from_buffers(kind, len(run), [None, values])
            table = pa.table(columns)
            if writer is None:
                schema = table.schema.with_metadata(metadata)
                writer = stack.enter_context(parquet.ParquetWriter(file, schema))
            writer.write_table(table.replace_schema_metadata(metadata))
            stage.advance(len(run))
    found = parquet.read_metadata(path).num_rows
    if found != codes.rows:
        raise OSError(f"it has {found} rows, expected {codes.rows}")


def _one_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1]


def _check_size(path: Path, expected: int) -> None:
    size = path.stat().st_size
    if size != expected:
        raise OSError(f"it has {size} bytes, expected {expected}")


def _arrow_column(pa: ModuleType, values: Array) -> Any:
    """Convert a side array (n, …) to an Arrow array of n values, or of n nested lists."""
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


def _record_recall(
    codes: CodeStore, path: Path, record: Path | None, seed: int, progress: Progress
) -> None:
    """Measure the recall of the index at ``path``; write it as JSON to ``record`` unless None."""
    measured = _measure_recall(codes, path, seed, progress)
    if record is not None:
        record.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


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
