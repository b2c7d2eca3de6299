import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srch_dist.kernels.features import (
    add_sums,
    column_sums,
    gram_matrices,
    invalid_rows,
    normalise,
    product_sum,
)

DOUBLE = np.dtype(np.float64)


@pytest.fixture(scope="module")
def block():
    return np.random.default_rng(0).normal(size=(50, 7)) + 3.0


def test_invalid_rows_are_those_with_nan_or_inf(block):
    damaged = block.copy()
    damaged[[4, 9, 30], [0, 6, 3]] = [np.nan, np.inf, -np.inf]
    np.testing.assert_array_equal(invalid_rows(damaged), [4, 9, 30])
    assert len(invalid_rows(block)) == 0
    assert len(invalid_rows(np.ones((3, 2), dtype=np.int16))) == 0


def test_values_whose_square_overflows_are_invalid():
    block = np.array([[1e149, -1e149], [1.0, -1e150], [1e160, 0.0]])
    np.testing.assert_array_equal(invalid_rows(block), [1, 2])
    assert len(invalid_rows(np.full((1, 2), np.finfo(np.float32).max, np.float32))) == 0


def test_column_sums_of_float16_are_taken_in_float64():
    values = np.full((5000, 2), 100.0, dtype=np.float16)
    np.testing.assert_array_equal(column_sums(values).sum(axis=0), [5e5, 5e5])


@pytest.mark.parametrize("cuts", [(), (1,), (700, 1024), (3, 4, 5, 2999)])
def test_column_sums_of_any_parts_round_to_the_exact_sum(cuts):
    values = np.random.default_rng(0).lognormal(sigma=8, size=(3000, 3)) / 3.0
    values *= np.random.default_rng(1).choice([-1, 1], values.shape)
    parts = [column_sums(part) for part in np.split(values, cuts)]
    total = parts[0]
    for part in parts[1:]:
        total = add_sums(total, part)
    exact = [math.fsum(column) for column in values.T]
    np.testing.assert_array_equal(total.sum(axis=0), exact)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("unit_norm", [True, False])
def test_rows_are_centred_then_scaled_to_unit_length(block, center, unit_norm):
    mean = block.mean(axis=0)
    expected = block - mean if center else block
    if unit_norm:
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    result, zero = normalise(block, mean, center, unit_norm, DOUBLE)
    np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-14)
    assert not zero.any()


def test_result_has_the_dtype_asked_for_and_leaves_the_input_alone(block):
    before = block.copy()
    result, _ = normalise(block, block.mean(axis=0), True, True, np.dtype(np.float32))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(block, before)


def test_rows_equal_to_the_mean_up_to_rounding_are_zero_and_stay_zero(block):
    mean = block.mean(axis=0)
    values = block.copy()
    values[3] = mean
    values[8] = mean * (1 + 2e-16)
    result, zero = normalise(values, mean, True, True, DOUBLE)
    np.testing.assert_array_equal(np.flatnonzero(zero), [3, 8])
    assert not result[zero].any()
    np.testing.assert_allclose(np.linalg.norm(result[~zero], axis=1), 1.0, rtol=1e-14)


def test_zero_rows_without_centring_are_distinguished_from_tiny_rows():
    values = np.array([[0.0, 0.0], [1e-30, 0.0], [3.0, 4.0]])
    result, zero = normalise(values, np.zeros(2), False, True, DOUBLE)
    np.testing.assert_array_equal(zero, [True, False, False])
    np.testing.assert_allclose(result, [[0, 0], [1, 0], [0.6, 0.8]])


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 49), st.integers(1, 50))
def test_a_row_is_the_same_in_any_block(block, start, length):
    mean = block.mean(axis=0)
    whole, _ = normalise(block, mean, True, True, DOUBLE)
    part, _ = normalise(block[start : start + length], mean, True, True, DOUBLE)
    np.testing.assert_array_equal(part, whole[start : start + length])


def test_product_sum_of_float32_is_as_accurate_as_a_float64_sum():
    rng = np.random.default_rng(3)
    left = (rng.normal(size=(20_000, 5)) + 1.0).astype(np.float32)
    right = rng.choice(np.array([-1, 1], dtype=np.int8), (20_000, 4))
    exact = left.astype(np.float64).T @ right
    result = product_sum(left, right)
    assert result.dtype == np.float64
    scale = np.abs(left).sum(axis=0, dtype=np.float64)[:, None]
    assert (np.abs(result - exact) / scale).max() < 2e-7


@pytest.mark.parametrize("rows", [1, 1023, 1024, 1025, 2500])
def test_product_sum_counts_every_row_once(rows):
    ones = np.ones((rows, 2), dtype=np.float32)
    np.testing.assert_array_equal(product_sum(ones, ones), np.full((2, 2), rows))


def test_gram_matrices_hold_every_pair_of_modalities_once(block):
    blocks = {"c": block, "a": block[:, :3] * 2, "b": block[:, 2:]}
    grams = gram_matrices(blocks)
    assert list(grams) == [(g, h) for i, g in enumerate("cab") for h in "cab"[i:]]
    for (g, h), gram in grams.items():
        np.testing.assert_allclose(gram, blocks[g].T @ blocks[h], rtol=1e-12)
