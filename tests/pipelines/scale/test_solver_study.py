"""The solver study on the shipped pairs, shortened: measurements and files."""

from __future__ import annotations

import json

import pytest

from pipelines.scale import solver

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("solver")
    options = solver.Options(
        folder,
        bits=16,
        iterations=2,
        tolerances=(1e-1, 1e-4),
        drops=(0.5,),
        forcings=(1.0,),
        workers=1,
    )
    record = solver.measure(options)
    solver.save(record, folder)
    return folder, record


def test_the_coarse_space_saves_iterations_and_every_start_is_cold(study):
    _, record = study
    taken = {(case["preset"], case["coarse"]): case["iterations"] for case in record["cold"]}
    for preset in ("balanced", "paper"):
        assert all(a < b for a, b in zip(*(taken[preset, c] for c in ("on", "off")), strict=True))
    for case in record["cold"]:
        for count, curve in zip(case["iterations"], case["residuals"], strict=True):
            assert curve[0] == pytest.approx(1.0)  # from zero, the residual is the right-hand side
            assert len(curve) == count + 1
            assert curve[-1] <= 1e-4


def test_other_runs_are_compared_with_the_tightest(study):
    _, record = study
    tight, no_drop = record["tolerances"][-1], record["drops"][-1]
    assert tight["changed_bits"] == no_drop["changed_bits"] == 0
    assert record["tolerances"][0]["cg_iterations"] < tight["cg_iterations"]
    assert record["drops"][0]["changed_bits"] > 0
    forced, exact = record["forcings"]
    assert exact["changed_bits"] == 0  # the default tolerance is the tightest one here
    assert forced["changed_bits"] > 0
    assert forced["cg_iterations"] < exact["cg_iterations"]


def test_results_tables_and_plot_are_written(study):
    folder, record = study
    assert json.loads((folder / "solver.json").read_text(encoding="utf-8")) == record
    text = (folder / "solver.md").read_text(encoding="utf-8")
    assert text.count("| balanced |") == text.count("| paper |") == 2
    kept = json.loads((folder / "residuals.json").read_text(encoding="utf-8"))
    for case, whole in zip(kept["cold"], record["cold"], strict=True):
        assert case["iterations"] == whole["iterations"]
        for name, curve in (("first", whole["residuals"][0]), ("last", whole["residuals"][-1])):
            assert case[name] == pytest.approx(curve, rel=1e-3)
    for scheme in ("light", "dark"):
        assert "<svg" in (folder / f"convergence-{scheme}.svg").read_text(encoding="utf-8")
