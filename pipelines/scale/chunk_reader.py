"""Benchmark three readers of Zarr chunks: zarr-python, zarrs (Rust codecs) and direct reads.

    python -m pipelines.scale.chunk_reader

Prints a Markdown table. Readers alternate, and each read runs in a new process. Files are in the
page cache. zarrs is skipped unless it is installed (`pip install zarrs`).
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import zarr

from srch_dist.errors import StorageError
from srch_dist.runtime.memory import peak_bytes
from srch_dist.storage import arrays

_MIB = 1 << 20
_ONE_THREAD = {"threading.max_workers": 1}  # as a worker has
_SETTINGS: dict[str, dict[str, Any]] = {
    "zarr": _ONE_THREAD,
    "zarrs": {**_ONE_THREAD, "codec_pipeline.path": "zarrs.ZarrsCodecPipeline"},
    "direct": _ONE_THREAD,
}
# Each read has the rows of one chunk. It starts at a chunk's first row, or at its middle.
_STARTS = {"one chunk": 0.0, "two halves": 0.5}
_HEADINGS = (
    *("chunk MiB", "rows of", "reader", "wall s/GiB", "CPU s/GiB", "wall / direct"),
    *("peak memory in chunks", "flipped bit"),
)


@dataclass(frozen=True)
class Options:
    """Time how each reader reads runs of rows of a float32 array."""

    rows: int = 65_536
    """Rows of the array."""
    dims: int = 512
    """Columns of the array."""
    chunk_mib: tuple[int, ...] = (4, 32)
    """Chunk sizes in MiB. Ingest writes chunks of 32 MiB."""
    repeats: int = 5
    """Processes per reader. The table shows medians."""


def measure(options: Options) -> Iterator[list[str]]:
    """Yield the cells of the table, one row per chunk size, start and reader."""
    readers = [name for name in _SETTINGS if name != "zarrs" or importlib.util.find_spec("zarrs")]
    with tempfile.TemporaryDirectory() as folder:
        for mib in options.chunk_mib:
            path = Path(folder) / f"{mib}"
            step = _write(path, options, mib * _MIB)
            for place, start in _STARTS.items():
                first = int(start * step)
                rounds = [
                    [_in_new_process(_read, path, reader, first) for reader in readers]
                    for _ in range(options.repeats)
                ]
                medians = dict(zip(readers, np.median(rounds, axis=0), strict=True))
                for reader, (wall, cpu, peak) in medians.items():
                    ratio = wall / medians["direct"][0]
                    cells = [f"{mib}", place, reader]
                    cells += [f"{value:.2f}" for value in (wall, cpu, ratio, peak)]
                    yield [*cells, _in_new_process(_flip_outcome, path, reader, first)]


def _write(path: Path, options: Options, chunk_bytes: int) -> int:
    """Write an array of random rows, and a small one to warm up on. Returns rows per chunk."""
    step = max(2, min(options.rows, chunk_bytes // (4 * options.dims)))
    arrays.create_chunk(path.with_suffix(".small"), np.zeros((8, 8), dtype=np.float32))
    arrays.create_array(path, (options.rows, options.dims), step, np.float32)
    rng = np.random.default_rng(0)
    for start in range(0, options.rows, step):
        shape = (min(step, options.rows - start), options.dims)
        arrays.write_rows(path, start, rng.standard_normal(shape, dtype=np.float32))
    return step


def _in_new_process(function: Any, *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _open(path: Path, reader: str) -> zarr.Array[Any]:
    if reader != "direct":
        if not hasattr(arrays, "read_plain"):
            raise LookupError("srch_dist.storage.arrays has no read_plain. Adapt this benchmark.")
        vars(arrays)["read_plain"] = lambda *_: None  # leave every chunk to Zarr
    zarr.config.set(_SETTINGS[reader])
    return arrays.open_array(path, whole=True)


def _read(path: Path, reader: str, first: int) -> tuple[float, float, float]:
    """Wall and CPU seconds per GiB of a second pass, and peak memory in chunks."""
    small = path.with_suffix(".small")
    arrays.read_opened(small, _open(small, reader))
    array, idle = _open(path, reader), peak_bytes()
    step = array.chunks[0]
    starts = range(first, array.shape[0] - step + 1, step)
    for _ in range(2):
        wall, cpu = time.perf_counter(), time.process_time()
        for start in starts:
            arrays.read_opened(path, array, start, start + step)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    chunk_bytes = step * array.shape[1] * array.dtype.itemsize
    gib = len(starts) * chunk_bytes / (1 << 30)
    return wall / gib, cpu / gib, (peak_bytes() - idle) / chunk_bytes


def _flip_outcome(path: Path, reader: str, first: int) -> str:
    """Outcome of reading rows with a flipped bit: "refused" or "returned"."""
    array = _open(path, reader)
    file = path / str(array.metadata.encode_chunk_key((0, 0)))
    content = file.read_bytes()
    at = first * array.shape[1] * array.dtype.itemsize
    file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    try:
        arrays.read_opened(path, array, first, first + array.chunks[0])
    except StorageError:
        return "refused"
    finally:
        file.write_bytes(content)
    return "returned"


def main() -> None:
    """Measure and print the table."""
    for line in (_HEADINGS, ["---"] * len(_HEADINGS), *measure(tyro.cli(Options))):
        print(f"| {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    main()
