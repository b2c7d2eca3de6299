"""Principal directions and the ITQ frame, against scikit-learn and NumPy."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.decomposition import PCA

from srch_dist.kernels.pca_itq import (
    ScoreSums,
    leading_directions,
    prefix_order,
    spreading_frame,
)

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


@pytest.fixture
def codes(scores):
    other = np.random.default_rng(4).normal(size=(N, BITS))
    return np.where(scores["a"] + other >= 0.7, 1.0, -1.0)


@pytest.fixture
def pairs():
    return np.random.default_rng(5).normal(size=(N, 7)) * np.arange(7, 0, -1) + 0.3


NO_PAIRS = np.zeros((N, 0))


def class_directions(scores, codes, count, cuts=(0, N)):
    """The directions without pair directions."""
    return leading_directions(sums_of(scores, codes, NO_PAIRS, cuts), N, WEIGHTS, BITS, 0.0, count)


def sums_of(scores, codes, pairs, cuts=(0, N)):
    beside = np.concatenate([*scores.values(), codes, pairs], axis=1)
    parts = [beside[low:high] for low, high in pairwise(cuts)]
    total, *others = [ScoreSums(part.sum(axis=0), part.T @ part) for part in parts]
    for other in others:
        total = total + other
    return total


def equal_parts(scores, codes):
    mixed_scores = sum(WEIGHTS[g] * t / np.sqrt(np.mean(t**2)) for g, t in scores.items())
    centred = [values - values.mean(axis=0) for values in (mixed_scores, codes)]
    total = sum(values / np.linalg.norm(values) for values in centred)
    return total / np.linalg.norm(total)


@pytest.mark.parametrize("cuts", [(0, N), (0, 1, 77, N)])
def test_directions_are_the_principal_ones_of_scores_and_codes(scores, codes, cuts):
    found = class_directions(scores, codes, 3, cuts)
    total = equal_parts(scores, codes) * np.sqrt(N)
    pca = PCA(3).fit(total)
    mixed = found.mixed(scores, codes, NO_PAIRS)
    np.testing.assert_allclose(mixed.mean(axis=0), 0.0, atol=1e-10)
    expected = pca.transform(total) @ pca.components_  # free of the directions' signs
    np.testing.assert_allclose(mixed @ found.basis.T, expected, atol=1e-9)
    assert found.share == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-9)


@pytest.mark.parametrize("pair", [0.3, 1.0])
def test_class_and_pair_directions_are_weighed(scores, codes, pairs, pair):
    found = leading_directions(sums_of(scores, codes, pairs), N, WEIGHTS, BITS, pair, 6)
    class_part = (1 - pair) * equal_parts(scores, codes) * np.sqrt(N)
    total = np.hstack([class_part, pair * (pairs - pairs.mean(axis=0))])
    pca = PCA(6).fit(total)
    mixed = found.mixed(scores, codes, pairs)
    np.testing.assert_allclose(
        mixed @ found.basis.T, pca.transform(total) @ pca.components_, atol=1e-9
    )
    assert found.share == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-9)
    frame = np.random.default_rng(6).normal(size=(6, 16))
    np.testing.assert_allclose(found.spread(frame).mixed(scores, codes, pairs), mixed @ frame)


def explained(codes, values):
    """Variance of ``values`` that a regression on the codes explains."""
    codes, values = codes - codes.mean(axis=0), values - values.mean(axis=0)
    return np.sum((codes @ np.linalg.lstsq(codes, values, rcond=None)[0]) ** 2)


def test_each_next_bit_explains_most_beside_those_before():
    rng = np.random.default_rng(8)
    values = rng.normal(size=(N, 5)) * [5, 4, 3, 2, 1]
    codes = np.where(values @ rng.normal(size=(5, 12)) >= 0, 1.0, -1.0)
    codes[:, 7] = codes[:, 2]  # says nothing new
    codes[:, 4] = 1.0  # nor does a constant
    order = prefix_order(codes, values)
    assert sorted(order) == list(range(12))
    assert set(order[-2:]) <= {2, 4, 7}
    for length in range(1, 10):
        chosen, others = order[:length], order[length:10]
        gains = [explained(codes[:, [*chosen[:-1], j]], values) for j in others]
        assert explained(codes[:, chosen], values) >= max(gains) - 1e-9


def test_directions_without_variance_are_left_out(scores):
    flat = {g: np.repeat(t[:, :2], BITS // 2, axis=1) for g, t in scores.items()}
    codes = np.where(flat["a"] >= 1.0, 1.0, -1.0)
    found = class_directions(flat, codes, 8)
    assert found.basis.shape == (BITS, 2)
    assert found.share == pytest.approx(1.0)


def test_a_modality_without_scores_adds_nothing(scores, codes):
    silent = {**scores, "b": np.zeros((N, BITS))}
    alone = class_directions(silent, codes, 4)
    assert not alone.mix["b"].any()
    assert np.isfinite(alone.mixed(silent, codes, NO_PAIRS)).all()


def test_codes_that_never_change_add_nothing(scores):
    codes = np.ones((N, BITS))
    found = class_directions(scores, codes, 4)
    assert not found.mix_codes.any()
    assert found.basis.shape == (BITS, 4)


def test_constant_scores_give_no_directions(scores, codes):
    constant = {g: np.broadcast_to(t[0], t.shape) for g, t in scores.items()}
    assert class_directions(constant, codes, 4).basis.shape == (BITS, 0)


def test_spreading_is_the_frame_after_the_mix(scores, codes):
    found = class_directions(scores, codes, 4)
    frame = np.random.default_rng(1).normal(size=(4, 16))
    spread = found.spread(frame).mixed(scores, codes, NO_PAIRS)
    np.testing.assert_allclose(spread, found.mixed(scores, codes, NO_PAIRS) @ frame)


@pytest.mark.parametrize("bits", [4, 16])
def test_a_frame_is_orthonormal_and_quantises_better_than_its_start(scores, codes, bits):
    rng = np.random.default_rng(2)
    sample = class_directions(scores, codes, 4).mixed(scores, codes, NO_PAIRS)
    start = rng.normal(size=(4, bits))
    frame = spreading_frame(sample, start)
    np.testing.assert_allclose(frame @ frame.T, np.eye(4), atol=1e-10)

    def error(r):
        return np.sum((np.where(sample @ r >= 0, 1, -1) - sample @ r) ** 2)

    left, _, right = np.linalg.svd(start, full_matrices=False)
    assert error(frame) < error(left @ right)


def test_a_frame_follows_the_span_and_not_the_basis(scores, codes):
    """Rotated directions, with the start rotated too, give the same bits."""
    rng = np.random.default_rng(3)
    sample = class_directions(scores, codes, 4).mixed(scores, codes, NO_PAIRS)
    start = rng.normal(size=(4, 16))
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    one = sample @ spreading_frame(sample, start)
    other = (sample @ turn) @ spreading_frame(sample @ turn, turn.T @ start)
    np.testing.assert_allclose(one, other, atol=1e-8)
