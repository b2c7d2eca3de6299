"""Charts of the loop: objective, bits, the Z-step and the rebase."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.ticker import MaxNLocator, PercentFormatter

from srch_dist.kernels.types import Array
from srch_dist.report.figures import BAD, INK, MUTED, SERIES, Chart, draw
from srch_dist.report.records import RunRecords

# Pictures inside a drawing have colours of their own; these are read on light and on dark.
_COOL, _WARM = "#3b82f6", "#f97316"
_TERMS = {
    "quantisation": "‖WX − B‖²",
    "reconstruction": "‖X − W′B‖²",
    "semantic": "graph (Eq. 4)",
    "sparsity": "S (Eq. 7)",
    "embedding": "‖Z − B‖²",
}


def column(run: RunRecords, *keys: str) -> tuple[list[int], list[float]]:
    """Iterations and a value of each, of those that have it."""
    places, values = [], []
    for record in run.history:
        value: Any = record
        for key in keys:
            value = value.get(key) if value is not None else None
        if value is not None:
            places.append(record["iteration"])
            values.append(value)
    return places, values


def iterations_axis(axes: Axes) -> None:
    """Label the horizontal axis with whole iterations."""
    axes.set_xlabel("iteration")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def objective_chart(run: RunRecords) -> Chart:
    """Eq. 9 by term."""

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
    """Share of changed bits, and where the loop stops."""
    method = run.config["method"]

    def paint(axes: Axes) -> None:
        places, values = column(run, "changed_bits")
        # A logarithmic axis has no zero.
        axes.plot(places, [v if v > 0 else np.nan for v in values], "o-")
        if method["stop"] == "changed_bits" and method["threshold"] > 0:
            axes.axhline(method["threshold"], color=MUTED, linestyle="--", linewidth=1)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        iterations_axis(axes)

    return draw("Changed bits", f"Stopped: {run.summary['reason']}.", paint)


def balance_chart(run: RunRecords) -> Chart:
    """Balance and correlation of the loop's bits."""

    def paint(axes: Axes) -> None:
        for colour, key, label in (
            (SERIES[0], "bit_balance", "|mean of a bit|"),
            (SERIES[1], "bit_correlation", "|correlation of two|"),
        ):
            for which, style in (("worst", "--"), ("mean", "-")):
                places, values = column(run, key, which)
                if places:
                    axes.plot(places, values, style, color=colour, label=f"{label}, {which}")
        axes.set_ylim(0, 1)
        iterations_axis(axes)

    text = "Of the bits of the loop: 0 is balanced, and independent."
    return draw("Balance and correlation", text, paint, legend=2, height=3.3)


def bit_means_chart(means: Array) -> Chart:
    """Share of ones of each bit of the final codes."""

    def paint(axes: Axes) -> None:
        shares = (1 + means) / 2
        axes.stairs(shares, np.arange(len(shares) + 1) - 0.5, fill=True, alpha=0.75)
        axes.axhline(0.5, color=MUTED, linestyle="--", linewidth=1)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("bit")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    text = "Share of ones in each bit of the final codes; half is balanced."
    return draw("Final codes: balance", text, paint)


def correlation_chart(correlations: Array) -> Chart:
    """Correlations of the bits of the final codes."""
    bits = len(correlations)
    others = np.abs(correlations[~np.eye(bits, dtype=bool)])
    text = (
        f"Of each two of {bits} bits: |correlation| {others.mean():.2f} on average, "
        f"{others.max():.2f} at most."
    )

    def paint(axes: Axes) -> None:
        image = axes.imshow(
            correlations, cmap=_diverging(), vmin=-1, vmax=1, interpolation="nearest"
        )
        axes.grid(False)
        axes.set_xlabel("bit")
        bar = axes.figure.colorbar(image, ax=axes, shrink=0.9)
        bar.outline.set_visible(False)

    return draw("Final codes: correlation", text, paint, height=3.6)


