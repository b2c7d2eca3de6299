from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from pipelines.compare.baselines.linear_algebra import regularised_gram
from pipelines.compare.baselines.protocol import signs
from pipelines.compare.baselines.scm import (
    SemanticCorrelation,
    semantic_covariance,
    sequential_pairs,
    whitened,
)


@pytest.fixture
def labelled(latent):
    rng = np.random.default_rng(0)
    labels = (rng.random((300, 4)) < 0.4).astype(float)
    labels[labels.sum(axis=1) == 0, 0] = 1
    return latent, labels


def similarity(labels):
    """S from the cosines of the label rows, by its definition."""
    unit = labels / np.linalg.norm(labels, axis=1, keepdims=True)
    return 2 * unit @ unit.T - 1


def test_covariance_equals_the_one_with_the_full_similarity_matrix(labelled):
    features, labels = labelled
    # Shifted features test the term (Xᵀ1)(Yᵀ1)ᵀ, which is zero for centred ones.
    X, Y = features["image"] + 0.3, features["text"] - 0.2
    np.testing.assert_allclose(
        semantic_covariance(X, Y, labels), X.T @ similarity(labels) @ Y, atol=1e-8
    )


def test_orthogonal_variant_solves_the_eigenproblem_of_the_full_matrix(labelled):
    features, labels = labelled
    X, Y = features["image"], features["text"]
    cross = X.T @ similarity(labels) @ Y
    M = np.block([[np.zeros((10, 10)), cross], [cross.T, np.zeros((7, 7))]])
    C = linalg.block_diag(regularised_gram(X, 0.1), regularised_gram(Y, 0.1))
    _, vectors = linalg.eigh(M, C)
    leading = vectors[:, ::-1][:, :3]
    model = SemanticCorrelation(orthogonal=True).fit(features, 3, 0, labels)
    for name, block in (("image", leading[:10]), ("text", leading[10:])):
        agreement = np.mean(
            model.encode(name, features[name]) * signs(features[name] @ block), axis=0
        )
        np.testing.assert_allclose(np.abs(agreement), 1.0)


def test_sequential_bits_follow_the_residual_of_the_full_matrix(labelled):
    features, labels = labelled
    white, _ = whitened(features, 0.1)
    X, Y = white["image"], white["text"]
    W_x, W_y = sequential_pairs(X, Y, semantic_covariance(X, Y, labels), 6, 0)
    residual = 6 * similarity(labels)
    for t in range(6):
        U, _, Vt = np.linalg.svd(X.T @ residual @ Y)
        assert abs(U[:, 0] @ W_x[:, t]) == pytest.approx(1, abs=1e-6)
        assert abs(Vt[0] @ W_y[:, t]) == pytest.approx(1, abs=1e-6)
        residual = residual - np.outer(signs(X @ W_x[:, t]), signs(Y @ W_y[:, t]))


def test_whitened_features_have_the_regularised_scatter_of_n_identities(labelled):
    features, _ = labelled
    _, maps = whitened(features, 0.1)
    for name, X in features.items():
        scatter = maps[name].T @ regularised_gram(X, 0.1) @ maps[name]
        np.testing.assert_allclose(scatter, 300 * np.eye(X.shape[1]), atol=1e-8)


def test_labels_are_required(latent):
    with pytest.raises(ValueError, match="supervised"):
        SemanticCorrelation().fit(latent, 4, 0)
