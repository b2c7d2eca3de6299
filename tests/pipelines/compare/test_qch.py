from __future__ import annotations

import numpy as np
import pytest

from pipelines.compare.baselines.linear_algebra import regularised_gram
from pipelines.compare.baselines.protocol import signs
from pipelines.compare.baselines.qch import (
    QuantisedCorrelation,
    objective,
    start,
    update_projection,
    whitening,
)
from tests.helpers.paired_data import random_orthonormal


@pytest.fixture
def white(latent):
    return tuple(X @ whitening(X, 0.1) for X in latent.values())


def test_whitening_gives_the_regularised_scatter_of_n_identities(latent):
    X = latent["image"]
    T = whitening(X, 0.1)
    np.testing.assert_allclose(T.T @ regularised_gram(X, 0.1) @ T, 300 * np.eye(10), atol=1e-8)


@pytest.mark.parametrize("bits", [4, 8, 15])
def test_objective_never_rises(white, bits):
    """8 bits are between the dimensions of the modalities, 15 above both."""
    X, Y = white
    P_x, P_y = start(white, bits, 0)
    codes = (signs(X @ P_x), signs(Y @ P_y))
    values = [objective(white, (P_x, P_y), codes, 0.7)]
    for _ in range(10):
        P_x = update_projection(X, Y, P_y, codes[0], 0.7)
        values.append(objective(white, (P_x, P_y), codes, 0.7))
        codes = (signs(X @ P_x), codes[1])
        values.append(objective(white, (P_x, P_y), codes, 0.7))
        P_y = update_projection(Y, X, P_x, codes[1], 0.7)
        values.append(objective(white, (P_x, P_y), codes, 0.7))
        codes = (codes[0], signs(Y @ P_y))
        values.append(objective(white, (P_x, P_y), codes, 0.7))
    assert np.all(np.diff(values) <= 1e-6)
    assert values[-1] < values[0]


@pytest.mark.parametrize("bits", [4, 15])
def test_projection_is_optimal_under_its_constraint(white, bits):
    rng = np.random.default_rng(0)
    X, Y = white
    P_x, P_y = start(white, bits, 0)
    codes = (signs(X @ P_x), signs(Y @ P_y))
    P = update_projection(X, Y, P_y, codes[0], 0.7)
    narrow = P.T @ P if bits <= 10 else P @ P.T
    np.testing.assert_allclose(narrow, np.eye(min(bits, 10)), atol=1e-10)
    best = objective(white, (P, P_y), codes, 0.7)
    for _ in range(100):
        other = random_orthonormal(10, bits, rng)
        assert objective(white, (other, P_y), codes, 0.7) >= best


def test_linear_objective_differs_from_the_squared_errors_by_a_constant(latent):
    """Squared errors with ridge terms, at random projections that satisfy the constraint."""
    rng = np.random.default_rng(1)
    X, Y = latent.values()
    maps = [whitening(Z, 0.1) for Z in (X, Y)]
    penalty = [0.1 * np.sum(Z**2) / Z.shape[1] for Z in (X, Y)]
    gaps = []
    for _ in range(4):
        P = [random_orthonormal(d, 4, rng) for d in (10, 7)]
        W = [T @ p for T, p in zip(maps, P, strict=True)]
        norms = [g * np.sum(w**2) for g, w in zip(penalty, W, strict=True)]
        B = (signs(rng.standard_normal((300, 4))), signs(rng.standard_normal((300, 4))))
        full = np.sum((X @ W[0] - Y @ W[1]) ** 2) + sum(norms)
        full += 0.7 * (np.sum((B[0] - X @ W[0]) ** 2) + np.sum((B[1] - Y @ W[1]) ** 2) + sum(norms))
        gaps.append(full - objective((X @ maps[0], Y @ maps[1]), tuple(P), B, 0.7))
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-9)


def test_without_quantisation_the_projections_span_those_of_cca(latent):
    """ν = 0 maximises the correlation under the constraint: the leading singular pairs."""
    model = QuantisedCorrelation(weight=0.0).fit(latent, 3, 0)
    white = [X @ whitening(X, 0.1) for X in latent.values()]
    values = np.linalg.svd(white[0].T @ white[1], compute_uv=False)
    x, y = (X @ model.projections[g] for g, X in latent.items())
    assert np.sum(x * y) == pytest.approx(values[:3].sum(), rel=1e-9)
