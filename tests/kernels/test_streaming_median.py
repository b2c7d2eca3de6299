import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srch_dist.kernels.streaming_median import FULL_RANGE, count_values, median_limits


def refined_median(parts, weights):
    """The middle of the median's bin, refined to a width of 1e-8; each part is counted alone."""
    limits = FULL_RANGE
    while limits == FULL_RANGE or limits[1] - limits[0] > 1e-8 * limits[1]:
        counts = [count_values(v, w, limits) for v, w in zip(parts, weights, strict=True)]
        limits = median_limits(sum(counts[1:], start=counts[0]))
    return sum(limits) / 2


def lower_median(values, weights):
    repeated = np.sort(np.repeat(values, weights))
    return repeated[(len(repeated) - 1) // 2]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    st.integers(0, 10_000),
    st.integers(1, 400),
    st.sampled_from([0.1, 1.0, 8.0]),
    st.integers(0, 5),
)
def test_median_equals_that_of_numpy_for_any_split(seed, n, spread, cuts):
    rng = np.random.default_rng(seed)
    values = np.exp(spread * rng.normal(size=n)).astype(np.float32).astype(np.float64)
    weights = rng.integers(1, 4, n)
    places = np.sort(rng.integers(0, n + 1, cuts))
    found = refined_median(np.split(values, places), np.split(weights, places))
    assert found == pytest.approx(lower_median(values, weights), rel=1e-7)


def test_median_of_an_even_number_is_the_lower_one():
    values, weights = np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4, dtype=int)
    assert refined_median([values], [weights]) == pytest.approx(2.0, rel=1e-7)


def test_zeros_count_below_every_bin():
    values, ones = np.array([0.0, 5.0, 6.0, 7.0]), np.ones(4, dtype=int)
    assert refined_median([values], [ones]) == pytest.approx(5.0, rel=1e-7)


def test_median_is_zero_where_half_of_the_weight_is():
    counts = count_values(np.array([0.0, 0.25, 3.0]), np.array([3, 1, 2]), FULL_RANGE)
    assert median_limits(counts) == (0.0, 0.0)
    assert counts.smallest == 0.25


def test_smallest_positive_value_is_kept_over_parts():
    ones = np.ones(2, dtype=int)
    left = count_values(np.array([0.0, 2.0]), ones, FULL_RANGE)
    right = count_values(np.array([0.5, 0.0]), ones, FULL_RANGE)
    assert (left + right).smallest == 0.5
    assert (left + right).total == 4


def test_no_values_have_median_zero_and_no_smallest():
    counts = count_values(np.empty(0), np.empty(0, dtype=int), FULL_RANGE)
    assert median_limits(counts) == (0.0, 0.0)
    assert np.isinf(counts.smallest)


@pytest.mark.parametrize("value", [1e-45, 1.2e-38, 2.0**-10, 1.0, 4.0 * 4096])
def test_bins_hold_every_squared_distance_between_embeddings(value):
    value = float(np.float32(value))
    low, high = median_limits(count_values(np.array([value]), np.array([1]), FULL_RANGE))
    assert low < value <= high
    assert high / low == pytest.approx(2 ** (1 / 8))
