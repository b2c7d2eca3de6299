"""CCA-ITQ from Gram matrices, against SciPy and the baseline of pipelines.compare."""

import numpy as np
import pytest
from scipy import linalg

from pipelines.compare.baselines import cca, itq
from srch_dist.kernels.cca import (
    canonical_directions,
    padded_encoders,
    pair_directions,
    quantising_rotation,
)
from srch_dist.kernels.features import gram_matrices
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


WEIGHTS = {"m0": 0.6, "m1": 1.4}


def total(features, maps):
    return sum(x @ maps[g] for g, x in features.items())


def test_pair_directions_are_those_of_the_reference(features, grams):
    found = total(features, pair_directions(grams, WEIGHTS, N, 4, 1.0))
    expected = total(features, reference.pair_maps(features, WEIGHTS, 4))
    signs = np.sign(np.sum(found * expected, axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-9)


def test_pair_directions_of_three_modalities_maximise_their_correlations():
    """Eigenvectors of the generalised problem, one block per modality."""
    features = {
        g: x - x.mean(axis=0) for g, x in reference.paired_features(9, N, (6, 5, 4)).items()
    }
    weights = dict.fromkeys(features, 1.0)
    found = pair_directions(gram_matrices(features), weights, N, 3, 1.0)
    joined = np.hstack(list(features.values()))
    own = linalg.block_diag(
        *(x.T @ x + np.trace(x.T @ x) / x.shape[1] * np.eye(x.shape[1]) for x in features.values())
    )
    between = joined.T @ joined - linalg.block_diag(*(x.T @ x for x in features.values()))
    values, vectors = linalg.eigh(between, own)
    stacked = np.vstack(list(found.values()))
    expected = vectors[:, ::-1][:, :3] * values[::-1][:3]
    ratios = stacked / expected
    np.testing.assert_allclose(np.abs(ratios), np.abs(ratios[0, 0]), rtol=1e-6)
    every = total(features, pair_directions(gram_matrices(features), weights, N, 99, 1.0))
    assert np.sum(every**2) / N == pytest.approx((values[-1] / 2) ** 2)


def test_one_modality_alone_has_no_pair_directions(features):
    silent = {**features, "m1": np.zeros_like(features["m1"])}
    maps = pair_directions(gram_matrices(silent), WEIGHTS, N, 4, 1.0)
    assert {g: a.shape for g, a in maps.items()} == {"m0": (9, 0), "m1": (6, 0)}
