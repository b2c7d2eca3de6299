"""Write docs/options.md: every option, its default, its help text and its measured effect.

    python -m pipelines.options.page

Names, defaults and help texts come from `srch_dist.config`, effects from the results of
`pipelines.options.run`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.options.cases import ABLATION, NOT_TRIED
from pipelines.options.run import RESULTS
from srch_dist.cli.help_texts import option_texts
from srch_dist.config.loading import build_config
from srch_dist.config.options import TrainConfig

_DOCS = Path(__file__).parents[2] / "docs"
PAGE = _DOCS / "options.md"
_QUALITY = _DOCS / "benchmarks" / "quality.md"
_HEAD = """# Options

This page lists every option of `python -m srch_dist.train`. Set an option on the command line
(`--method.lam 5`) or in a file (`--config run.yaml`, nested: `method: {{lam: 5}}`).

The column "effect" shows what a value changed on the shipped emoji set: 1,525 pairs, 32 bits,
preset `balanced`, number of seeds: {seeds}. It has two figures: the change of MAP (mean of both
directions) from {base:.3f}, and the share of bits of the learned codes that differ.

Measured on 2026-11-27. Later changes of the program moved the base: version 0.1.0 has MAP 0.585
after 17 iterations. Read each effect as a difference from the base of that day.

Another seed alone gives: {seed}.
The set is small and has one kind of data. Trust the sign of a change only if the change is larger
than that of another seed.

`python -m pipelines.options.run` repeats these measurements. `python -m srch_dist.sweep` measures
options on your data. `python -m pipelines.options.page` generates this page.
"""
_COLUMNS = ("option", "default", "description", "effect")


def option_names(kind: Any = TrainConfig, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and help text of every option."""
    texts = option_texts(kind)
    for item in dataclasses.fields(kind):
        section = item.default_factory
        if isinstance(section, type) and dataclasses.is_dataclass(section):
            yield from option_names(section, f"{item.name}.")
        else:
            yield f"{prefix}{item.name}", texts[item.name]


def page(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The page as Markdown, for the results of `pipelines.options.run` by option."""
    (seed,) = results["seed"]
    head = _HEAD.format(seeds=seed["seeds"], base=seed["map_base"], seed=_effect(seed))
    sections: dict[str, list[str]] = {}
    for name, description in option_names():
        section = name.rpartition(".")[0] or "run"
        cells = (f"`{name}`", _default(name), description, _effects(name, results))
        row = " | ".join(cell.replace("|", "\\|") for cell in cells)
        sections.setdefault(section, []).append(f"| {row} |")
    rule = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}"
    tables = [f"\n## {name}\n\n{rule}\n" + "\n".join(rows) for name, rows in sections.items()]
    return head + "\n".join(tables) + "\n"


def _default(name: str) -> str:
    """The default, and the value in the preset paper if it differs."""
    balanced, paper = (_value(build_config({}, preset), name) for preset in ("balanced", "paper"))
    if name == "preset" or balanced == paper:
        return _shown(balanced)
    return f"{_shown(balanced)}; `paper`: {_shown(paper)}"


def _value(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def _shown(value: Any) -> str:
    return "–" if value is None else f"`{json.dumps(value).strip(chr(34))}`"


def _effects(name: str, results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    if name in NOT_TRIED:
        return NOT_TRIED[name]
    if name not in results:
        effects = [f"not measured yet (`python -m pipelines.options.run --only {name}`)"]
    else:
        effects = [f"{_shown(record['value'])}: {_effect(record)}" for record in results[name]]
        beside = results[name][0]["beside"]
        if beside:
            settings = ", ".join(f"{option} {value}" for option, value in beside.items())
            effects[-1] += f" (with {settings})"
    return "; ".join([*effects, *_ablation(name)])


def _ablation(name: str) -> list[str]:
    """Mean gain of an option over five data sets: the ablation in docs/benchmarks/quality.md."""
    label = ABLATION.get(name)
    rows = (line.strip("| ").split(" | ") for line in _QUALITY.read_text("utf-8").splitlines())
    means = [row[-1] for row in rows if label is not None and row[0] == label]
    return [f"on instead of off, five data sets, 64 bits: {mean} MAP" for mean in means]


def _effect(record: Mapping[str, Any]) -> str:
    """The effect of one value as text."""
    if "error" in record:
        return f"fails with “{record['error'].partition(':')[0]}”"
    if record["differing_bits"] == 0:
        parts = ["same codes"]
    else:
        parts = [f"{record['map'] - record['map_base']:+z.3f} MAP".replace("-", "−")]
        if record["differing_bits"] is not None:
            parts.append(f"{record['differing_bits']:.1%} of bits".replace("%", " %"))
    for key, text, threshold in (
        ("graph_recall", "graph recall {:.3f} instead of {:.3f}", 0.0005),
        ("iterations", "{:g} iterations instead of {:g}", 1),
        ("cg_iterations", "{:.0f} CG iterations instead of {:.0f}", 20),
    ):
        if abs(record[key] - record[f"{key}_base"]) >= threshold:
            parts.append(text.format(record[key], record[f"{key}_base"]))
    return ", ".join(parts)


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
