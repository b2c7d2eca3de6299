"""Methods for vectors of one common space, and CSA, against scikit-learn and loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

from pipelines.compare.baselines import Csa, FloatCosine, FloatProductQuantiser, PcaItq
from pipelines.compare.baselines.itq import quantisation_error
from tests.helpers.paired_data import latent_pair


@pytest.fixture
def aligned():
    """300 rows of two modalities with 8 dimensions each."""
    pair = latent_pair(300, (8, 8), 5, seed=5)
    return {g: X - X.mean(axis=0) for g, X in pair.items()}


def test_float_cosine_is_the_cosine_of_the_features(aligned):
    model = FloatCosine().fit(aligned, 16, 0)
    found = model.distances("image", aligned["image"][:5], "text", aligned["text"])
    expected = -cosine_similarity(aligned["image"][:5], aligned["text"])
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_quantised_features_have_a_byte_per_eight_bits_and_rank_as_the_cosine(aligned):
    model = FloatProductQuantiser().fit(aligned, 32, 0)
    assert model.encode_bytes("text", aligned["text"]).shape == (300, 4)
    found = model.distances("image", aligned["image"], "text", aligned["text"])
    exact = -cosine_similarity(aligned["image"], aligned["text"])
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_pca_itq_quantises_the_leading_components_better_than_their_signs(aligned, bits):
    model = PcaItq().fit(aligned, bits, 0)
    stacked = np.vstack(list(aligned.values()))
    W = model.projections["image"]
    np.testing.assert_array_equal(W, model.projections["text"])
    components = PCA(min(bits, 8)).fit(stacked).components_
    np.testing.assert_allclose(components.T @ (components @ W), W, atol=1e-9)
    if bits <= 8:
        assert quantisation_error(stacked, W) <= quantisation_error(stacked, components.T)


@pytest.mark.parametrize("method", [FloatCosine, FloatProductQuantiser, PcaItq])
def test_modalities_of_different_width_are_refused(latent, method):
    with pytest.raises(ValueError, match="10 and 7 dimensions"):
        method().fit(latent, 16, 0)


def test_csa_weighs_the_variates_by_their_correlations(latent):
    centred = {g: X - X.mean(axis=0) for g, X in latent.items()}
    found = Csa(width=3, ridge=1e-9).fit(centred, 16, 0)
    cca = CCA(3, scale=False, max_iter=5000, tol=1e-12).fit(*centred.values())
    u, v = cca.transform(*centred.values())
    u, v = (part / part.std(axis=0) for part in (u, v))
    rho = [np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(3)]
    u, v = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (u, v))
    expected = -(u[:6] * rho) @ v.T
    distances = found.distances("image", centred["image"][:6], "text", centred["text"])
    np.testing.assert_allclose(distances, expected, atol=1e-3)
