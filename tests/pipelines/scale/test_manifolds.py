"""Generated pairs: rows do not depend on how they are read, and neighbours cross clusters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import kmeans2

from pipelines.scale.manifolds import CELL, CLASSES, Manifolds, write_store

pytestmark = pytest.mark.slow

SOURCE = Manifolds({"image": 12, "text": 9}, seed=4)


@pytest.fixture(scope="module")
def first_cells():
    return SOURCE.block(0, 3 * CELL)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(start=st.integers(0, 3 * CELL - 1), rows=st.integers(1, 2 * CELL))
def test_a_row_depends_on_its_number_alone(first_cells, start, rows):
    stop = min(start + rows, 3 * CELL)
    for name, values in SOURCE.block(start, stop).items():
        np.testing.assert_array_equal(values, first_cells[name][start:stop])


def test_another_seed_gives_other_rows(first_cells):
    other = Manifolds(SOURCE.dims, seed=5).block(0, CELL)
    assert not np.allclose(other["image"], first_cells["image"][:CELL])


def test_classes_are_unequal_and_some_rows_repeat(first_cells):
    counts = np.bincount(first_cells["labels"], minlength=CLASSES)
    assert counts.max() > 5 * max(1, counts.min())
    repeated = {g: 1 - len(np.unique(first_cells[g], axis=0)) / (3 * CELL) for g in SOURCE.dims}
    assert 0.002 < repeated["image"] < 0.03
    assert repeated["text"] > 2 * repeated["image"]


def test_store_holds_the_rows_with_queries_spread_evenly(tmp_path):
    store = write_store(tmp_path / "a.zarr", 2500, 125, SOURCE)
    for name, values in SOURCE.block(0, 2500).items():
        np.testing.assert_array_equal(store.read(name), values)
    queries = np.flatnonzero(store.read("split") == 1)
    assert len(queries) == 125
    assert set(np.diff(queries)) == {20}


def test_two_nearest_clusters_of_forty_lose_at_least_a_tenth_of_the_neighbours():
    rows = SOURCE_WIDE.block(0, 20 * CELL)
    for g in SOURCE_WIDE.dims:
        x = rows[g] - rows[g].mean(axis=0)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        assert 0.5 < kept_share(x, 2) <= 0.9
        assert kept_share(x, 4) > 0.93


SOURCE_WIDE = Manifolds({"image": 128, "text": 128}, seed=1)


def kept_share(x, overlap):
    """Share of the 10 nearest rows that share one of ``overlap`` clusters with their row, of 40."""
    queries = np.arange(0, len(x), 64)
    distances = 2 - 2 * x[queries] @ x.T
    distances[np.arange(len(queries)), queries] = np.inf
    nearest = np.argpartition(distances, 10, axis=1)[:, :10]
    centres, _ = kmeans2(x[::4], 40, iter=10, minit="points", rng=0)
    order = np.argsort((centres**2).sum(axis=1) - 2 * x @ centres.T, axis=1)[:, :overlap]
    member = np.zeros((len(x), 40), dtype=bool)
    np.put_along_axis(member, order, True, axis=1)
    return np.mean((member[nearest] & member[queries][:, None]).any(axis=2))
