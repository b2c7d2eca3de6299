"""Charts of the training loop: objective, changed bits, CG residuals, edge weights, codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.ticker import MaxNLocator, PercentFormatter

from srch_dist.kernels.types import Array
from srch_dist.report.figures import BAD, INK, MUTED, SERIES, Chart, draw
from srch_dist.report.records import RunRecords

# Raster images cannot use style sheet variables. These colours are legible on light and dark pages.
_COOL, _WARM = "#3b82f6", "#f97316"
_TERMS = {
    "quantisation": "‖WX − B‖²",
    "reconstruction": "‖X − W′B‖²",
    "semantic": "graph (Eq. 4)",
    "sparsity": "S (Eq. 7)",
    "embedding": "‖Z − B‖²",
}


def column(run: RunRecords, *keys: str) -> tuple[list[int], list[float]]:
    """Read one value from the record of each iteration; skip iterations without this value.

    ``keys`` is the path of the value in a record. Returns the iteration numbers and the values.
    """
    iterations, values = [], []
    for record in run.history:
        value: Any = record
        for key in keys:
            value = value.get(key) if value is not None else None
        if value is not None:
            iterations.append(record["iteration"])
            values.append(value)
    return iterations, values


def iterations_axis(axes: Axes) -> None:
    """Label the horizontal axis with integer iterations."""
    axes.set_xlabel("iteration")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def objective_chart(run: RunRecords) -> Chart:
    """Chart the objective (Eq. 9) and its terms by iteration."""

    def paint(axes: Axes) -> None:
        axes.plot(*column(run, "objective"), color=INK, label="total", linewidth=2.2)
        for colour, (term, label) in zip(SERIES, _TERMS.items(), strict=False):
            places, values = column(run, "terms", term)
            if any(value > 0 for value in values):
                axes.plot(places, values, color=colour, label=label)
        axes.set_yscale("log")
        iterations_axis(axes)

    return draw("Objective by term", "Eq. 9 after each iteration.", paint, legend=3, height=3.3)


def changed_bits_chart(run: RunRecords) -> Chart:
    """Chart the share of changed bits by iteration, and the threshold that stops the loop."""
    method = run.config["method"]

    def paint(axes: Axes) -> None:
        places, values = column(run, "changed_bits")
        # A logarithmic axis cannot show zero.
        axes.plot(places, [v if v > 0 else np.nan for v in values], "o-")
        if method["stop"] == "changed_bits" and method["threshold"] > 0:
            axes.axhline(method["threshold"], color=MUTED, linestyle="--", linewidth=1)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        iterations_axis(axes)

    return draw("Changed bits", f"Share of bits. Stopped: {run.summary['reason']}.", paint)


def balance_chart(run: RunRecords) -> Chart:
    """Chart the balance and correlation of the loop's bits by iteration."""

    def paint(axes: Axes) -> None:
        for colour, key, label in (
            (SERIES[0], "bit_balance", "|bit mean|"),
            (SERIES[1], "bit_correlation", "|bit correlation|"),
        ):
            for which, style in (("worst", "--"), ("mean", "-")):
                places, values = column(run, key, which)
                if places:
                    axes.plot(places, values, style, color=colour, label=f"{label}, {which}")
        axes.set_ylim(0, 1)
        iterations_axis(axes)

    text = "Bits of the loop; 0 is balanced and uncorrelated."
    return draw("Bit balance and correlation", text, paint, legend=2, height=3.3)


def bit_means_chart(means: Array) -> Chart:
    """Chart the share of ones in each of the l bits of the final codes, from ``means`` (l,)."""

    def paint(axes: Axes) -> None:
        shares = (1 + means) / 2
        axes.stairs(shares, np.arange(len(shares) + 1) - 0.5, fill=True, alpha=0.75)
        axes.axhline(0.5, color=MUTED, linestyle="--", linewidth=1)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("bit")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    text = "Share of ones in each bit; 50 % is balanced."
    return draw("Final codes: bit balance", text, paint)


def correlation_chart(correlations: Array) -> Chart:
    """Chart the correlations (l, l) of the l bits of the final codes."""
    bits = len(correlations)
    pairs = np.abs(correlations[~np.eye(bits, dtype=bool)])
    text = (
        f"|correlation| of pairs of {bits} bits: mean {pairs.mean():.2f}, "
        f"maximum {pairs.max():.2f}."
    )

    def paint(axes: Axes) -> None:
        image = axes.imshow(
            correlations, cmap=_diverging(), vmin=-1, vmax=1, interpolation="nearest"
        )
        axes.grid(False)
        axes.set_xlabel("bit")
        bar = axes.figure.colorbar(image, ax=axes, shrink=0.9)
        bar.outline.set_visible(False)

    return draw("Final codes: bit correlation", text, paint, height=3.6)


