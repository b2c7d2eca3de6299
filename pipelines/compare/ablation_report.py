"""Tables and plots of `ablation`, from records that `ablation.run_key` identifies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from .table import header, row

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Record = dict[str, Any]
Scores = NDArray[np.float64]

_MEASURES = {"map": "MAP", "unseen": "unseen MAP (database = queries)"}
_LETTERS = {"alpha": "α", "beta": "β", "lam": "λ", "k": "k"}
_MEAN = "mean over data sets"

_COMPONENTS_NOTE = """\
QL, RL and SL are the quantisation, reconstruction and similarity loss. For l ≤ d the closed forms
without QL and without RL coincide: same Procrustes W, same sign (see tests/pipelines/compare). One
row therefore stands for both: α, β and λ doubled in the preset paper, ω doubled in balanced.
The paper reports different figures for the two. The row without RL uses the printed closed form.
The exact minimiser of ‖WX - B‖² over W differs, since ‖WX‖² is not constant for l < d. Where
codes are longer than a modality has dimensions, the row is the same closed form, but corresponds
to neither loss alone."""

_ON_OFF_NOTE = """\
Gain of each option: MAP of the preset balanced with the option on minus MAP with it off, mean of
both directions, paired by seed; mean ± standard deviation over seeds. A positive gain means that
the option helps. docs/options.md lists which options the preset has on."""


def scores_of(
    records: Sequence[Record], name: str | None, bits: int, key: str, measure: str
) -> Scores:
    """Scores of a variant by seed and direction.

    Parameters
    ----------
    records : sequence of dict
    name : str or None
        Data set; None for the mean over all of them.
    bits : int
    key : str
        `ablation.run_key` of the variant.
    measure : str
        ``"map"`` or ``"unseen"``.

    Returns
    -------
    array (seeds, 2)
        NaN for refused runs.
    """
    if name is None:
        sets = dict.fromkeys(r["set"] for r in records if r["bits"] == bits)
        return np.asarray(
            np.mean([scores_of(records, s, bits, key, measure) for s in sets], axis=0)
        )
    runs = [r for r in records if (r["set"], r["bits"], r["key"]) == (name, bits, key)]
    runs.sort(key=lambda r: int(r["seed"]))
    return np.array([r.get(measure, [np.nan, np.nan]) for r in runs]).reshape(-1, 2)


def markdown(
    records: Sequence[Record],
    components: Mapping[str, Mapping[str, str]],
    on_off: Mapping[str, tuple[str, str]],
) -> str:
    """All tables as Markdown.

    Parameters
    ----------
    records : sequence of dict
    components : mapping
        Key of each variant of Table 3, by preset and name.
    on_off : mapping
        Keys of the runs with an option on and off, by name.
    """
    lines = ["# Ablation", ""]
    if components and records:
        directions = " / ".join(records[0]["directions"])
        lines += ["## Table 3 of the paper, on this implementation", "", _COMPONENTS_NOTE, ""]
        lines += [f"MAP {directions}, mean ± standard deviation over seeds.", ""]
        lines += _component_table(records, components)
    if on_off:
        lines += ["", "## Gain of each option", "", _ON_OFF_NOTE]
        for measure, title in _MEASURES.items():
            lines += ["", f"{title}:", "", *_on_off_table(records, on_off, measure)]
    refused = [r for r in records if "error" in r]
    if refused:
        lines += ["", "## Refused runs", ""]
        lines += [
            f"- {r['set']}, {r['bits']} bits, seed {r['seed']}, {r['preset']} {r['values']}: "
            f"{r['error']}"
            for r in refused
        ]
    return "\n".join(lines) + "\n"


def _component_table(
    records: Sequence[Record], components: Mapping[str, Mapping[str, str]]
) -> list[str]:
    names = _columns(records)
    lines = header(["preset", "bits", "variant", *[name or _MEAN for name in names]])
    for preset, rows in components.items():
        for bits in dict.fromkeys(r["bits"] for r in records):
            for variant, key in rows.items():
                cells = [_pairs(scores_of(records, s, bits, key, "map")) for s in names]
                lines.append(row([preset, bits, variant, *cells]))
    return lines


def _on_off_table(
    records: Sequence[Record],
    on_off: Mapping[str, tuple[str, str]],
    measure: str,
) -> list[str]:
    names = _columns(records)
    lines = header(["option", "bits", *[name or _MEAN for name in names]])
    for option, keys in on_off.items():
        for bits in dict.fromkeys(r["bits"] for r in records):
            cells = [_gain(records, s, bits, keys, measure) for s in names]
            lines.append(row([option, bits, *cells]))
    return lines


def _gain(
    records: Sequence[Record], name: str | None, bits: int, keys: tuple[str, str], measure: str
) -> str:
    """Paired difference of two runs, over the seeds at which neither was refused."""
    on, off = (scores_of(records, name, bits, key, measure).mean(axis=1) for key in keys)
    if len(on) != len(off) or not len(on):
        return ""
    gains = (on - off)[np.isfinite(on - off)]
    if not len(gains):
        return "refused"
    spread = f" ± {gains.std(ddof=1):.4f}" if len(gains) > 1 else ""
    return f"{gains.mean():+.4f}{spread}"


def _columns(records: Sequence[Record]) -> list[str | None]:
    """Data sets, then None for the mean over them."""
    return [*dict.fromkeys(r["set"] for r in records), None]


def _pairs(scores: Scores) -> str:
    """Mean and standard deviation of both directions, over the seeds that were not refused."""
    if not len(scores):
        return ""
    finite = scores[np.isfinite(scores).all(axis=1)]
    if not len(finite):
        return "refused"
    mean = "/".join(f"{value:.3f}" for value in finite.mean(axis=0))
    if len(finite) == 1:
        return mean
    return f"{mean} ± " + "/".join(f"{value:.3f}" for value in finite.std(axis=0, ddof=1))


def plot_sweeps(
    records: Sequence[Record],
    preset: str,
    keys: Mapping[str, Mapping[float, str]],
    full: str,
    folder: Path,
) -> list[Path]:
    """Plot MAP over swept parameters: one figure per code length, one panel per parameter.

    Each panel has a line per data set and one for their mean.

    Parameters
    ----------
    records : sequence of dict
    preset : str
    keys : mapping
        Key of the run by parameter and value.
    full : str
        Key of the unchanged preset; its mean over data sets is a dotted line.
    folder : Path
        Folder for the PNG files.

    Returns
    -------
    list of Path
    """
    paths = []
    for bits in dict.fromkeys(r["bits"] for r in records):
        figure, axes = plt.subplots(1, len(keys), figsize=(4 * len(keys), 3.4), sharey=True)
        for axis, (parameter, points) in zip(np.atleast_1d(axes), keys.items(), strict=True):
            _plot_panel(axis, records, bits, points)
            default = np.nanmean(scores_of(records, None, bits, full, "map"))
            axis.axhline(default, color="black", linestyle=":", linewidth=1)
            axis.set_xlabel(_LETTERS[parameter])
        np.atleast_1d(axes)[0].set_ylabel("MAP, mean of both directions")
        np.atleast_1d(axes)[-1].legend(fontsize="small")
        figure.suptitle(f"{preset}, {bits} bits (dotted: mean of the unchanged preset)")
        figure.tight_layout()
        paths.append(folder / f"figure5-{preset}-{bits}.png")
        figure.savefig(paths[-1], dpi=120)
        plt.close(figure)
    return paths


def _plot_panel(
    axis: Axes, records: Sequence[Record], bits: int, points: Mapping[float, str]
) -> None:
    for name in _columns([r for r in records if r["bits"] == bits]):
        maps = [scores_of(records, name, bits, key, "map").mean(axis=1) for key in points.values()]
        means = [float(np.nanmean(s)) if np.isfinite(s).any() else np.nan for s in maps]
        spread = [float(np.nanstd(s)) if np.isfinite(s).any() else 0.0 for s in maps]
        style = {"color": "black", "linewidth": 2} if name is None else {"alpha": 0.7}
        axis.errorbar(list(points), means, spread, marker="o", label=name or _MEAN, **style)
    axis.set_xscale("log")
