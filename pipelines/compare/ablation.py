"""Ablation (Table 3) and parameter sweeps (Figure 5) of the paper, and the gain of each option.

    python -m pipelines.compare.ablation STORE [STORE ...] --bits 32 64 --seeds 3 --out FOLDER

Every figure is a training run; runs that several parts need are trained once. Results are
``ablation.json`` (all runs), ``ablation.md`` (tables) and ``figure5-PRESET-BITS.png``, rewritten
after each data set. How the paper's rows translate into options:

- Without the similarity loss: λ = 0 and β → 0 in the preset paper, ω = 0 in balanced.
- Without the quantisation loss or without the reconstruction loss: for l ≤ d both leave the closed
  forms W = Procrustes(X Bᵀ) and sign(βZ + ΣWX), with half the projections of Eq. 17. One row stands
  for both: α, β and λ doubled in the preset paper, ω doubled in balanced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from srch_dist.config.loading import build_config
from srch_dist.config.options import MethodConfig
from srch_dist.errors import SrchError

from .ablation_report import markdown, plot_sweeps
from .data import RetrievalTask, open_source
from .engine import Engine, open_engine
from .pool import map_sets

Values = dict[str, Any]
Preset = Literal["paper", "balanced"]
Part = Literal["components", "options", "sweeps"]


def _on_and_off(option: str, on: Any, off: Any) -> tuple[Values, Values]:
    """Options that set one method option to two values."""
    return {"method": {option: on}}, {"method": {option: off}}


_BALANCED, _PRINTED = MethodConfig(), build_config({}, "paper").method
FULL: Values = {}

# Table 3: terms removed from the objective, by preset.
COMPONENTS: dict[Preset, dict[str, Values]] = {
    "paper": {
        "full": FULL,
        "without QL = without RL": {
            "method": {
                "alpha": 2 * float(_PRINTED.alpha),
                "beta": 2 * _PRINTED.beta,
                "lam": 2 * _PRINTED.lam,
            }
        },
        "without SL": {"method": {"lam": 0.0, "beta": 1e-12}},
    },
    "balanced": {
        "full": FULL,
        "without QL = without RL": {"method": {"omega": 2 * _BALANCED.omega}},
        "without SL": {"method": {"omega": 0.0}},
    },
}

# Options that the paper does not have: the preset balanced with the option on, and off.
ON_OFF: dict[str, tuple[Values, Values]] = {
    "graph (ω; off: 0)": (FULL, {"method": {"omega": 0.0}}),
    "rebase (off: S = 1)": _on_and_off("rebase", True, False),
    "modality weights (mutual; off: equal)": _on_and_off("weights", "mutual", "equal"),
    "centring of Z": _on_and_off("center_z", True, False),
    "rotation": _on_and_off("rotate", True, False),
    "anchor encoder (off: ridge)": _on_and_off("encoder", "anchors", "ridge"),
    "spread directions (off: 0)": _on_and_off("directions", _BALANCED.directions, 0),
    "pair directions (off: 0)": _on_and_off("pair", _BALANCED.pair, 0.0),
}

# Figure 5: parameters and their values. The paper prints its defaults, not the values it swept.
SWEEPS: dict[Preset, dict[str, tuple[float, ...]]] = {
    "paper": {
        "alpha": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
        "beta": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
        "lam": (0.1, 1.0, 10.0, 100.0, 1000.0),
        "k": (5, 10, 20, 40),
    },
    "balanced": {
        "alpha": (0.1, 1.0, 10.0, 100.0, 1000.0),
        "beta": (0.01, 0.1, 1.0, 10.0, 100.0),
        "lam": (0.1, 1.0, 10.0, 100.0, 1000.0),
        "k": (5, 10, 20, 40),
    },
}


@dataclass(frozen=True)
class Options:
    """Train with one loss term or option changed at a time, and with swept parameters."""

    stores: Annotated[list[Path], tyro.conf.Positional]
    """Feature stores, or .npz files to ingest first."""
    out: Path
    """Folder for tables and plots."""
    bits: list[int] = field(default_factory=lambda: [32])
    """Code lengths, multiples of 8."""
    seeds: int = 3
    """Number of seeds, from 0. Every variant runs with the same ones."""
    parts: list[Part] = field(default_factory=lambda: ["components", "options", "sweeps"])
    """Loss terms (Table 3), options on and off, parameter sweeps (Figure 5)."""
    presets: list[Preset] = field(default_factory=lambda: ["paper", "balanced"])
    """Presets of Table 3 and Figure 5."""
    workers: int = 1
    """Worker processes of the local cluster."""
    scheduler: str | None = None
    """Address of a running Dask scheduler. Default: a local cluster."""
    jobs: int = 1
    """Data sets that run in parallel, in one process each."""


def sweep_values(parameter: str, value: float) -> Values:
    """Options that set one swept parameter."""
    if parameter == "k":
        return {"graph": {"k": int(value)}}
    return {"method": {parameter: value}}


def variants(options: Options) -> list[tuple[Preset, Values]]:
    """Every distinct (preset, options) of the chosen parts."""
    pairs: list[tuple[Preset, Values]] = [(preset, FULL) for preset in options.presets]
    if "components" in options.parts:
        pairs += [(p, values) for p in options.presets for values in COMPONENTS[p].values()]
    if "options" in options.parts:
        pairs += [("balanced", values) for pair in ON_OFF.values() for values in pair]
    if "sweeps" in options.parts:
        for preset in options.presets:
            pairs += [
                (preset, sweep_values(name, value))
                for name, points in SWEEPS[preset].items()
                for value in points
            ]
    return list({run_key(preset, values): (preset, values) for preset, values in pairs}.values())


def run_key(preset: str, values: Mapping[str, Any]) -> str:
    """Key of a run: its resolved method and graph options, so that explicit defaults are equal."""
    config = build_config(dict(values), preset)
    return json.dumps([preset, vars(config.method), vars(config.graph)])


def run_all(options: Options) -> list[dict[str, Any]]:
    """Run every variant, save after each data set, and return all records."""
    records: list[dict[str, Any]] = []
    options.out.mkdir(parents=True, exist_ok=True)
    for set_records in map_sets(partial(_run_set, options), options.stores, options.jobs):
        records += set_records
        save(options, records)
    return records


def _run_set(options: Options, source: Path) -> list[dict[str, Any]]:
    """Records of every code length, variant and seed on one data set."""
    records = []
    with open_engine(options.workers, options.scheduler) as engine:
        task = RetrievalTask.load(open_source(source, engine.scratch))
        for bits in options.bits:
            for preset, values in variants(options):
                for seed in range(options.seeds):
                    records.append(_run(engine, task, preset, values, bits, seed))
            print(f"{task.name}: bits={bits} runs={len(records)}", flush=True)
    return records


def save(options: Options, records: list[dict[str, Any]]) -> None:
    """Write records, tables and plots."""
    (options.out / "ablation.json").write_text(json.dumps(records, indent=1) + "\n", "utf-8")
    (options.out / "ablation.md").write_text(report(options, records), "utf-8")
    if "sweeps" in options.parts:
        for preset in options.presets:
            keys = {
                name: {value: run_key(preset, sweep_values(name, value)) for value in points}
                for name, points in SWEEPS[preset].items()
            }
            plot_sweeps(records, preset, keys, run_key(preset, FULL), options.out)


def report(options: Options, records: list[dict[str, Any]]) -> str:
    """Markdown tables of the chosen parts."""
    components: dict[str, dict[str, str]] = {
        preset: {name: run_key(preset, values) for name, values in COMPONENTS[preset].items()}
        for preset in options.presets
        if "components" in options.parts
    }
    on_off = {
        name: (run_key("balanced", on), run_key("balanced", off))
        for name, (on, off) in ON_OFF.items()
        if "options" in options.parts
    }
    return markdown(records, components, on_off)


def _run(
    engine: Engine, task: RetrievalTask, preset: Preset, values: Values, bits: int, seed: int
) -> dict[str, Any]:
    """Record of one run; a refused run's record holds the error."""
    record = {"set": task.name, "bits": bits, "seed": seed, "preset": preset, "values": values}
    record |= {"key": run_key(preset, values)}
    record |= {"directions": [f"{g} → {h}" for g, h in task.directions]}
    try:
        run = engine.train(task, {**values, "preset": preset, "bits": bits, "seed": seed})
    except SrchError as error:
        return record | {"error": str(error)}
    return record | run.scores | {"fit_seconds": round(run.fit_seconds, 3)}


def main() -> None:
    """Train all variants, save and print the tables."""
    options = tyro.cli(Options)
    try:
        records = run_all(options)
    except SrchError as error:
        raise SystemExit(f"error: {error}") from None
    print(report(options, records))


if __name__ == "__main__":
    main()
