"""Write indexes of faiss and usearch, and measure the recall of an inverted file."""

from __future__ import annotations

import errno
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from srch_dist.errors import require
from srch_dist.export.request import ExportRequest
from srch_dist.kernels.sampling import Stream, smallest_hashes
from srch_dist.kernels.types import Packed
from srch_dist.runtime.progress import Progress, ProgressStage
from srch_dist.search.hamming import search_codes
from srch_dist.search.index_file import find_damage
from srch_dist.storage.code_store import CodeStore

# Training codes per list of an inverted file (faiss recommends 39 or more).
_ROWS_A_LIST = 64
_RECALL_QUERIES, _RECALL_TOP = 200, 10
# Bytes that faiss hands over at once.
_WRITE_BYTES = 1 << 20


def write_flat(request: ExportRequest, path: Path, stage: ProgressStage) -> None:
    """Write an exact index, IndexBinaryFlat."""
    faiss = require("faiss", "export", "a faiss index")
    _add_all(faiss.IndexBinaryFlat(request.codes.bits), request.codes, path, stage)


def write_ivf(request: ExportRequest, path: Path, stage: ProgressStage) -> None:
    """Write an inverted file, IndexBinaryIVF."""
    faiss = require("faiss", "export", "a faiss index")
    codes, seed = request.codes, request.seed
    count = request.lists or max(1, min(codes.rows, round(4 * math.sqrt(codes.rows))))
    quantiser = faiss.IndexBinaryFlat(codes.bits)
    index = faiss.IndexBinaryIVF(quantiser, codes.bits, count)
    index.cp.seed = 1 + seed % (1 << 30)
    index.cp.min_points_per_centroid = 1  # keeps faiss from warning on standard output
    index.train(_sample(codes, min(codes.rows, _ROWS_A_LIST * count), seed))
    _add_all(index, codes, path, stage)


def write_usearch(request: ExportRequest, path: Path, stage: ProgressStage) -> None:
    """Write a usearch index by Hamming distance."""
    usearch = require("usearch.index", "export", "a usearch index")
    codes = request.codes
    kind, metric = usearch.ScalarKind.B1, usearch.MetricKind.Hamming
    index = usearch.Index(ndim=codes.bits, metric=metric, dtype=kind)
    alive = codes.alive()
    for start, run in codes.runs():
        rows = np.arange(start, start + len(run))
        kept = rows if alive is None else rows[alive[rows]]
        index.add(kept.astype(np.uint64), np.ascontiguousarray(run[kept - start]))
        stage.advance(len(run))
    save_usearch(index, path)


def save_usearch(index: Any, path: Path) -> None:
    """Write a usearch index to a file; raise OSError if that fails."""
    length = index.serialized_length
    try:
        index.save(str(path))
    except RuntimeError as error:  # it does not say why
        free = shutil.disk_usage(path.parent).free + path.stat().st_size
        cause = f"{_one_line(error)}. The index needs {length} bytes; {free} are free"
        raise OSError(errno.ENOSPC if free < length else errno.EIO, cause) from None
    check_size(path, length)


def record_recall(
    codes: CodeStore, path: Path, record: Path | None, seed: int, progress: Progress
) -> None:
    """Measure the recall of the index at ``path``; write it as JSON to ``record`` unless None."""
    measured = _measure_recall(codes, path, seed, progress)
    if record is not None:
        record.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def check_size(path: Path, expected: int) -> None:
    """Raise OSError unless a written file has the expected number of bytes."""
    size = path.stat().st_size
    if size != expected:
        raise OSError(f"it has {size} bytes, expected {expected}")


def _add_all(index: Any, codes: CodeStore, path: Path, stage: ProgressStage) -> None:
    for _, run in codes.runs():
        index.add(np.ascontiguousarray(run))
        stage.advance(len(run))
    save_faiss(index, path)


def save_faiss(index: Any, path: Path) -> None:
    """Write a faiss index to a file and check it; raise OSError if that fails."""
    faiss = require("faiss", "export", "a faiss index")
    # The file that faiss opens does not raise the error of its last bytes; one of Python does.
    try:
        with path.open("wb") as file:
            faiss.write_index_binary(index, faiss.PyCallbackIOWriter(file.write, _WRITE_BYTES))
    except RuntimeError as error:
        raise OSError(_one_line(error)) from None
    if damage := find_damage(path):
        raise OSError(f"faiss wrote a damaged file: {damage}")


def _one_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1]


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
