import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from srch_dist.kernels.packed_codes import (
    hamming_distances,
    pack_codes,
    random_codes,
    sign_codes,
    unpack_codes,
)


def signs(seed, n, bits):
    return np.random.default_rng(seed).choice(np.array([-1, 1], dtype=np.int8), (n, bits))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.integers(0, 20), st.integers(1, 12))
def test_unpacking_undoes_packing(seed, n, width):
    codes = signs(seed, n, 8 * width)
    packed = pack_codes(codes)
    assert packed.shape == (n, width)
    np.testing.assert_array_equal(unpack_codes(packed), codes)


def test_bit_j_is_bit_j_mod_8_of_byte_j_over_8():
    packed = pack_codes(np.where(np.eye(24) > 0, 1, -1).astype(np.int8))
    for j in range(24):
        expected = np.zeros(3, dtype=np.uint8)
        expected[j // 8] = 1 << (j % 8)
        np.testing.assert_array_equal(packed[j], expected)


def test_sign_of_zero_is_plus_one():
    values = np.array([[0.0, -0.0, 1e-300, -1e-300]])
    np.testing.assert_array_equal(sign_codes(values), [[1, 1, 1, -1]])
    assert sign_codes(values).dtype == np.int8


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=30, unique=True), st.data())
def test_random_codes_of_a_row_depend_on_its_number_alone(rows, data):
    rows = np.array(rows, dtype=np.int64)
    taken = np.array(data.draw(st.permutations(range(len(rows)))), dtype=np.int64)[:7]
    np.testing.assert_array_equal(
        random_codes(5, rows, 72)[taken], random_codes(5, rows[taken], 72)
    )


def test_random_codes_change_with_the_seed_and_the_row():
    rows = np.arange(200)
    first = random_codes(0, rows, 64)
    assert 0.45 < np.mean(first != random_codes(1, rows, 64)) < 0.55
    assert len(np.unique(first, axis=0)) == 200


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_random_codes_are_uniform_and_independent(seed):
    n, bits = 4000, 136
    codes = random_codes(seed, np.arange(n), bits).astype(float)
    # Means and correlations of n fair signs have standard deviation 1 / sqrt(n).
    assert np.abs(codes.mean(axis=0)).max() < 5 / np.sqrt(n)
    correlations = codes.T @ codes / n - np.eye(bits)
    assert np.abs(correlations).max() < 6 / np.sqrt(n)
    assert abs(np.mean(codes[1:] * codes[:-1])) < 5 / np.sqrt(n * bits)


@pytest.mark.parametrize("bits", [8, 64, 1000, 4096])
def test_hamming_distances_equal_those_of_scipy(bits):
    queries, database = signs(1, 9, bits), signs(2, 31, bits)
    database[3] = queries[4]
    database[5] = -queries[4]
    distances = hamming_distances(pack_codes(queries), pack_codes(database))
    assert np.issubdtype(distances.dtype, np.integer)
    np.testing.assert_array_equal(
        distances, np.rint(cdist(queries, database, "hamming") * bits).astype(int)
    )
    assert distances[4, 3] == 0
    assert distances[4, 5] == bits
