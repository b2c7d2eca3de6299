from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from pipelines.compare.baselines.cca import CcaSign
from pipelines.compare.baselines.cvh import CrossViewHashing, eigenproblem, similarity_matrix


def test_codes_without_neighbour_weight_equal_those_of_cca(latent):
    ours = CrossViewHashing(weight=0.0).fit(latent, 6, 0)
    cca = CcaSign().fit(latent, 6, 0)
    for name, X in latent.items():
        agreement = np.abs(np.mean(ours.encode(name, X) * cca.encode(name, X), axis=0))
        np.testing.assert_array_equal(agreement, 1.0)


def test_similarities_are_symmetric_and_include_the_pairing(latent):
    W = similarity_matrix(latent, 6, 0.4).toarray()
    np.testing.assert_allclose(W, W.T)
    np.testing.assert_allclose(np.diag(W), 0.6)
    np.testing.assert_allclose(np.unique(W[~np.eye(300, dtype=bool)]), [0, 0.4 / 12, 0.4 / 6])


def test_matrix_is_the_weighted_sum_of_squared_code_differences(latent):
    rng = np.random.default_rng(0)
    small = {name: X[:30] for name, X in latent.items()}
    W = similarity_matrix(small, 5, 0.5)
    M, _ = eigenproblem(small["image"], small["text"], W, ridge=0.0)
    a = rng.standard_normal(17)
    u, v = small["image"] @ a[:10], small["text"] @ a[10:]
    total = sum(
        W.toarray()[i, j] * ((u[i] - u[j]) ** 2 + (v[i] - v[j]) ** 2 + (u[i] - v[j]) ** 2)
        for i in range(30)
        for j in range(30)
    )
    assert a @ M @ a == pytest.approx(total)


def test_directions_solve_the_generalised_eigenproblem(latent):
    model = CrossViewHashing(weight=0.5).fit(latent, 5, 0)
    A = np.vstack([model.projections["image"], model.projections["text"]])
    W = similarity_matrix(latent, 10, 0.5)
    M, C = eigenproblem(latent["image"], latent["text"], W, 0.1)
    values = np.sort(linalg.eig(M, C)[0].real)
    np.testing.assert_allclose(A.T @ C @ A, np.eye(5), atol=1e-9)
    np.testing.assert_allclose(np.diag(A.T @ M @ A), values[:5], rtol=1e-8)
