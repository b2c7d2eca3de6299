"""Write codes as NumPy arrays and Parquet tables."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.lib.format import write_array_header_1_0

from srch_dist.errors import require
from srch_dist.export.indexes import check_size
from srch_dist.export.request import ExportRequest, byte_lists
from srch_dist.kernels.types import Packed
from srch_dist.runtime.progress import ProgressStage


def write_npy(request: ExportRequest, path: Path, stage: ProgressStage) -> None:
    """Write the packed codes (n, l / 8) as one NumPy array."""
    codes = request.codes
    # A memory map of a full disk would end the process with SIGBUS.
    shape = (codes.rows, codes.bits // 8)
    with path.open("wb") as file:
        write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        length = file.tell() + codes.rows * shape[1]
        for _, run in codes.runs():
            file.write(np.ascontiguousarray(run).data)
            stage.advance(len(run))
    check_size(path, length)


def write_parquet(request: ExportRequest, path: Path, stage: ProgressStage) -> None:
    """Write ``row``, the side columns, and ``code`` as binary of a fixed width."""

    def code_columns(pa: ModuleType, run: Packed) -> dict[str, Any]:
        kind, values = pa.binary(run.shape[1]), pa.py_buffer(run)
        return {"code": pa.FixedSizeBinaryArray.from_buffers(kind, len(run), [None, values])}

    write_tables(request, path, stage, request.batches(code_columns))


def write_words(request: ExportRequest, path: Path, stage: ProgressStage) -> None:
    """Write ``row``, the side columns, and the code as columns ``code0``, ``code1``, … of uint64.

    Bit j of a code is bit j % 64 of column ``code{j // 64}``. The last column is filled with zeros.
    """

    def code_columns(pa: ModuleType, run: Packed) -> dict[str, Any]:
        words = code_words(run)
        return {f"code{number}": pa.array(column) for number, column in enumerate(words.T)}

    write_tables(request, path, stage, request.batches(code_columns))


def write_datasets(request: ExportRequest, path: Path, stage: ProgressStage) -> None:
    """Write ``row``, the side columns, and ``code`` as lists of uint8, as `datasets` reads it."""
    batches = request.batches(lambda pa, run: {"code": byte_lists(pa, run)})
    write_tables(request, path, stage, batches)


def code_words(codes: Packed) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Convert packed codes (n, l / 8) to words (n, ⌈l / 64⌉) uint64, filled with zero bits."""
    padded = np.zeros((len(codes), -(-codes.shape[1] // 8) * 8), np.uint8)
    padded[:, : codes.shape[1]] = codes
    return padded.view("<u8").astype(np.uint64, copy=False)


def write_tables(request: ExportRequest, path: Path, stage: ProgressStage, batches: Any) -> None:
    """Write Arrow tables of the same columns as the row groups of one Parquet file."""
    parquet = require("pyarrow.parquet", "export", "a Parquet file")
    with path.open("wb") as file, ExitStack() as stack:
        writer = None
        for table in batches:
            if writer is None:
                schema = table.schema.with_metadata(request.attributes())
                writer = stack.enter_context(parquet.ParquetWriter(file, schema))
            writer.write_table(table.replace_schema_metadata(request.attributes()))
            stage.advance(len(table))
    found = parquet.read_metadata(path).num_rows
    if found != request.rows:
        raise OSError(f"it has {found} rows, expected {request.rows}")
