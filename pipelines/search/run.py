"""`python -m pipelines.search.run`: search against plain faiss, and a query against the clock.

Random codes in clusters are written as `srch_dist.encode` writes them. Timings alternate between
the two sides and the best of each is taken, so that other work on the machine hits both.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import tyro
from numpy.typing import NDArray

from srch_dist.cli.progress import on_console
from srch_dist.encode.model import Anchors, Model
from srch_dist.encode.scoring import QueryEncoder
from srch_dist.export.formats import export_codes
from srch_dist.search.hamming import search_codes, search_index
from srch_dist.storage import arrays
from srch_dist.storage.code_store import CodeStore, open_codes

_FLIPPED = 0.15  # share of bits in which a code differs from the centre of its cluster


@dataclass(frozen=True)
class _Options:
    """Measure search over codes on disk against IndexBinaryFlat, an inverted file, and a query."""

    rows: int = 10_000_000
    """Codes to search in."""
    bits: int = 64
    """Bits a code."""
    queries: tuple[int, ...] = (1, 16, 64, 256)
    """Queries searched at once, one number a batch that is measured."""
    top: int = 10
    """Rows to find for each query."""
    clusters: int = 20_000
    """Clusters that the codes are drawn around."""
    repeats: int = 3
    """Times that each side is measured."""
    ivf: bool = False
    """Build an inverted file too, and state its recall and speed."""
    dims: int = 768
    """Dimensions of the single queries."""
    out: Path | None = None
    """JSON file for the figures; printed alone when absent."""


def write_codes(path: Path, rows: int, bits: int, clusters: int, seed: int = 0) -> CodeStore:
    """Codes around random centres, as a Zarr array of 4 MiB chunks."""
    rng = np.random.default_rng(seed)
    width, chunk = bits // 8, max(1, (4 << 20) * 8 // bits)
    centres = rng.integers(0, 256, (clusters, width), dtype=np.uint8)
    attributes = {"modality": "image", "bits": bits, "bitorder": "little"}
    arrays.create_array(path, (rows, width), chunk, np.uint8, attributes)
    for start in range(0, rows, chunk):
        count = min(chunk, rows - start)
        noise = np.packbits(rng.random((count, bits), np.float32) < _FLIPPED, axis=1)
        arrays.write_rows(path, start, centres[rng.integers(0, clusters, count)] ^ noise)
    return open_codes(path)


def measure_exact(
    codes: CodeStore, mapped: CodeStore, options: _Options
) -> dict[str, dict[str, Any]]:
    """Seconds of IndexBinaryFlat, and of search over codes on disk and in memory, a batch."""
    held = codes.hold()
    values = held.read(0, held.rows)
    flat = faiss.IndexBinaryFlat(codes.bits)
    flat.add(values)
    batches = {}
    for count in options.queries:
        queries = np.ascontiguousarray(values[:: max(1, codes.rows // count)][:count])
        sides: dict[str, Callable[[], NDArray[Any]]] = {
            "faiss": lambda queries=queries: flat.search(queries, options.top)[0],
            **{
                name: lambda queries=queries, where=where: (
                    search_codes(where, queries, options.top).distances
                )
                for name, where in (("zarr", codes), ("npy", mapped), ("memory", held))
            },
        }
        batches[str(count)] = _compare(sides, count, options.repeats)
    return batches


def _compare(
    sides: dict[str, Callable[[], NDArray[Any]]], queries: int, repeats: int
) -> dict[str, Any]:
    seconds, cpu = _alternate(sides, repeats)
    others = [name for name in sides if name != "faiss"]
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "queries_a_second": {name: queries / value for name, value in seconds.items()},
        "throughput_against_faiss": {name: seconds["faiss"] / seconds[name] for name in others},
        "cpu_against_faiss": {name: cpu["faiss"] / cpu[name] for name in others},
        "same_distances": all(bool((sides[n]() == sides["faiss"]()).all()) for n in others),
    }


def measure_ivf(codes: CodeStore, folder: Path, options: _Options) -> dict[str, Any]:
    """Recall of an inverted file by lists looked at, and its seconds a batch."""
    started = time.perf_counter()
    path = export_codes(codes, folder / "ivf", "faiss-ivf", progress=on_console())
    built = time.perf_counter() - started
    record = json.loads((folder / "ivf.json").read_text(encoding="utf-8"))
    queries = codes.read(0, max(options.queries))
    probes = [int(key) for key in record["recall"]]
    sides = {
        str(count): (lambda count=count: search_index(path, queries, 1, count).rows)
        for count in probes
    }
    seconds, _ = _alternate(sides, 1)
    return {**record, "build_seconds": built, "seconds": seconds}


def measure_query(options: _Options) -> dict[str, float]:
    """Seconds to encode one query with 1,000 anchors: the fastest and the median of many."""
    rng = np.random.default_rng(0)
    d, l = options.dims, options.bits  # noqa: E741
    near = Anchors(
        rng.normal(size=(1000, d)) / d**0.5, rng.normal(size=(l, 1000)), rng.normal(size=l), 1.0
    )
    matrix = {"text": rng.normal(size=(l, d))}
    model = Model({"text": rng.normal(size=d)}, matrix, matrix, {"text": near}, l, True, True, {})
    encoder, row = QueryEncoder(model, "text"), rng.normal(size=d)
    seconds = []
    for _ in range(1000):
        start = time.perf_counter()
        encoder(row)
        seconds.append(time.perf_counter() - start)
    return {"fastest": min(seconds), "median": float(np.median(seconds))}


def _alternate(
    sides: dict[str, Callable[[], NDArray[Any]]], repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Least wall-clock and processor seconds of each side, measured in turns."""
    seconds = dict.fromkeys(sides, np.inf)
    cpu = dict.fromkeys(sides, np.inf)
    for _ in range(repeats):
        for name, work in sides.items():
            wall, spent = time.perf_counter(), time.process_time()
            work()
            cpu[name] = min(cpu[name], time.process_time() - spent)
            seconds[name] = min(seconds[name], time.perf_counter() - wall)
    return seconds, cpu


def main() -> None:
    """Measure with options from the command line."""
    options = tyro.cli(_Options, prog="python -m pipelines.search.run")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        codes = write_codes(folder / "codes.zarr", options.rows, options.bits, options.clusters)
        mapped = open_codes(export_codes(codes, folder / "codes.npy", "npy"))
        figures: dict[str, Any] = {
            "rows": codes.rows,
            "bits": codes.bits,
            "top": options.top,
            "exact": measure_exact(codes, mapped, options),
            "query_seconds": measure_query(options),
        }
        if options.ivf:
            figures["ivf"] = measure_ivf(codes, folder, options)
    text = json.dumps(figures, indent=1)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
