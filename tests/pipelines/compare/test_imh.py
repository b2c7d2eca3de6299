from __future__ import annotations

import numpy as np
import pytest

from pipelines.compare.baselines.graphs import neighbour_graph
from pipelines.compare.baselines.imh import InterMediaHashing, fitting_form, joint_codes
from pipelines.compare.baselines.linear_algebra import ridge_amount, ridge_regression
from tests.helpers.paired_data import random_orthonormal


@pytest.fixture
def forms(latent):
    return tuple(fitting_form(X[:60], 5, 0.3, 0.1) for X in latent.values())


def test_form_is_the_objective_at_the_best_encoder(latent):
    X = latent["image"][:60]
    F = np.random.default_rng(0).standard_normal((60, 3))
    W = ridge_regression(X, F, 0.1)
    A = neighbour_graph(X, 5).toarray()
    smooth = 0.5 * np.sum(A * np.sum((F[:, None] - F) ** 2, axis=2))
    direct = np.sum((X @ W - F) ** 2) + ridge_amount(X, 0.1) * np.sum(W**2) + 0.3 * smooth
    assert np.trace(F.T @ fitting_form(X, 5, 0.3, 0.1) @ F) == pytest.approx(direct)


def objective(forms, F_x, F_y, coupling):
    own = np.trace(F_x.T @ forms[0] @ F_x) + np.trace(F_y.T @ forms[1] @ F_y)
    return own + coupling * np.sum((F_x - F_y) ** 2)


@pytest.mark.parametrize("coupling", [0.5, 20.0])
def test_codes_reach_the_minimum_over_the_stacked_variables(forms, coupling):
    """The Schur complement of the stacked quadratic form gives the minimum in another way."""
    eye = np.eye(60)
    top, bottom = forms[0] + coupling * eye, forms[1] + coupling * eye
    schur = top - coupling**2 * np.linalg.inv(bottom)
    minimum = np.sort(np.linalg.eigvals(schur).real)[:4].sum()
    F_x, F_y = joint_codes(*forms, 4, coupling)
    np.testing.assert_allclose(F_x.T @ F_x, np.eye(4), atol=1e-10)
    assert objective(forms, F_x, F_y, coupling) == pytest.approx(minimum, rel=1e-8)


def test_no_random_codes_are_better(forms):
    rng = np.random.default_rng(2)
    F_x, F_y = joint_codes(*forms, 4, 2.0)
    best = objective(forms, F_x, F_y, 2.0)
    for _ in range(50):
        G = random_orthonormal(60, 4, rng)
        H = np.linalg.solve(forms[1] + 2.0 * np.eye(60), 2.0 * G)
        assert objective(forms, G, H, 2.0) >= best
        assert objective(forms, F_x, F_y + 0.01 * rng.standard_normal((60, 4)), 2.0) > best


def test_huge_coupling_gives_both_modalities_the_same_code(forms):
    F_x, F_y = joint_codes(*forms, 4, 1e9)
    np.testing.assert_allclose(F_x, F_y, atol=1e-6)
    values = np.linalg.eigvalsh(forms[0] + forms[1])
    assert np.trace(F_x.T @ (forms[0] + forms[1]) @ F_x) == pytest.approx(values[:4].sum())


def test_training_bits_are_balanced_by_the_medians(latent):
    model = InterMediaHashing().fit(latent, 6, 0)
    for name, X in latent.items():
        np.testing.assert_array_equal(model.encode(name, X).sum(axis=0), 0)
