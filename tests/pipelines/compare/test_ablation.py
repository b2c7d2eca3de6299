"""The ablation: closed forms without a loss term, and tables that pair runs by seed."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from pipelines.compare import ablation
from pipelines.compare.ablation import Options, run_all, run_key, sweep_values, variants
from pipelines.compare.ablation_report import markdown
from srch_dist.config.options import MethodConfig
from srch_dist.kernels.projections import procrustes
from tests.helpers.paired_data import random_orthonormal

pytestmark = pytest.mark.slow


def quantisation(W, X, B):
    """First term of Eq. 3 with rows as samples: ‖B - X Wᵀ‖²."""
    return np.sum((B - X @ W.T) ** 2)


def reconstruction(W, X, B):
    """Second term of Eq. 3: ‖X - B W‖²."""
    return np.sum((X - B @ W) ** 2)


def make_pair(n, d, bits, seed, white=False):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * np.linspace(0.3, 2.0, d)
    if white:
        X = np.linalg.qr(X)[0] * np.sqrt(n)
    return X, rng.integers(0, 2, (n, bits)) * 2.0 - 1.0


def alternatives(W, count=200):
    """Matrices with orthonormal rows: random ones, and small rotations of W."""
    rng = np.random.default_rng(9)
    bits, d = W.shape
    for _ in range(count):
        yield random_orthonormal(bits, d, rng)
        skew = rng.normal(size=(d, d)) * 1e-2
        turn = np.linalg.qr(np.eye(d) + skew - skew.T)[0]
        yield W @ (turn * np.sign(np.diag(turn)))


@pytest.mark.parametrize(("d", "bits"), [(3, 3), (5, 3), (4, 1)])
@pytest.mark.parametrize("loss", [quantisation, reconstruction])
def test_the_best_code_of_either_loss_is_the_sign_of_the_projection(d, bits, loss):
    """B-step for l ≤ d, by brute force over all codes of each row."""
    X, _ = make_pair(20, d, bits, seed=d)
    W = random_orthonormal(bits, d, np.random.default_rng(1))
    codes = np.array(list(product((-1.0, 1.0), repeat=bits)))
    best = [codes[np.argmin([loss(W, x[None], b[None]) for b in codes])] for x in X]
    np.testing.assert_array_equal(best, np.where(X @ W.T >= 0, 1, -1))


@pytest.mark.parametrize(("d", "bits"), [(3, 3), (6, 3), (5, 4)])
def test_the_procrustes_projection_minimises_the_reconstruction_loss(d, bits):
    """W-step without quantisation loss, for l ≤ d and any features."""
    X, B = make_pair(40, d, bits, seed=d)
    W = procrustes(X.T @ B)
    assert all(reconstruction(V, X, B) >= reconstruction(W, X, B) for V in alternatives(W))


@pytest.mark.parametrize(("d", "bits", "white"), [(3, 3, False), (6, 3, True), (5, 4, True)])
def test_the_procrustes_projection_minimises_the_quantisation_loss_if_its_norm_is_constant(
    d, bits, white
):
    """W-step without reconstruction loss: ‖W X‖² is constant for l = d or white features."""
    X, B = make_pair(40, d, bits, seed=d, white=white)
    W = procrustes(X.T @ B)
    assert all(quantisation(V, X, B) >= quantisation(W, X, B) - 1e-9 for V in alternatives(W))


def test_both_losses_reduce_to_the_same_trace():
    """Eq. 10 keeps 2 tr(W X B') of either loss and treats the rest as constant."""
    X, B = make_pair(40, 6, 3, seed=0)
    W = procrustes(X.T @ B)
    for V in alternatives(W):
        trace = 2 * (np.sum(W * (B.T @ X)) - np.sum(V * (B.T @ X)))
        assert trace >= 0
        assert reconstruction(V, X, B) - reconstruction(W, X, B) == pytest.approx(trace)
        energies = np.sum((X @ V.T) ** 2) - np.sum((X @ W.T) ** 2)
        assert quantisation(V, X, B) - quantisation(W, X, B) == pytest.approx(trace + energies)


def test_for_fewer_bits_than_dimensions_the_exact_quantisation_step_differs():
    """The table uses closed forms because Eq. 10 drops ‖W X‖², which does change the loss."""
    X, B = make_pair(40, 6, 3, seed=0)
    W = procrustes(X.T @ B)
    assert any(quantisation(V, X, B) < quantisation(W, X, B) for V in alternatives(W))


def test_half_the_projections_equal_the_paper_preset_with_doubled_weights():
    """sign(βZ + ΣWX) equals sign(2βZ + 2ΣWX), and Z and S do not change."""
    halved = ablation.COMPONENTS["paper"]["without QL = without RL"]["method"]
    assert halved == {"alpha": 2e-4, "beta": 2e-3, "lam": 20.0}


def test_codes_without_similarity_loss_are_signs_of_the_projections(task, engine):
    values = ablation.COMPONENTS["paper"]["without SL"]
    run = engine.train(task, {**values, "preset": "paper", "bits": 8})
    B = run.codes
    for _ in range(3):
        W = {g: procrustes(X.T @ B) for g, X in task.train.items()}
        B = np.where(sum(X @ W[g].T for g, X in task.train.items()) >= 0, 1, -1)
    assert np.mean(run.codes == B) > 0.98


def test_explicit_defaults_are_not_run_again():
    lam = MethodConfig().lam
    assert run_key("balanced", sweep_values("lam", lam)) == run_key("balanced", {})
    keys = [run_key(*variant) for variant in variants(Options([], "out"))]
    assert len(set(keys)) == len(keys)


def test_every_variant_differs_from_the_preset():
    for preset, rows in ablation.COMPONENTS.items():
        keys = [run_key(preset, values) for values in rows.values()]
        assert len(set(keys)) == len(rows) == 3
    pairs = [[run_key("balanced", v) for v in pair] for pair in ablation.ON_OFF.values()]
    assert all(on != off for on, off in pairs)
    full = run_key("balanced", {})
    assert all(full in pair for pair in pairs)
    assert len({key for pair in pairs for key in pair}) == len(pairs) + 1


def test_gains_are_paired_by_seed_and_averaged_over_sets():
    scores = {("a", "full"): [0.5, 0.7], ("a", "off"): [0.4, 0.5]}
    scores |= {("b", "full"): [0.2, 0.2], ("b", "off"): [0.3, 0.1]}
    records = [
        {"set": name, "bits": 8, "seed": seed, "key": key, "map": [v, v], "unseen": [v, v]}
        for (name, key), values in scores.items()
        for seed, v in enumerate(values)
    ]
    text = markdown(records, {}, {"option": ("full", "off")})
    assert "| option | 8 | +0.1500 ± 0.0707 | +0.0000 ± 0.1414 | +0.0750 ± 0.1061 |" in text


def test_refused_runs_do_not_count_and_are_listed():
    good = {"set": "a", "bits": 8, "key": "full", "map": [0.5, 0.5], "unseen": [0.5, 0.5]}
    bad = {"set": "a", "bits": 8, "key": "off", "preset": "balanced", "values": {}}
    records = [good | {"seed": 0}, bad | {"seed": 0, "error": "the codes collapsed"}]
    text = markdown(records, {}, {"option": ("full", "off")})
    assert "| option | 8 | refused | refused |" in text
    assert "- a, 8 bits, seed 0, balanced {}: the codes collapsed" in text


def test_the_command_writes_tables_and_plots(source, in_process, tmp_path, monkeypatch):
    sweeps = {"balanced": {"lam": (1.0, 10.0), "k": (5, 10)}}
    monkeypatch.setattr(ablation, "SWEEPS", sweeps)
    monkeypatch.setattr(ablation, "ON_OFF", {"graph": ({}, {"method": {"omega": 0.0}})})
    options = Options([source], tmp_path, [8], 1, presets=["balanced"], scheduler=in_process)
    records = run_all(options)
    assert len(records) == len(variants(options)) == 5
    text = (tmp_path / "ablation.md").read_text("utf-8")
    by_key = {r["key"]: np.mean(r["map"]) for r in records}
    gain = by_key[run_key("balanced", {})] - by_key[run_key("balanced", {"method": {"omega": 0.0}})]
    assert f"| graph | 8 | {gain:+.4f} | {gain:+.4f} |" in text
    assert (tmp_path / "figure5-balanced-8.png").read_bytes().startswith(b"\x89PNG")
