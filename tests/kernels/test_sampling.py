"""Seeded samples of row numbers, against a sort of the hashes and a scalar splitmix64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srch_dist.kernels.sampling import Stream, hash_rows, hash_words, smallest_hashes

MASK, INCREMENT = 2**64 - 1, 0x9E3779B97F4A7C15


def splitmix64(state, count):
    """The first ``count`` outputs of the published generator, in Python integers."""
    outputs = []
    for _ in range(count):
        state = (state + INCREMENT) & MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        outputs.append(z ^ (z >> 31))
    return outputs


def by_sorting(rows, count, seed, stream):
    order = np.argsort(hash_rows(seed ^ int(stream), rows), kind="stable")
    return np.sort(order[:count])


def test_streams_keep_their_values():
    """Changed values would change samples, first frames and rotations of finished runs."""
    assert {stream.name: stream.value for stream in Stream} == {
        "HELD_OUT_QUERIES": 0x0B5E,
        "CLUSTER_SAMPLE": 0xC1A55,
        "GRAPH_RECALL": 0x5EC411,
        "TRAINING_SAMPLE": 0xA9C4,
        "FINAL_FRAME": 0xF4A3E,
        "PAIR_FRAME": 0xF4A3F,
        "BASELINE_ROTATION": 0xCCA,
        "EXAMPLE_QUERIES": 0xE8A3,
        "EXAMPLE_DATABASE": 0xE8A4,
        "INDEX_SAMPLE": 0x1DF5,
        "FLOAT_QUERIES": 0xF10A,
    }
    assert len(set(Stream)) == len(Stream.__members__)


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_words_of_a_row_are_the_splitmix64_sequence_of_its_hash(seed):
    rows = np.array([0, 1, 5, 2**40])
    start = splitmix64(seed, 1)[0]
    states = [(start + (row - 1) * INCREMENT) & MASK for row in rows.tolist()]
    hashes = [splitmix64(state, 1)[0] for state in states]
    np.testing.assert_array_equal(hash_rows(seed, rows), np.array(hashes, dtype=np.uint64))
    expected = np.array([splitmix64(value, 3) for value in hashes], dtype=np.uint64)
    np.testing.assert_array_equal(hash_words(seed, rows, 3), expected)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 2**62), max_size=60, unique=True),
    st.integers(0, 70),
    st.integers(0, 2**63),
    st.sampled_from(Stream),
)
def test_sample_is_the_start_of_a_stable_sort_by_hash(rows, count, seed, stream):
    rows = np.array(rows, dtype=np.int64)
    found = smallest_hashes(rows, count, seed, stream)
    np.testing.assert_array_equal(found, by_sorting(rows, count, seed, stream))
    assert found.dtype == np.int64


def test_equal_rows_are_taken_in_their_order():
    rows = np.repeat(np.arange(5), 4)
    for count in range(len(rows) + 1):
        found = smallest_hashes(rows, count, 3, Stream.GRAPH_RECALL)
        np.testing.assert_array_equal(found, by_sorting(rows, count, 3, Stream.GRAPH_RECALL))


def test_sampled_rows_do_not_depend_on_the_order_of_the_rows():
    rows = np.arange(1000, 3000)
    shuffled = np.random.default_rng(0).permutation(rows)
    straight = rows[smallest_hashes(rows, 50, 1, Stream.TRAINING_SAMPLE)]
    turned = shuffled[smallest_hashes(shuffled, 50, 1, Stream.TRAINING_SAMPLE)]
    np.testing.assert_array_equal(np.sort(turned), straight)


def test_streams_of_one_seed_give_different_samples():
    rows = np.arange(10_000)
    samples = [smallest_hashes(rows, 100, 0, stream) for stream in Stream]
    for i, left in enumerate(samples):
        for right in samples[:i]:
            # Independent samples share one row on average.
            assert len(np.intersect1d(left, right)) < 10


def test_rows_are_drawn_about_evenly():
    rows = np.arange(100_000)
    found = smallest_hashes(rows, 10_000, 5, Stream.INDEX_SAMPLE)
    counts = np.bincount(found // 10_000, minlength=10)
    assert (np.abs(counts - 1000) < 150).all()
