from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from pipelines.compare.baselines.graphs import laplacian, neighbour_graph
from pipelines.compare.baselines.linear_algebra import (
    column_agreement,
    polar_factor,
    random_frame,
    regularised_gram,
    ridge_regression,
    unit_rows,
)
from pipelines.compare.baselines.ridge_encoder import ridge_encoder
from tests.helpers.paired_data import random_orthonormal


@pytest.mark.parametrize("shape", [(6, 3), (4, 4), (3, 7)])
def test_polar_factor_has_the_largest_trace(shape):
    rng = np.random.default_rng(0)
    M = rng.standard_normal(shape)
    best = np.sum(polar_factor(M) * M)
    assert best == pytest.approx(np.linalg.svd(M, compute_uv=False).sum())
    for _ in range(50):
        assert np.sum(random_orthonormal(*shape, rng) * M) <= best + 1e-12


def test_random_frame_keeps_inner_products():
    F = random_frame(4, 9, np.random.default_rng(1))
    np.testing.assert_allclose(F @ F.T, np.eye(4), atol=1e-12)


def test_regularised_gram_adds_a_share_of_the_mean_eigenvalue():
    X = np.random.default_rng(2).standard_normal((30, 5))
    added = np.linalg.eigvalsh(regularised_gram(X, 0.3)) - np.linalg.eigvalsh(X.T @ X)
    np.testing.assert_allclose(added, 0.3 * np.linalg.eigvalsh(X.T @ X).mean())


def test_ridge_regression_agrees_with_scikit_learn():
    rng = np.random.default_rng(3)
    X, Y = rng.standard_normal((40, 6)), rng.standard_normal((40, 3))
    alpha = 0.2 * np.trace(X.T @ X) / 6
    oracle = Ridge(alpha=alpha, fit_intercept=False).fit(X, Y).coef_.T
    np.testing.assert_allclose(ridge_regression(X, Y, 0.2), oracle, atol=1e-10)


def test_ridge_encoder_is_the_sign_of_the_ridge_prediction():
    rng = np.random.default_rng(4)
    X, B = rng.standard_normal((40, 6)), np.where(rng.random((40, 3)) < 0.5, -1, 1).astype(np.int8)
    oracle = Ridge(alpha=0.1 * np.trace(X.T @ X) / 6, fit_intercept=False).fit(X, B)
    Q = rng.standard_normal((25, 6))
    expected = np.where(oracle.predict(Q) >= 0, 1, -1)
    np.testing.assert_array_equal(ridge_encoder({"a": X}, B).encode("a", Q), expected)


def test_column_agreement_of_columns_of_equal_norm_is_their_correlation():
    rng = np.random.default_rng(7)
    U, V = (Z / np.linalg.norm(Z, axis=0) for Z in rng.standard_normal((2, 50, 3)))
    V[:, 0] += 2 * U[:, 0]
    V /= np.linalg.norm(V, axis=0)
    expected = np.maximum(np.sum(U * V, axis=0), 0)
    np.testing.assert_allclose(column_agreement(U, V), expected)
    np.testing.assert_allclose(column_agreement(U, -U), 0)


def test_unit_rows_leaves_zero_rows():
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0]])


def test_neighbour_graph_is_the_union_of_both_directions():
    X = np.random.default_rng(5).standard_normal((25, 3))
    squared = np.sum((X[:, None] - X) ** 2, axis=2) + 1e9 * np.eye(25)
    near = np.zeros((25, 25), dtype=bool)
    for i, row in enumerate(squared):
        near[i, np.argsort(row)[:4]] = True
    np.testing.assert_array_equal(neighbour_graph(X, 4).toarray() > 0, near | near.T)


def test_laplacian_form_sums_squared_differences_over_edges():
    X = np.random.default_rng(6).standard_normal((20, 3))
    A = neighbour_graph(X, 3)
    f = X[:, 0]
    edges = [(i, j) for i in range(20) for j in range(i) if A.toarray()[i, j]]
    assert f @ (laplacian(A) @ f) == pytest.approx(sum((f[i] - f[j]) ** 2 for i, j in edges))
