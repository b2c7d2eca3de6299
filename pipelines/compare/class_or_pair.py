"""Measure what method.pair and bits buy: retrieval by class, and of the exact partner.

    python -m pipelines.compare.class_or_pair DATA [DATA ...] --bits 16 32 64 128 256 \
        --pair 0 0.5 0.7 --seeds 3 --out FOLDER

DATA are .npz files with labels. A file without queries (split 1) gets a fixed fifth of its rows as
queries. One sweep per file shares graph and loop among all runs of a seed. A second call with the
same options continues. Results are ``class_or_pair.json`` and ``class_or_pair.md``, the tables of
docs/concepts/class-or-pair.md.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

import srch_dist
from srch_dist.errors import SrchError
from srch_dist.sweep.runner import sweep_options

from .held_out import draw_split
from .table import header, row

Row = dict[str, Any]

# Columns of the tables: key of a sweep's row, and heading.
_SCORES = {
    "map": "MAP",
    "pair_recall_1": "own pair first",
    "pair_recall_10": "own pair in 10",
    "asymmetric_map": "MAP, float query",
    "asymmetric_pair_recall_10": "own pair in 10, float query",
}
# For sets whose modalities have equal width.
_FLOAT_SCORES = {
    "neighbours_kept": "float neighbours kept",
    "asymmetric_neighbours_kept": "kept, float query",
    "float_pair_recall_10": "own pair in 10, float vectors",
}


@dataclass(frozen=True)
class Options:
    """Measure class and pair retrieval by method.pair and bits."""

    data: Annotated[list[Path], tyro.conf.Positional]
    """Feature files (.npz) with labels."""
    out: Path
    """Folder for results and runs."""
    bits: list[int] = field(default_factory=lambda: [16, 32, 64, 128, 256])
    """Code lengths."""
    pair: list[float] = field(default_factory=lambda: [0.0, 0.5, 0.7])
    """Values of method.pair."""
    seeds: int = 3
    """Number of seeds, from 0."""
    config: str = "{}"
    """Further options of the runs as JSON, nested as in a YAML file."""
    scheduler: str | None = None
    """Address of a running Dask scheduler. Default: a local cluster with one worker."""


def with_queries(source: Path, folder: Path) -> Path:
    """Return ``source``, or a copy with a split if it has no queries (split 1)."""
    with np.load(source) as file:
        arrays = {name: file[name] for name in file.files}
    if "split" in arrays and (arrays["split"] == 1).any():
        return source
    arrays["split"] = draw_split(len(arrays["labels"]))
    np.savez(folder / source.name, **arrays)
    return folder / source.name


def measure(options: Options, source: Path) -> list[Row]:
    """Rows of the sweep over one file, with the name of the ``set``."""
    folder = options.out / source.stem
    store = folder.with_suffix(".zarr")
    if not store.exists():
        with tempfile.TemporaryDirectory() as scratch:
            srch_dist.ingest_source(with_queries(source, Path(scratch)), store)
    fixed = {"baseline": False, "report": False, **json.loads(options.config)}
    config = srch_dist.build_config(
        {**fixed, "data": str(store), "scheduler": options.scheduler, "workers": 1}
    )
    grid = {"seed": list(range(options.seeds)), "method.pair": options.pair, "bits": options.bits}
    return [{"set": source.stem, **one} for one in sweep_options(config, grid, folder)]


def tables(rows: Sequence[Row]) -> str:
    """Markdown: one table per set, and the mean over the sets."""
    parts = []
    sets = list(dict.fromkeys(one["set"] for one in rows))
    for name in sets:
        own = [one for one in rows if one["set"] == name]
        shown = {key: text for key, text in _FLOAT_SCORES.items() if own[0].get(key) is not None}
        parts += ["", f"## {name}", "", *_table(own, {**_SCORES, **shown})]
    parts += ["", f"## Mean of {', '.join(sets)}", "", *_table(rows, _SCORES)]
    return "\n".join(parts[1:]) + "\n"


def _table(rows: Sequence[Row], scores: dict[str, str]) -> Iterator[str]:
    """One line per number of bits and method.pair: means over sets and seeds."""
    yield from header(["bits", "bytes", "method.pair", *scores.values()])
    keys = sorted({(one["bits"], one["method.pair"]) for one in rows})
    for bits, pair in keys:
        own = [r for r in rows if (r["bits"], r["method.pair"]) == (bits, pair)]
        cells = []
        for key in scores:
            known = [one[key] for one in own if one.get(key) is not None]
            cells.append(f"{np.mean(known):.3f}" if known else "")
        yield row([bits, bits // 8, pair, *cells])


def main() -> None:
    """Run all sweeps; write and print the tables after each."""
    options = tyro.cli(Options)
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for source in options.data:
        try:
            rows += measure(options, source)
        except SrchError as error:
            raise SystemExit(f"error: {source}: {error}") from None
        (options.out / "class_or_pair.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
        (options.out / "class_or_pair.md").write_text(tables(rows), "utf-8")
    print(tables(rows))


if __name__ == "__main__":
    main()
