import dataclasses

import numpy as np
import pytest

from srch_dist.kernels.code_statistics import (
    bit_correlations,
    code_moments,
    correlation_summary,
    effective_bits,
)
from srch_dist.kernels.code_update import CodeRule, code_scores, update_codes
from srch_dist.kernels.features import TILE_ROWS
from srch_dist.kernels.packed_codes import pack_codes, unpack_codes
from tests.helpers import reference

N, BITS = 50, 8


@pytest.fixture(scope="module")
def parts():
    """Features, projections, Z, the mean of Z and the previous codes."""
    rng = np.random.default_rng(0)
    features = reference.paired_features(0, N, (12, 5))
    projections = {g: rng.normal(size=(BITS, x.shape[1])) for g, x in features.items()}
    z = rng.normal(size=(N, BITS)).astype(np.float32)
    before = pack_codes(rng.choice(np.array([-1, 1], dtype=np.int8), (N, BITS)))
    return features, CodeRule(projections, rng.normal(size=BITS), 0.8), z, before


def expected_scores(features, rule, z):
    projected = sum(x @ rule.projections[g].T for g, x in features.items())
    return rule.z_scale * (z.astype(np.float64) - rule.z_mean) + projected


def test_scores_add_the_centred_embedding_and_the_projections(parts):
    features, rule, z, _ = parts
    np.testing.assert_allclose(
        code_scores(rule, features, z), expected_scores(features, rule, z), rtol=1e-12
    )


def test_float32_features_give_float32_scores_within_rounding(parts):
    features, rule, z, _ = parts
    single = {g: x.astype(np.float32) for g, x in features.items()}
    result = code_scores(rule, single, z)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected_scores(features, rule, z), rtol=1e-4, atol=1e-4)


def test_new_codes_are_the_signs_of_the_scores(parts):
    features, rule, z, before = parts
    codes, _ = update_codes(rule, features, z, before)
    expected = reference.sign(expected_scores(features, rule, z))
    np.testing.assert_array_equal(unpack_codes(codes), expected)


def test_a_score_of_zero_gives_plus_one(parts):
    features, _, z, before = parts
    rule = CodeRule({g: np.zeros((BITS, x.shape[1])) for g, x in features.items()}, np.zeros(8), 0)
    np.testing.assert_array_equal(unpack_codes(update_codes(rule, features, z, before)[0]), 1)


def test_sums_equal_products_over_all_rows(parts):
    features, rule, z, before = parts
    codes, sums = update_codes(rule, features, z, before)
    b = unpack_codes(codes).astype(np.float64)
    for g, x in features.items():
        np.testing.assert_allclose(sums.cross_covariance[g], x.T @ b, rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(sums.code_gram, b.T @ b)
    np.testing.assert_array_equal(sums.bit_sums, b.sum(axis=0))
    assert sums.changed == np.sum(b != unpack_codes(before))
    assert sums.embedding_error == pytest.approx(np.sum((z - b) ** 2), rel=1e-6)


def test_sums_of_two_parts_add_up_to_those_of_the_whole(parts):
    features, rule, z, before = parts

    def of(rows):
        block = {g: x[rows] for g, x in features.items()}
        return update_codes(rule, block, z[rows], before[rows])[1]

    both, whole = of(slice(0, 17)) + of(slice(17, N)), of(slice(0, N))
    for g in features:
        np.testing.assert_allclose(
            both.cross_covariance[g], whole.cross_covariance[g], rtol=1e-11, atol=1e-11
        )
    np.testing.assert_array_equal(both.code_gram, whole.code_gram)
    np.testing.assert_array_equal(both.bit_sums, whole.bit_sums)
    assert both.changed == whole.changed
    assert both.embedding_error == pytest.approx(whole.embedding_error, rel=1e-12)


def test_rotation_turns_the_scores(parts):
    features, rule, z, _ = parts
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(BITS, BITS)))
    turned = dataclasses.replace(rule, rotation=turn)
    expected = expected_scores(features, rule, z) @ turn
    np.testing.assert_allclose(code_scores(turned, features, z), expected, rtol=1e-10, atol=1e-12)


def worth(codes):
    b = codes.astype(np.float64)
    return effective_bits(b.T @ b, b.sum(axis=0), len(b))


def test_independent_balanced_bits_are_all_worth_one():
    codes = np.random.default_rng(0).choice([-1, 1], (20_000, BITS))
    assert worth(codes) == pytest.approx(BITS, rel=0.01)


def test_copies_of_one_bit_are_worth_one_and_constant_bits_nothing():
    bit = np.random.default_rng(1).choice([-1, 1], (20_000, 1))
    assert worth(np.repeat(bit, BITS, axis=1)) == pytest.approx(1.0, rel=0.01)
    assert worth(np.ones((50, BITS))) == 0.0
    assert worth(np.hstack([bit, np.ones((20_000, BITS - 1))])) < 0.2


@pytest.fixture(scope="module")
def dependent():
    """±1 codes (n, 16) with biased and correlated bits; the last is constant. n exceeds a tile."""
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(TILE_ROWS + 700, 16)) @ rng.normal(size=(16, 16)) + 0.8
    scores[:, -1] = 1.0
    return np.where(scores >= 0, 1, -1).astype(np.int8)


def test_moments_of_packed_codes_are_those_of_the_codes(dependent):
    found = code_moments(pack_codes(dependent)) + code_moments(pack_codes(dependent[:9]))
    b = np.concatenate([dependent, dependent[:9]]).astype(np.float64)
    np.testing.assert_array_equal(found.code_gram, b.T @ b)
    np.testing.assert_array_equal(found.bit_sums, b.sum(axis=0))


def test_correlations_are_those_of_numpy_and_zero_with_a_constant_bit(dependent):
    moments = code_moments(pack_codes(dependent))
    found = bit_correlations(moments.code_gram, moments.bit_sums, len(dependent))
    expected = np.corrcoef(dependent[:, :-1].T.astype(np.float64))
    np.testing.assert_allclose(found[:-1, :-1], expected, atol=1e-12)
    assert not found[-1].any()
    assert not found[:, -1].any()
    summary = correlation_summary(moments.code_gram, moments.bit_sums, len(dependent))
    apart = np.abs(expected[np.triu_indices(15, 1)])
    assert summary["worst"] == pytest.approx(apart.max())
    assert summary["mean"] == pytest.approx(2 * apart.sum() / (16 * 15))
