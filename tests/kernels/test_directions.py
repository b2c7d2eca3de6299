"""Leading directions and the frame that spreads them, against NumPy's own decompositions."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.decomposition import PCA

from srch_dist.kernels.directions import ScoreSums, leading_directions, spreading_frame

N, BITS = 200, 12
WEIGHTS = {"a": 1.5, "b": 0.5}


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(N, 5)) @ rng.normal(size=(5, BITS))
    return {
        "a": common + 0.5 * rng.normal(size=(N, BITS)) + 1.0,
        "b": 3 * common + rng.normal(size=(N, BITS)),
    }


def sums_of(scores, cuts=(0, N)):
    beside = np.concatenate(list(scores.values()), axis=1)
    parts = [beside[low:high] for low, high in pairwise(cuts)]
    total, *others = [ScoreSums(part.sum(axis=0), part.T @ part) for part in parts]
    for other in others:
        total = total + other
    return total


def mixed_scores(scores):
    return sum(WEIGHTS[g] * t / np.sqrt(np.mean(t**2)) for g, t in scores.items())


@pytest.mark.parametrize("cuts", [(0, N), (0, 1, 77, N)])
def test_directions_are_the_principal_ones_of_the_mixed_scores(scores, cuts):
    found = leading_directions(sums_of(scores, cuts), N, WEIGHTS, 3)
    total = mixed_scores(scores)
    pca = PCA(3).fit(total)
    mixed = found.mixed(scores)
    np.testing.assert_allclose(mixed.mean(axis=0), 0.0, atol=1e-10)
    expected = pca.transform(total) @ pca.components_  # free of the directions' signs
    np.testing.assert_allclose(mixed @ found.basis.T, expected, atol=1e-9)
    assert found.share == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-9)


def test_directions_without_variance_are_left_out(scores):
    flat = {g: np.repeat(t[:, :2], BITS // 2, axis=1) for g, t in scores.items()}
    found = leading_directions(sums_of(flat), N, WEIGHTS, 8)
    assert found.basis.shape == (BITS, 2)
    assert found.share == pytest.approx(1.0)


def test_a_modality_without_scores_adds_nothing(scores):
    silent = {**scores, "b": np.zeros((N, BITS))}
    alone = leading_directions(sums_of(silent), N, WEIGHTS, 4)
    assert not alone.mix["b"].any()
    assert np.isfinite(alone.mixed(silent)).all()


def test_spreading_is_the_frame_after_the_mix(scores):
    found = leading_directions(sums_of(scores), N, WEIGHTS, 4)
    frame = np.random.default_rng(1).normal(size=(4, 16))
    np.testing.assert_allclose(found.spread(frame).mixed(scores), found.mixed(scores) @ frame)


@pytest.mark.parametrize("bits", [4, 16])
def test_a_frame_is_orthonormal_and_quantises_better_than_its_start(scores, bits):
    rng = np.random.default_rng(2)
    sample = leading_directions(sums_of(scores), N, WEIGHTS, 4).mixed(scores)
    start = rng.normal(size=(4, bits))
    frame = spreading_frame(sample, start)
    np.testing.assert_allclose(frame @ frame.T, np.eye(4), atol=1e-10)

    def error(r):
        return np.sum((np.where(sample @ r >= 0, 1, -1) - sample @ r) ** 2)

    left, _, right = np.linalg.svd(start, full_matrices=False)
    assert error(frame) < error(left @ right)


def test_a_frame_follows_the_span_and_not_the_basis(scores):
    """Turned directions, with the start turned alike, give the same bits."""
    rng = np.random.default_rng(3)
    sample = leading_directions(sums_of(scores), N, WEIGHTS, 4).mixed(scores)
    start = rng.normal(size=(4, 16))
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    one = sample @ spreading_frame(sample, start)
    other = (sample @ turn) @ spreading_frame(sample @ turn, turn.T @ start)
    np.testing.assert_allclose(one, other, atol=1e-8)
