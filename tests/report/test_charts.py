"""Charts draw the recorded values: their lines and bars against the records."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from srch_dist.report import comparison, cost_charts, figures, retrieval_charts, training_charts
from srch_dist.report.figures import draw, literal_label
from srch_dist.report.records import load_records
from srch_dist.storage import arrays


@pytest.fixture(scope="module")
def run(shown):
    return load_records([shown.run.path])[0]


@pytest.fixture
def painted(monkeypatch):
    """Charts come as the axes that they would have been drawn from."""

    def paint_only(_title, _text, paint, **_options):
        axes = Figure().subplots()
        paint(axes)
        return axes

    for module in (comparison, cost_charts, retrieval_charts, training_charts):
        monkeypatch.setattr(module, "draw", paint_only)


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("painted")]


def lines_of(axes) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def history(run, *keys) -> np.ndarray:
    values = []
    for record in run.history:
        value = record
        for key in keys:
            value = value[key]
        values.append((record["iteration"], value))
    return np.array(values, dtype=float)


def test_objective_has_a_line_for_the_total_and_for_every_term(run):
    found = lines_of(training_charts.objective_chart(run))
    np.testing.assert_allclose(found.pop("total"), history(run, "objective"))
    terms = run.history[0]["terms"]
    drawn = [found[label] for label in training_charts._TERMS.values()]
    assert list(training_charts._TERMS) == list(terms)
    for term, values in zip(terms, drawn, strict=True):
        np.testing.assert_allclose(values, history(run, "terms", term))
    total = np.sum([values[:, 1] for values in drawn], axis=0)
    np.testing.assert_allclose(total, history(run, "objective")[:, 1])


def test_changed_bits_are_drawn_with_the_threshold_that_stops(run):
    axes = training_charts.changed_bits_chart(run)
    changed, threshold = axes.lines
    expected = history(run, "changed_bits")
    expected[expected[:, 1] == 0, 1] = np.nan  # what no logarithm has
    np.testing.assert_allclose(changed.get_xydata(), expected)
    assert set(threshold.get_ydata()) == {run.config["method"]["threshold"]}


def test_balance_and_correlation_are_drawn_at_their_worst_and_on_average(run):
    found = lines_of(training_charts.balance_chart(run))
    assert len(found) == 4
    for label, key in (("|bit mean|", "bit_balance"), ("|bit correlation|", "bit_correlation")):
        for which in ("mean", "worst"):
            (values,) = [
                one for name, one in found.items()
                if name.startswith(label) and name.endswith(which)
            ]  # fmt: skip
            np.testing.assert_allclose(values, history(run, key, which))


def test_residuals_of_every_iteration_end_below_the_tolerance(run):
    axes = training_charts.residual_chart(run)
    *curves, tolerance = axes.lines
    assert len(curves) == len(run.history)
    for curve, record in zip(curves, run.history, strict=True):
        np.testing.assert_allclose(curve.get_ydata(), record["cg_residuals"])
        assert curve.get_ydata()[-1] <= record["cg_tolerance"]
    assert set(tolerance.get_ydata()) == {run.config["solver"]["tolerance"]}


def test_rebase_shows_shares_of_edges_after_the_first_and_the_last_iteration(run):
    axes = training_charts.rebase_chart(run)
    last, first = (patch.get_data() for patch in axes.patches)
    for drawn, record in ((first, run.history[0]), (last, run.history[-1])):
        counts = np.array(record["s_counts"])
        np.testing.assert_allclose(drawn.values, counts / counts.sum())
        np.testing.assert_allclose(drawn.edges, np.linspace(0, 1, len(counts) + 1))
    assert not np.allclose(first.values, last.values)
    (image,) = training_charts.rebase_history_chart(run).images
    shares = np.square(image.get_array())
    assert shares.shape == (len(last.values), len(run.history) + 1)
    np.testing.assert_allclose(shares.sum(axis=0), 1.0)
    np.testing.assert_array_equal(shares[:, 0], np.eye(len(shares))[-1])
    np.testing.assert_allclose(shares[:, -1], last.values)


def test_bits_are_those_of_the_stored_codes(run, shown):
    codes = arrays.read_rows(shown.run.codes)
    ones = np.unpackbits(codes, axis=1, bitorder="little").astype(float)
    (patch,) = training_charts.bit_means_chart(run.bits["means"]).patches
    np.testing.assert_allclose(patch.get_data().values, ones.mean(axis=0))
    image = training_charts.correlation_chart(run.bits["correlations"]).images[0]
    np.testing.assert_allclose(image.get_array(), np.corrcoef(ones.T), atol=1e-6)


def test_degrees_are_drawn_as_counted(run):
    axes = cost_charts.degree_chart(run)
    reports = run.summary["graph"]["modalities"]
    labelled = [patch for patch in axes.patches if patch.get_label()]
    assert [patch.get_label() for patch in labelled] == list(reports)
    for patch, report in zip(labelled, reports.values(), strict=True):
        values = patch.get_data().values
        assert values.sum() == run.summary["rows"]
        np.testing.assert_array_equal(values, report["degrees"][: len(values)])
        assert np.arange(len(values)) @ values == pytest.approx(
            report["mean_degree"] * run.summary["rows"]
        )


def test_curves_are_those_of_the_evaluation_and_of_the_baseline(run):
    found = lines_of(retrieval_charts.precision_recall_chart([run], "image_to_text"))
    systems = {"this run, 16 bits": run.evaluation, "CCA-ITQ, 12 bits": run.evaluation["baseline"]}
    assert list(found) == list(systems)
    for label, scores in systems.items():
        curve = scores["precision_recall"]["image_to_text"]
        known = [
            (r, p) for r, p in zip(curve["recall"], curve["precision"], strict=True) if p and r
        ]
        np.testing.assert_allclose(found[label], known)


def test_time_and_memory_are_those_of_the_summary(run):
    widths = [bar.get_width() for bar in cost_charts.stage_time_chart([run]).patches]
    np.testing.assert_allclose(widths, list(run.summary["seconds"].values()))
    memory = cost_charts.stage_memory_chart(run)
    peaks = run.summary["stage_peaks"]
    for container in memory.containers:
        found = [bar.get_width() for bar in container]
        expected = [peaks[stage].get(container.get_label(), 0) / 2**20 for stage in peaks]
        np.testing.assert_allclose(found, expected)
    steps = cost_charts.step_time_chart(run)
    assert [one.get_label() for one in steps.containers] == ["W-step", "Z-step", "S-step", "B-step"]
    total = sum(bar.get_height() for bar in steps.patches)
    assert total == pytest.approx(sum(sum(one["seconds"].values()) for one in run.history))


def test_more_runs_than_colours_all_have_their_bars(run):
    axes = cost_charts.stage_time_chart([run] * 10)
    assert len(axes.containers) == 10


def test_names_are_drawn_as_they_are():
    names = ["_hidden", "$\\frac{", "a$b$c", "<i>&amp;</i>", "日本 🦉"]

    def paint(axes):
        for name in names:
            axes.plot([0, 1], [1, 2], label=literal_label(name))

    svg = draw('A "title" <b>', "", paint, legend=1).svg
    for text in ("_hidden", "$\\frac{", "a$b$c", "&lt;i&gt;&amp;amp;&lt;/i&gt;", "日本 🦉"):
        assert f"{text}</text>" in svg
    assert "<i>" not in svg
    assert 'aria-label="A &quot;title&quot; &lt;b&gt;"' in svg


def test_colours_are_those_of_the_page():
    svg = draw("", "", lambda axes: axes.plot([0, 1], color=figures.SERIES[1]), legend=1).svg
    assert "var(--c2)" in svg
    assert not [colour for colour in figures.VARIABLES if colour in svg]
    assert "http" not in svg
