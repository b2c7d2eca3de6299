"""Benchmark search of srch_dist against plain faiss, and the encoding of a single query.

    python -m pipelines.search.run --rows 1000000 --repeats 25

Clustered random codes are stored as `srch_dist.encode` stores codes. Variants alternate, so that
other load affects all of them, and the fastest time of each counts.
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

_FLIPPED = 0.15  # share of bits in which a code differs from its cluster centre


@dataclass(frozen=True)
class _Options:
    """Time search over stored codes against faiss IndexBinaryFlat, and encoding of a query."""

    rows: int = 10_000_000
    """Codes in the database."""
    bits: int = 64
    """Bits per code."""
    queries: tuple[int, ...] = (1, 16, 64, 256)
    """Batch sizes: queries searched at once."""
    top: int = 10
    """Results per query."""
    clusters: int = 20_000
    """Clusters of the random codes."""
    repeats: int = 3
    """Measurements of each variant. The fastest counts."""
    ivf: bool = False
    """Build an inverted file, too, and measure its recall and time."""
    dims: int = 768
    """Dimensions of the single query."""
    out: Path | None = None
    """JSON file for the figures. Default: print only."""


def write_codes(path: Path, rows: int, bits: int, clusters: int, seed: int = 0) -> CodeStore:
    """Write random codes around cluster centres as a Zarr array with chunks of 4 MiB."""
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
    """Times by batch size: faiss, and search over Zarr, memory-mapped .npy and memory."""
    in_memory = codes.hold()
    values = in_memory.read(0, in_memory.rows)
    flat = faiss.IndexBinaryFlat(codes.bits)
    flat.add(values)
    batches = {}
    for count in options.queries:
        queries = np.ascontiguousarray(values[:: max(1, codes.rows // count)][:count])
        variants: dict[str, Callable[[], NDArray[Any]]] = {
            "faiss": lambda queries=queries: flat.search(queries, options.top)[0],
            **{
                name: lambda queries=queries, store=store: (
                    search_codes(store, queries, options.top).distances
                )
                for name, store in (("zarr", codes), ("npy", mapped), ("memory", in_memory))
            },
        }
        batches[str(count)] = _compare(variants, count, options.repeats)
    return batches


def _compare(
    variants: dict[str, Callable[[], NDArray[Any]]], queries: int, repeats: int
) -> dict[str, Any]:
    """Times of every variant for a batch, and their ratios to faiss."""
    seconds, cpu = _alternate(variants, repeats)
    others = [name for name in variants if name != "faiss"]
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "queries_a_second": {name: queries / value for name, value in seconds.items()},
        "throughput_against_faiss": {name: seconds["faiss"] / seconds[name] for name in others},
        "cpu_against_faiss": {name: cpu["faiss"] / cpu[name] for name in others},
        "same_distances": all(bool((variants[n]() == variants["faiss"]()).all()) for n in others),
    }


def measure_ivf(codes: CodeStore, folder: Path, options: _Options) -> dict[str, Any]:
    """Recall and seconds of an inverted file, by number of probed lists."""
    started = time.perf_counter()
    path = export_codes(codes, folder / "ivf", "faiss-ivf", progress=on_console())
    built = time.perf_counter() - started
    record = json.loads((folder / "ivf.json").read_text(encoding="utf-8"))
    queries = codes.read(0, max(options.queries))
    probes = [int(key) for key in record["recall"]]
    variants = {
        str(count): (lambda count=count: search_index(path, queries, 1, count).rows)
        for count in probes
    }
    seconds, _ = _alternate(variants, 1)
    return {**record, "build_seconds": built, "seconds": seconds}


def measure_query(options: _Options) -> dict[str, float]:
    """Fastest and median seconds to encode one query with 1,000 anchors, over 1,000 repeats."""
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
    variants: dict[str, Callable[[], NDArray[Any]]], repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Fastest wall-clock and CPU seconds by variant; variants alternate."""
    seconds = dict.fromkeys(variants, np.inf)
    cpu = dict.fromkeys(variants, np.inf)
    for _ in range(repeats):
        for name, work in variants.items():
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            work()
            cpu[name] = min(cpu[name], time.process_time() - cpu_start)
            seconds[name] = min(seconds[name], time.perf_counter() - wall_start)
    return seconds, cpu


def main() -> None:
    """Run the command."""
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
