"""The Z-step's solver by itself: convergence from a cold start, and what its tolerance changes.

    python -m pipelines.scale.solver --npz icons151k.npz --out FOLDER
    python -m pipelines.scale.solver --out FOLDER               # the shipped emoji pairs

Writes solver.json, solver.md and convergence.png. Every Z-step of the first part starts from zero,
so its counts are those of cold starts on the first graph and on re-weighted ones.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import tyro
from matplotlib.figure import Figure

from srch_dist import build_config, ingest_source, train_model
from srch_dist.config.identity import fingerprint, up_to_graph
from srch_dist.config.options import SolverConfig
from srch_dist.ingest.shipped import shipped_store
from srch_dist.runtime.cluster import Cluster, connect
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.train.runner import Trained, prepare_run
from srch_dist.train.setup import SharedResources

Record = dict[str, Any]

_TOLERANCE = SolverConfig().tolerance
_CASES = tuple((preset, coarse) for preset in ("balanced", "paper") for coarse in ("on", "off"))


@dataclass(frozen=True)
class Options:
    """Measure conjugate gradients with and without the coarse space, and by tolerance."""

    out: Path
    """Folder for the results."""
    npz: Path | None = None
    """An .npz of pairs with labels, as srch_dist.ingest reads it; the emoji pairs when absent."""
    bits: int = 64
    """Bits a code."""
    iterations: int = 8
    """Outer iterations of the runs from cold starts."""
    tolerances: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-8)
    """Tolerances to compare; the last is what the others are held against."""
    drops: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4)
    """Values of method.drop to compare with 0, at the last tolerance."""
    forcings: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03)
    """Values of method.forcing to compare with 0, at the default tolerance without drop."""
    workers: int = 2
    """Worker processes."""
    memory_limit: str = "4GiB"
    """Memory a worker."""


@dataclass(frozen=True)
class _Bench:
    """Where runs are trained; those with the same options up to the graph share one.

    ``data`` is the feature store, ``folder`` holds the runs and the graphs that they share.
    """

    data: Path
    folder: Path
    cluster: Cluster
    bits: int

    def train(self, name: str, values: Record) -> Trained:
        own = {"bits": self.bits, "data": str(self.data), "out": f"{self.folder}/{name}"}
        config = build_config({**own, **values})
        before = up_to_graph(config)
        place = self.folder / fingerprint(before)[:16]
        base = RunDirectory(place)
        if not place.exists():
            before = dataclasses.replace(before, out=str(place))
            base = prepare_run(before, SharedResources(self.cluster))
        return train_model(config, shared=SharedResources(self.cluster, base))


def measure(options: Options) -> Record:
    """Every run; see `markdown` for what is made of it."""
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
        cold = [_cold(options, bench, *case) for case in _CASES]
        cases = [
            *(_case(tolerance, 0.0) for tolerance in options.tolerances),
            *(_case(options.tolerances[-1], drop) for drop in options.drops),
            *(_case(_TOLERANCE, 0.0, forcing) for forcing in (*options.forcings, 0.0)),
        ]
        runs = iter([bench.train(str(number), case) for number, case in enumerate(cases)])
        ends = list(islice(runs, len(options.tolerances)))
        dropped, forced = list(islice(runs, len(options.drops))), list(runs)
        known = arrays.read_rows(ends[-1].run.codes)
        return {
            "data": options.npz.stem if options.npz else "emoji",
            "rows": len(known),
            "bits": options.bits,
            "cold": cold,
            "tolerances": _against(known, options.tolerances, ends),
            "drops": _against(known, (*options.drops, 0.0), (*dropped, ends[-1])),
            "forcings": _against(known, (*options.forcings, 0.0), forced),
        }


def _solver(**values: Any) -> Record:
    return {"max_iterations": 20_000, **values}


def _cold(options: Options, bench: _Bench, preset: str, coarse: str) -> Record:
    solver = _solver(coarse=coarse, warm=False)
    method = {"iterations": options.iterations, "threshold": 0.0, "forcing": 0.0}
    values = {"preset": preset, "solver": solver, "method": method, "evaluate": False}
    found = bench.train(f"{preset}-{coarse}", values)
    history = found.run.history()
    return {
        "preset": preset,
        "coarse": coarse,
        "iterations": [record["cg_iterations"] for record in history],
        "residuals": [record["cg_residuals"] for record in history],
    }


def _case(tolerance: float, drop: float, forcing: float = 0.0) -> Record:
    method = {"drop": drop, "forcing": forcing}
    return {"solver": _solver(tolerance=tolerance), "method": method}


def _against(known: np.ndarray, values: Sequence[float], runs: Sequence[Trained]) -> list[Record]:
    """What each run found, and the share of its bits that differ from those ``known``."""
    return [_found(known, value, run) for value, run in zip(values, runs, strict=True)]


def _found(known: np.ndarray, value: float, found: Trained) -> Record:
    codes, history = arrays.read_rows(found.run.codes), found.run.history()
    assert found.evaluation is not None, "the data have no queries"
    return {
        "value": value,
        "map": found.evaluation["map"],
        "changed_bits": float(np.mean(np.unpackbits(codes ^ known))),
        "cg_iterations": sum(record["cg_iterations"] for record in history),
        "iterations": len(history),
    }


def markdown(record: Record) -> str:
    """Tables: iterations from cold starts, and what tolerance, drop and forcing change."""
    lines = [
        f"{record['data']}, {record['rows']:,} rows, {record['bits']} bits",
        "",
        "| preset | coarse space | first graph | re-weighted, median | re-weighted, most |",
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
            f"| {name} | MAP | bits unlike the tightest | outer iterations | CG, in all |",
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


def draw(record: Record, path: Path) -> None:
    """Residuals against CG iterations, first graph and last, one panel a preset."""
    mpl.use("Agg")
    figure = Figure(figsize=(8, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, preset in zip(panels, ("balanced", "paper"), strict=True):
        for case in (case for case in record["cold"] if case["preset"] == preset):
            name = "with" if case["coarse"] == "on" else "without"
            style = "-" if case["coarse"] == "on" else "--"
            for label, colour, curve in (
                ("first graph", "C0", case["residuals"][0]),
                ("last graph", "C1", case["residuals"][-1]),
            ):
                axes.plot(curve, style, color=colour, label=f"{label}, {name} coarse space")
        axes.set(title=preset, xlabel="CG iteration", xscale="symlog", yscale="log")
        axes.legend(fontsize="small")
    panels[0].set(ylabel="largest relative residual of a column")
    figure.savefig(path, dpi=120)


def save(record: Record, folder: Path) -> None:
    """Write solver.json, solver.md and convergence.png."""
    text = json.dumps(record, indent=1) + "\n"
    (folder / "solver.json").write_text(text, encoding="utf-8")
    (folder / "solver.md").write_text(markdown(record), encoding="utf-8")
    draw(record, folder / "convergence.png")


def main() -> None:
    """Measure, save, draw and print."""
    options = tyro.cli(Options)
    record = measure(options)
    save(record, options.out)
    print(markdown(record))


if __name__ == "__main__":
    main()
