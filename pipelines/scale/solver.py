"""Study of the Z-step's solver: convergence from a cold start, and the effect of its tolerance.

    python -m pipelines.scale.solver --npz icons151k.npz --out FOLDER
    python -m pipelines.scale.solver --out FOLDER               # the shipped emoji pairs

Writes solver.json, solver.md, residuals.json and the picture convergence. In the first part every
Z-step starts from zero, on the first graph and on the re-weighted ones of later iterations.

The documentation shows pipelines/scale/residuals.json: a copy of the file that this command writes.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from srch_dist import build_config, ingest_source, train_model
from srch_dist.config.identity import fingerprint, up_to_graph
from srch_dist.config.options import SolverConfig
from srch_dist.ingest.shipped import shipped_store
from srch_dist.runtime.cluster import Cluster, connect
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.train.runner import Trained, prepare_run
from srch_dist.train.setup import SharedResources

from .plots import RESIDUALS, draw_convergence

Record = dict[str, Any]

_TOLERANCE = SolverConfig().tolerance
_CASES = tuple((preset, coarse) for preset in ("balanced", "paper") for coarse in ("on", "off"))


@dataclass(frozen=True)
class Options:
    """Measure conjugate gradients with and without the coarse space, and by tolerance."""

    out: Path
    """Folder for the results."""
    npz: Path | None = None
    """Pairs with labels in an .npz that srch_dist.ingest reads. Default: the emoji pairs."""
    bits: int = 64
    """Bits per code."""
    iterations: int = 8
    """Outer iterations of the runs with cold starts."""
    tolerances: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-8)
    """Tolerances to compare. The last one is the baseline of the others."""
    drops: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4)
    """Values of method.drop to compare with 0, at the last tolerance."""
    forcings: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03)
    """Values of method.forcing to compare with 0, at the default tolerance, without drop."""
    workers: int = 2
    """Worker processes."""
    memory_limit: str = "4GiB"
    """Memory per worker."""


@dataclass(frozen=True)
class _Bench:
    """Trains runs on one store; runs with the same options up to the graph share their graph.

    Attributes
    ----------
    data : Path
        Feature store.
    folder : Path
        Folder of the runs and of the shared graphs.
    cluster : Cluster
    bits : int
        Code length of every run.
    """

    data: Path
    folder: Path
    cluster: Cluster
    bits: int

    def train(self, name: str, values: Record) -> Trained:
        """Train a run with options ``values``, nested as in a YAML file."""
        paths = {"bits": self.bits, "data": str(self.data), "out": f"{self.folder}/{name}"}
        config = build_config({**paths, **values})
        graph_config = up_to_graph(config)
        path = self.folder / fingerprint(graph_config)[:16]
        base = RunDirectory(path)
        if not path.exists():
            graph_config = dataclasses.replace(graph_config, out=str(path))
            base = prepare_run(graph_config, SharedResources(self.cluster))
        return train_model(config, shared=SharedResources(self.cluster, base))


def measure(options: Options) -> Record:
    """Train every run and return the record that `markdown` and `residuals` read."""
    options.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=options.out) as name,
        connect(None, options.workers, options.memory_limit) as cluster,
    ):
        folder = Path(name).resolve()
        if options.npz is None:
            store = shipped_store(folder)
        else:
            store = ingest_source(options.npz, folder / "data.zarr")
        bench = _Bench(Path(store.path), folder, cluster, options.bits)
        cold = [_cold_start(options, bench, *case) for case in _CASES]
        cases = [
            *(_case(tolerance, 0.0) for tolerance in options.tolerances),
            *(_case(options.tolerances[-1], drop) for drop in options.drops),
            *(_case(_TOLERANCE, 0.0, forcing) for forcing in (*options.forcings, 0.0)),
        ]
        runs = iter([bench.train(str(number), case) for number, case in enumerate(cases)])
        by_tolerance = list(islice(runs, len(options.tolerances)))
        by_drop, by_forcing = list(islice(runs, len(options.drops))), list(runs)
        baseline = by_tolerance[-1]
        codes = arrays.read_rows(baseline.run.codes)
        return {
            "data": options.npz.stem if options.npz else "emoji",
            "rows": len(codes),
            "bits": options.bits,
            "cold": cold,
            "tolerances": _compare(codes, options.tolerances, by_tolerance),
            "drops": _compare(codes, (*options.drops, 0.0), (*by_drop, baseline)),
            "forcings": _compare(codes, (*options.forcings, 0.0), by_forcing),
        }


def _solver(**values: Any) -> Record:
    return {"max_iterations": 20_000, **values}


def _cold_start(options: Options, bench: _Bench, preset: str, coarse: str) -> Record:
    """CG iterations and residuals by outer iteration, every Z-step from zero."""
    solver = _solver(coarse=coarse, warm=False)
    method = {"iterations": options.iterations, "threshold": 0.0, "forcing": 0.0}
    values = {"preset": preset, "solver": solver, "method": method, "evaluate": False}
    history = bench.train(f"{preset}-{coarse}", values).run.history()
    return {
        "preset": preset,
        "coarse": coarse,
        "iterations": [record["cg_iterations"] for record in history],
        "residuals": [record["cg_residuals"] for record in history],
    }


def _case(tolerance: float, drop: float, forcing: float = 0.0) -> Record:
    method = {"drop": drop, "forcing": forcing}
    return {"solver": _solver(tolerance=tolerance), "method": method}


def _compare(codes: np.ndarray, values: Sequence[float], runs: Sequence[Trained]) -> list[Record]:
    """One record per run and its value: scores, iterations, share of bits unlike ``codes``."""
    return [_comparison(codes, value, run) for value, run in zip(values, runs, strict=True)]


def _comparison(codes: np.ndarray, value: float, trained: Trained) -> Record:
    history = trained.run.history()
    difference = arrays.read_rows(trained.run.codes) ^ codes
    assert trained.evaluation is not None, "the data have no queries"
    return {
        "value": value,
        "map": trained.evaluation["map"],
        "changed_bits": float(np.mean(np.unpackbits(difference))),
        "cg_iterations": sum(record["cg_iterations"] for record in history),
        "iterations": len(history),
    }


def markdown(record: Record) -> str:
    """Tables of CG iterations from cold starts, and of the effect of tolerance, drop, forcing."""
    lines = [
        f"{record['data']}, {record['rows']:,} rows, {record['bits']} bits",
        "",
        "| preset | coarse space | first graph | re-weighted, median | re-weighted, maximum |",
        "|---|---|---|---|---|",
    ]
    for case in record["cold"]:
        first, *later = case["iterations"]
        lines.append(
            f"| {case['preset']} | {case['coarse']} | {first} | {np.median(later):.0f} "
            f"| {max(later)} |"
        )
    for name in ("tolerance", "drop", "forcing"):
        lines += [
            "",
            f"| {name} | MAP | bits unlike the baseline | outer iterations | total CG iterations |",
            "|---|---|---|---|---|",
            *(_line(row) for row in record[f"{name}s"]),
        ]
    return "\n".join(lines) + "\n"


def _line(row: Record) -> str:
    scores = " / ".join(f"{value:.4f}" for value in row["map"].values())
    cells = [
        *(f"{row['value']:g}", scores, f"{100 * row['changed_bits']:.2f} %"),
        *(f"{row['iterations']}", f"{row['cg_iterations']}"),
    ]
    return f"| {' | '.join(cells)} |"


def residuals(record: Record) -> Record:
    """The part of a record that the picture shows: residuals on the first and last graph."""
    return {
        "measured": datetime.now(UTC).date().isoformat(),
        **{name: record[name] for name in ("data", "rows", "bits")},
        "cold": [
            {
                **{name: case[name] for name in ("preset", "coarse", "iterations")},
                "first": _rounded(case["residuals"][0]),
                "last": _rounded(case["residuals"][-1]),
            }
            for case in record["cold"]
        ],
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def save(record: Record, folder: Path) -> None:
    """Write solver.json, solver.md, residuals.json and the picture."""
    shown = residuals(record)
    for name, values in (("solver.json", record), (RESIDUALS, shown)):
        (folder / name).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    (folder / "solver.md").write_text(markdown(record), encoding="utf-8")
    draw_convergence(shown["cold"], folder)


def main() -> None:
    """Measure, write results and plot, and print the tables."""
    options = tyro.cli(Options)
    record = measure(options)
    save(record, options.out)
    print(markdown(record))


if __name__ == "__main__":
    main()
