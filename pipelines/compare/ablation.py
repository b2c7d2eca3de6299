"""The paper's ablation (Table 3) and sweeps (Figure 5), and what each of our options is worth.

    python -m pipelines.compare.ablation STORE [STORE ...] --bits 32 64 --seeds 3 --out FOLDER

Every figure is a run of the engine; runs that several parts need are made once. Results go to
``ablation.json`` (every run), ``ablation.md`` (tables) and ``figure5-PRESET-BITS.png``, renewed
after each data set. Reading of the paper's rows:

- Without the similarity loss: λ = 0 and β → 0 as printed, ω = 0 when balanced.
- Without the quantisation or without the reconstruction loss: for l ≤ d both leave the closed forms
  W = Procrustes(X Bᵀ) and sign(βZ + ΣWX), half the projections of Eq. 17. So there is one row for
  both; as printed it is α, β and λ doubled, when balanced ω doubled.
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
Part = Literal["components", "levers", "sweeps"]


def _on_and_off(option: str, on: Any, off: Any) -> tuple[Values, Values]:
    """A method option at two values, the rest of the preset as it is."""
    return {"method": {option: on}}, {"method": {option: off}}


_BALANCED, _PRINTED = MethodConfig(), build_config({}, "paper").method
FULL: Values = {}

# Table 3: what is left out of the objective, by preset.
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

# Our own options: the preset balanced with the option on, and with it off.
LEVERS: dict[str, tuple[Values, Values]] = {
    "graph (ω; off: 0)": (FULL, {"method": {"omega": 0.0}}),
    "rebase (off: S = 1)": _on_and_off("rebase", True, False),
    "modality weights (mutual; off: equal)": _on_and_off("weights", "mutual", "equal"),
    "centring of Z": _on_and_off("center_z", True, False),
    "rotation": _on_and_off("rotate", True, False),
    "anchor encoder (off: ridge)": _on_and_off("encoder", "anchors", "ridge"),
    "spread directions (off: 0)": _on_and_off("directions", _BALANCED.directions, 0),
}

# Figure 5: parameter, then values; the paper's own values are not printed, only its defaults.
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
    """Leave out or vary one thing at a time."""

    stores: Annotated[list[Path], tyro.conf.Positional]
    """Feature stores, or .npz files that are ingested first."""
    out: Path
    """Folder for tables and plots."""
    bits: list[int] = field(default_factory=lambda: [32])
    """Code lengths, multiples of 8."""
    seeds: int = 3
    """Seeds 0 … n - 1, the same for every variant."""
    parts: list[Part] = field(default_factory=lambda: ["components", "levers", "sweeps"])
    """Table 3, our options, Figure 5."""
    presets: list[Preset] = field(default_factory=lambda: ["paper", "balanced"])
    """Presets of Table 3 and Figure 5."""
    workers: int = 1
    """Worker processes of the cluster."""
    scheduler: str | None = None
    """Address of a running Dask scheduler instead."""
    jobs: int = 1
    """Sets worked on at once, in processes of their own."""


def swept(parameter: str, value: float) -> Values:
    """The options that set one swept parameter."""
    if parameter == "k":
        return {"graph": {"k": int(value)}}
    return {"method": {parameter: value}}


def variants(options: Options) -> list[tuple[Preset, Values]]:
    """Every (preset, options) that the chosen parts need, each once."""
    wanted: list[tuple[Preset, Values]] = [(preset, FULL) for preset in options.presets]
    if "components" in options.parts:
        wanted += [(p, values) for p in options.presets for values in COMPONENTS[p].values()]
    if "levers" in options.parts:
        wanted += [("balanced", values) for pair in LEVERS.values() for values in pair]
    if "sweeps" in options.parts:
        for preset in options.presets:
            wanted += [
                (preset, swept(name, value))
                for name, points in SWEEPS[preset].items()
                for value in points
            ]
    return list({run_key(preset, values): (preset, values) for preset, values in wanted}.values())


def run_key(preset: str, values: Mapping[str, Any]) -> str:
    """What tells runs apart: the method in full, so that a default written out is the default."""
    config = build_config(dict(values), preset)
    return json.dumps([preset, vars(config.method), vars(config.graph)])


def run_all(options: Options) -> list[dict[str, Any]]:
    """Run every variant, save after each set, and return every record."""
    records: list[dict[str, Any]] = []
    options.out.mkdir(parents=True, exist_ok=True)
    for found in map_sets(partial(_run_set, options), options.stores, options.jobs):
        records += found
        save(options, records)
    return records


def _run_set(options: Options, source: Path) -> list[dict[str, Any]]:
    """Every variant, width and seed of one set."""
    records = []
    with open_engine(options.workers, options.scheduler) as engine:
        task = RetrievalTask.load(open_source(source, engine.scratch))
        for bits in options.bits:
            for preset, values in variants(options):
                for seed in range(options.seeds):
                    records.append(_run(engine, task, preset, values, bits, seed))
            print(f"{task.name}, {bits} bits: {len(records)} runs so far", flush=True)
    return records


def save(options: Options, records: list[dict[str, Any]]) -> None:
    """Write records, tables and plots."""
    (options.out / "ablation.json").write_text(json.dumps(records, indent=1) + "\n", "utf-8")
    (options.out / "ablation.md").write_text(report(options, records), "utf-8")
    if "sweeps" in options.parts:
        for preset in options.presets:
            keys = {
                name: {value: run_key(preset, swept(name, value)) for value in points}
                for name, points in SWEEPS[preset].items()
            }
            plot_sweeps(records, preset, keys, run_key(preset, FULL), options.out)


def report(options: Options, records: list[dict[str, Any]]) -> str:
    """The tables of the chosen parts."""
    components: dict[str, dict[str, str]] = {
        preset: {name: run_key(preset, values) for name, values in COMPONENTS[preset].items()}
        for preset in options.presets
        if "components" in options.parts
    }
    levers = {
        name: (run_key("balanced", on), run_key("balanced", off))
        for name, (on, off) in LEVERS.items()
        if "levers" in options.parts
    }
    return markdown(records, components, levers)


def _run(
    engine: Engine, task: RetrievalTask, preset: Preset, values: Values, bits: int, seed: int
) -> dict[str, Any]:
    """One run; a refused one gives a record that says why."""
    record = {"set": task.name, "bits": bits, "seed": seed, "preset": preset, "values": values}
    record |= {"key": run_key(preset, values)}
    record |= {"directions": [f"{g} → {h}" for g, h in task.directions]}
    try:
        run = engine.train(task, {**values, "preset": preset, "bits": bits, "seed": seed})
    except SrchError as error:
        return record | {"error": str(error)}
    return record | run.scores | {"fit_seconds": round(run.fit_seconds, 3)}


def main() -> None:
    """Run, save and print the tables."""
    options = tyro.cli(Options)
    try:
        records = run_all(options)
    except SrchError as error:
        raise SystemExit(f"error: {error}") from None
    print(report(options, records))


if __name__ == "__main__":
    main()