def residual_chart(run: RunRecords) -> Chart:
    """Chart the Z-step's residuals by CG iteration, one line per iteration of the loop."""
    tolerance = run.config["solver"]["tolerance"]
    records = [record for record in run.history if record.get("cg_residuals")]

    def paint(axes: Axes) -> None:
        for place, record in enumerate(records):
            is_end = place in (0, len(records) - 1)
            axes.plot(
                record["cg_residuals"],
                color=SERIES[1] if place == len(records) - 1 else SERIES[0],
                alpha=1.0 if is_end else 0.25,
                linewidth=1.8 if is_end else 1.0,
                label=f"iteration {record['iteration']}" if is_end else None,
            )
        axes.axhline(tolerance, color=BAD, linestyle="--", linewidth=1, label="solver.tolerance")
        axes.set_yscale("log")
        axes.set_xlabel("CG iteration")

    text = (
        "Relative residual of the slowest column of Z, before each CG iteration. While many bits "
        "change, method.forcing stops CG at a larger residual than solver.tolerance."
    )
    return draw("CG convergence of the Z-step", text, paint, legend=3)


def rebase_chart(run: RunRecords) -> Chart:
    """Chart the distribution of edge weights S after the first and after the last iteration.

    A line marks 1, the initial value of all weights.
    """
    records = [record for record in run.history if record.get("s_counts")]

    def paint(axes: Axes) -> None:
        first, last = (weight_shares(records[place]) for place in (0, -1))
        edges = np.linspace(0, 1, len(first) + 1)
        axes.stairs(
            last, edges, fill=True, color=SERIES[0], alpha=0.55,
            label=f"after iteration {records[-1]['iteration']}",
        )  # fmt: skip
        axes.stairs(
            first, edges, color=SERIES[1], linewidth=1.8,
            label=f"after iteration {records[0]['iteration']}",
        )  # fmt: skip
        axes.axvline(1.0, color=MUTED, linestyle=":", linewidth=2, label="initially all 1")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("edge weight S")
        axes.set_xlim(0, 1.01)

    text = "Share of edges by S (Eq. 15). 0 removes an edge, 1 keeps its initial weight."
    return draw("Edge weights S: first and last", text, paint, legend=2)


def rebase_history_chart(run: RunRecords) -> Chart:
    """Chart the distribution of edge weights S by iteration."""
    records = [record for record in run.history if record.get("s_counts")]

    def paint(axes: Axes) -> None:
        shares = np.stack([weight_shares(record) for record in records], axis=1)
        initial = np.zeros((len(shares), 1))
        initial[-1] = 1.0
        shares = np.concatenate([initial, shares], axis=1)
        axes.imshow(
            np.sqrt(shares), cmap=_fading(_COOL), vmin=0, vmax=1, aspect="auto", origin="lower",
            extent=(-0.5, shares.shape[1] - 0.5, 0, 1), interpolation="nearest",
        )  # fmt: skip
        axes.grid(False)
        axes.set_ylabel("S")
        iterations_axis(axes)

    text = "Colour: share of edges, square-root scale. Iteration 0 is the initial graph."
    return draw("Edge weights S by iteration", text, paint)


def weight_shares(record: Any) -> Array:
    """Return the share of edges (bins,) by weight S, in bins of equal width over [0, 1].

    ``record`` is the record of an iteration.
    """
    counts = np.array(record["s_counts"], dtype=np.float64)
    shares: Array = counts / max(1.0, counts.sum())
    return shares


def _fading(colour: str) -> LinearSegmentedColormap:
    """Create a colour map from transparent to ``colour``, so that the page's background shows."""
    return LinearSegmentedColormap.from_list("fading", [_clear(colour), to_rgba(colour)])


def _clear(colour: str) -> tuple[float, float, float, float]:
    return to_rgba(colour, 0.0)


def _diverging() -> LinearSegmentedColormap:
    """Create a colour map from one colour through transparent to a second colour."""
    ends = to_rgba(_COOL), to_rgba(_WARM)
    places = [(0.0, ends[0]), (0.4999, _clear(_COOL)), (0.5001, _clear(_WARM)), (1.0, ends[1])]
    return LinearSegmentedColormap.from_list("diverging", places)
