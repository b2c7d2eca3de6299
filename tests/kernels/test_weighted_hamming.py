"""Weighted Hamming distances, against inner products and loops over bits."""

import numpy as np
import pytest

from srch_dist.kernels.packed_codes import hamming_distances, pack_codes, sign_codes
from srch_dist.kernels.weighted_hamming import (
    largest_distance,
    query_weights,
    weighted_distances,
)


def codes_of(seed, n, bits):
    return sign_codes(np.random.default_rng(seed).normal(size=(n, bits)))


@pytest.mark.parametrize("bits", [8, 64, 2048])
def test_distances_are_sums_of_the_weights_of_differing_bits(bits):
    scores = np.random.default_rng(1).normal(size=(5, bits))
    codes = codes_of(2, 20, bits)
    q = query_weights(scores)
    found = weighted_distances(q, pack_codes(codes))
    for row, weights in enumerate(q.astype(int)):
        differs = np.sign(weights) * codes < 0
        np.testing.assert_array_equal(found[row], (np.abs(weights) * differs).sum(axis=1))
    assert found.max() <= largest_distance(bits)
    assert np.abs(q.astype(int)).sum(axis=1).max() <= largest_distance(bits)


def test_rankings_are_those_of_the_inner_product():
    scores = np.random.default_rng(3).normal(size=(4, 64))
    codes = codes_of(4, 200, 64)
    found = weighted_distances(query_weights(scores), pack_codes(codes))
    exact = scores @ codes.T
    for distances, products in zip(found, exact, strict=True):
        assert np.corrcoef(distances, products)[0, 1] < -0.999


def test_scores_of_equal_size_rank_as_hamming_distances_do():
    codes, queries = codes_of(5, 30, 32), codes_of(6, 3, 32)
    found = weighted_distances(query_weights(queries * 0.7), pack_codes(codes))
    step = int(np.abs(query_weights(queries * 0.7))[0, 0])
    hamming = hamming_distances(pack_codes(queries), pack_codes(codes))
    np.testing.assert_array_equal(found, step * hamming)


def test_scores_of_zero_make_all_codes_equally_far():
    assert not weighted_distances(
        query_weights(np.zeros((2, 16))), pack_codes(codes_of(7, 9, 16))
    ).any()
