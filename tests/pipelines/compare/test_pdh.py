from __future__ import annotations

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from pipelines.compare.baselines.pdh import (
    PredictableDualView,
    linear_svms,
    svm_objective,
    uncorrelated_bits,
)
from pipelines.compare.baselines.protocol import signs


@pytest.mark.parametrize("C", [0.05, 1.0, 20.0])
def test_hyperplanes_agree_with_scikit_learn(latent, C):
    rng = np.random.default_rng(0)
    X = latent["image"]
    Y = signs(X @ rng.standard_normal((10, 4)) + rng.standard_normal((300, 4)))
    W = linear_svms(X, Y, C, tolerance=1e-8, iterations=20000)
    oracle = LinearSVC(C=C, loss="squared_hinge", dual=False, fit_intercept=False, tol=1e-10)
    for b in range(4):
        expected = oracle.fit(X, Y[:, b]).coef_[0]
        np.testing.assert_allclose(W[:, b], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_default_tolerance_is_close_to_the_minimum(clusters):
    features, _ = clusters
    X = features["image"]
    Y = signs(np.random.default_rng(1).standard_normal((160, 6)))
    exact = linear_svms(X, Y, 1.0, tolerance=1e-10, iterations=50000)
    gap = svm_objective(X, Y, linear_svms(X, Y, 1.0), 1.0) / svm_objective(X, Y, exact, 1.0)
    assert gap.max() < 1.001


def test_svm_objective_is_separate_for_each_column(latent):
    rng = np.random.default_rng(2)
    X, W = latent["image"], rng.standard_normal((10, 2))
    Y = signs(rng.standard_normal((300, 2)))
    second = 0.5 * W[:, 1] @ W[:, 1]
    for x, y in zip(X, Y[:, 1], strict=True):
        second += 0.7 * max(0.0, 1.0 - y * (x @ W[:, 1])) ** 2
    assert svm_objective(X, Y, W, 0.7)[1] == pytest.approx(second)


def test_bits_are_decorrelated():
    rng = np.random.default_rng(3)
    common = rng.standard_normal((500, 1))
    margins = common + 0.4 * rng.standard_normal((500, 6))

    def correlation(B):
        return np.abs(B.T.astype(float) @ B / 500 - np.eye(6)).sum()

    assert correlation(uncorrelated_bits(margins)) < 0.5 * correlation(signs(margins))


def test_views_learn_to_predict_each_other(latent):
    """On held-out rows, more than 80 % of the bits of both views agree."""
    train = {name: X[:200] for name, X in latent.items()}
    model = PredictableDualView(C=0.1, decorrelate=False).fit(train, 6, 0)
    x, y = (model.encode(name, X[200:]) for name, X in latent.items())
    assert np.mean(x == y) > 0.8
