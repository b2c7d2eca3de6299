"""CCA-ITQ from Gram matrices, against SciPy and the baseline of pipelines.compare."""

import numpy as np
import pytest
from scipy import linalg

from pipelines.compare.baselines import cca, itq
from srch_dist.kernels.cca import canonical_directions, padded_encoders, quantising_rotation
from tests.helpers import reference

N, DIMS, RIDGE = 200, (9, 6), 0.1


@pytest.fixture(scope="module")
def features():
    """Centred rows (n, d_g)."""
    found = reference.paired_features(4, N, DIMS)
    return {g: x - x.mean(axis=0) for g, x in found.items()}


@pytest.fixture(scope="module")
def grams(features):
    return {(g, h): x.T @ y for g, x in features.items() for h, y in features.items() if g <= h}


def directions_of(grams, width):
    return canonical_directions(grams, "m0", "m1", width, RIDGE)


def test_directions_solve_the_generalised_eigenproblem_of_cca(features, grams):
    """C_xy C_yy⁻¹ C_yx w = ρ² C_xx w, both C_gg with their ridges; columns scaled by ρ."""
    found = directions_of(grams, 6)
    first, second = features.values()

    def own(x):
        gram = x.T @ x
        return gram + RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))

    for (g, x), y in zip(features.items(), (second, first), strict=True):
        across = x.T @ y
        squared, vectors = linalg.eigh(across @ np.linalg.solve(own(y), across.T), own(x))
        expected = (vectors * np.sqrt(np.maximum(squared, 0)))[:, ::-1][:, :6]
        signs = np.sign(np.sum(expected * found[g], axis=0))
        np.testing.assert_allclose(found[g], expected * signs, atol=1e-9)
    agreement = np.sum((first @ found["m0"]) * (second @ found["m1"]), axis=0)
    assert (agreement > 0).all()


@pytest.mark.parametrize("width", [3, 16])
def test_directions_are_those_of_the_comparison_up_to_their_common_sign(features, grams, width):
    found = directions_of(grams, width)
    expected = cca.canonical_directions(features, width, RIDGE).scaled()
    assert found["m0"].shape == (9, min(width, 6))
    signs = np.sign(np.sum(expected["m0"] * found["m0"], axis=0))
    for g in features:
        np.testing.assert_allclose(found[g], expected[g] * signs, atol=1e-9)


def test_gram_matrices_may_have_either_order_of_the_pair(grams):
    turned = {(h, g): gram.T for (g, h), gram in grams.items()}
    for g, found in directions_of(turned, 4).items():
        np.testing.assert_allclose(found, directions_of(grams, 4)[g], atol=1e-12)


def test_rotation_is_the_one_that_the_comparison_reaches(features, grams):
    embedding = np.concatenate([features[g] @ w for g, w in directions_of(grams, 5).items()])
    start = linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    found = quantising_rotation(embedding, start, 20)
    np.testing.assert_allclose(found, itq.itq_frame(embedding, start, 20), atol=1e-10)
    np.testing.assert_allclose(found.T @ found, np.eye(5), atol=1e-12)
    before, after = (itq.quantisation_error(embedding, r) for r in (start, found))
    assert after < before


def test_bits_beyond_the_width_are_constant(features, grams):
    found = directions_of(grams, 16)
    rotation = linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    for g, encoder in padded_encoders(found, rotation, 16).items():
        scores = features[g] @ encoder.T
        np.testing.assert_allclose(scores[:, :6], features[g] @ found[g] @ rotation, atol=1e-12)
        assert scores.shape == (N, 16)
        assert not scores[:, 6:].any()