def residual_chart(run: RunRecords) -> Chart:
    """Residuals of the Z-steps by update."""
    tolerance = run.config["solver"]["tolerance"]
    known = [record for record in run.history if record.get("cg_residuals")]

    def paint(axes: Axes) -> None:
        for place, record in enumerate(known):
            edge = place in (0, len(known) - 1)
            axes.plot(
                record["cg_residuals"],
                color=SERIES[1] if place == len(known) - 1 else SERIES[0],
                alpha=1.0 if edge else 0.25,
                linewidth=1.8 if edge else 1.0,
                label=f"iteration {record['iteration']}" if edge else None,
            )
        axes.axhline(tolerance, color=BAD, linestyle="--", linewidth=1, label="solver.tolerance")
        axes.set_yscale("log")
        axes.set_xlabel("update of conjugate gradients")

    text = (
        "Relative residual of the slowest column of Z, before each update. While many bits change, "
        "method.forcing lets a Z-step end above solver.tolerance."
    )
    return draw("Convergence of the Z-step", text, paint, legend=3)


def rebase_chart(run: RunRecords) -> Chart:
    """S before the first rebase, after it, and at the end."""
    known = [record for record in run.history if record.get("s_counts")]

    def paint(axes: Axes) -> None:
        first, last = (weight_shares(known[place]) for place in (0, -1))
        edges = np.linspace(0, 1, len(first) + 1)
        axes.stairs(
            last, edges, fill=True, color=SERIES[0], alpha=0.55,
            label=f"after iteration {known[-1]['iteration']}",
        )  # fmt: skip
        axes.stairs(
            first, edges, color=SERIES[1], linewidth=1.8,
            label=f"after iteration {known[0]['iteration']}",
        )  # fmt: skip
        axes.axvline(1.0, color=MUTED, linestyle=":", linewidth=2, label="before: all at 1")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("S of an edge")
        axes.set_xlim(0, 1.01)

    text = "Share of edges by S (Eq. 15): 0 is cut, 1 kept as it was set."
    return draw("The rebase: before and after", text, paint, legend=2)


def rebase_history_chart(run: RunRecords) -> Chart:
    """S by iteration."""
    known = [record for record in run.history if record.get("s_counts")]

    def paint(axes: Axes) -> None:
        shares = np.stack([weight_shares(record) for record in known], axis=1)
        before = np.zeros((len(shares), 1))
        before[-1] = 1.0
        shares = np.concatenate([before, shares], axis=1)
        axes.imshow(
            np.sqrt(shares), cmap=_fading(_COOL), vmin=0, vmax=1, aspect="auto", origin="lower",
            extent=(-0.5, shares.shape[1] - 0.5, 0, 1), interpolation="nearest",
        )  # fmt: skip
        axes.grid(False)
        axes.set_ylabel("S")
        iterations_axis(axes)

    text = "Iteration 0 is before the rebase; stronger colour, more edges (root scale)."
    return draw("The rebase, iteration by iteration", text, paint)


def weight_shares(record: Any) -> Array:
    """Shares of the edges by S, in equal bins of [0, 1], after an iteration."""
    counts = np.array(record["s_counts"], dtype=np.float64)
    shares: Array = counts / max(1.0, counts.sum())
    return shares


def _fading(colour: str) -> LinearSegmentedColormap:
    """From nothing to a colour, so that the ground of the page shows through."""
    return LinearSegmentedColormap.from_list("fading", [_clear(colour), to_rgba(colour)])


def _clear(colour: str) -> tuple[float, float, float, float]:
    return to_rgba(colour, 0.0)


def _diverging() -> LinearSegmentedColormap:
    """From one colour through nothing to another."""
    ends = to_rgba(_COOL), to_rgba(_WARM)
    places = [(0.0, ends[0]), (0.4999, _clear(_COOL)), (0.5001, _clear(_WARM)), (1.0, ends[1])]
    return LinearSegmentedColormap.from_list("diverging", places)
