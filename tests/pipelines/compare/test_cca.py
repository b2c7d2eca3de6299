from __future__ import annotations

import numpy as np
from scipy import linalg
from sklearn.cross_decomposition import CCA

from pipelines.compare.baselines.cca import CcaSign, CosineModel, FloatCca, canonical_directions
from pipelines.compare.baselines.linear_algebra import regularised_gram


def aligned(A, B):
    """Absolute correlation of every column of A with the same column of B."""
    return np.abs([np.corrcoef(a, b)[0, 1] for a, b in zip(A.T, B.T, strict=True)])


def test_variates_agree_with_scikit_learn(latent):
    ours = canonical_directions(latent, 3, ridge=1e-10)
    oracle = CCA(n_components=3, scale=False, max_iter=5000, tol=1e-12)
    U, V = oracle.fit_transform(latent["image"], latent["text"])
    assert aligned(latent["image"] @ ours.directions["image"], U).min() > 0.9999
    assert aligned(latent["text"] @ ours.directions["text"], V).min() > 0.9999


def test_correlations_agree_with_the_generalised_eigenproblem(latent):
    X, Y = latent["image"], latent["text"]
    M = np.block([[np.zeros((10, 10)), X.T @ Y], [Y.T @ X, np.zeros((7, 7))]])
    C = linalg.block_diag(regularised_gram(X, 0.1), regularised_gram(Y, 0.1))
    values = np.sort(linalg.eig(M, C)[0].real)[::-1]
    np.testing.assert_allclose(canonical_directions(latent, 7, 0.1).correlations, values[:7])


def test_directions_are_orthonormal_and_paired_in_the_regularised_scatter(latent):
    cca = canonical_directions(latent, 6, 0.1)
    W_x, W_y = cca.directions["image"], cca.directions["text"]
    gram = regularised_gram(latent["image"], 0.1)
    np.testing.assert_allclose(W_x.T @ gram @ W_x, np.eye(6), atol=1e-10)
    cross = W_x.T @ latent["image"].T @ latent["text"] @ W_y
    np.testing.assert_allclose(cross, np.diag(cca.correlations), atol=1e-10)


def test_width_is_limited_by_the_narrower_modality(latent):
    assert canonical_directions(latent, 50, 0.1).correlations.shape == (7,)


def test_longer_sign_codes_keep_the_order_of_the_scaled_embedding(latent):
    """A random frame gives random-hyperplane codes: the Hamming distance follows the angle."""
    model = CcaSign().fit(latent, 4096, 0)
    embedding = CosineModel(dict(canonical_directions(latent, 7, 0.1).scaled()))
    X, Y = latent["image"][:40], latent["text"][:40]
    codes = model.encode("image", X).astype(float) @ model.encode("text", Y).T
    angles = np.arccos(np.clip(-embedding.distances("image", X, "text", Y), -1, 1))
    hamming = (1 - codes / 4096) / 2
    assert np.corrcoef(hamming.ravel(), angles.ravel())[0, 1] > 0.995


def test_float_cca_scales_by_the_correlations(latent):
    model = FloatCca(width=4).fit(latent, 16, 0)
    cca = canonical_directions(latent, 4, 0.1)
    X = latent["image"][:6] @ cca.directions["image"] * cca.correlations
    Y = latent["text"][:5] @ cca.directions["text"] * cca.correlations
    cosine = X @ Y.T / np.outer(np.linalg.norm(X, axis=1), np.linalg.norm(Y, axis=1))
    distances = model.distances("image", latent["image"][:6], "text", latent["text"][:5])
    np.testing.assert_allclose(distances, -cosine, atol=1e-12)
