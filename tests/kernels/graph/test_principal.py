"""Principal subspaces, against singular vectors."""

import numpy as np
import pytest

from srch_dist.kernels.graph.principal import SEARCH_DIMS, principal_subspace, search_subspace


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_principal_subspace_against_singular_vectors(share):
    x = np.random.default_rng(0).normal(size=(500, 96)) * np.linspace(4, 0.1, 96) + 3.0
    directions = principal_subspace(x, share)
    strengths = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    wanted = np.searchsorted(np.cumsum(strengths) / strengths.sum(), share) + 1
    assert directions.shape == (96, min(96, -(-wanted // 32) * 32))
    kept = ((x - x.mean(axis=0)) @ directions).var(axis=0).sum() / x.var(axis=0).sum()
    assert kept >= share - 1e-12
    best = strengths[: directions.shape[1]].sum() / strengths.sum()
    assert kept == pytest.approx(best)


def test_rows_that_are_all_the_same_have_a_subspace():
    directions = principal_subspace(np.ones((40, 64), dtype=np.float32), 0.9)
    np.testing.assert_allclose(directions.T @ directions, np.eye(directions.shape[1]), atol=1e-12)


def test_few_dimensions_are_kept_and_many_are_projected():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(300, 40)).astype(np.float32) + 5
    subspace = search_subspace(flat)
    np.testing.assert_allclose(subspace.project(flat), flat - flat.mean(axis=0), atol=1e-4)
    wide = rng.normal(size=(900, 400)).astype(np.float32)
    assert search_subspace(wide).project(wide).shape == (900, SEARCH_DIMS - 1)
    narrow = (rng.normal(size=(500, 3)) @ rng.normal(size=(3, 90))).astype(np.float32)
    assert search_subspace(narrow).project(narrow).shape == (500, 31)


@pytest.mark.parametrize("dims", [12, 90])
def test_lifted_points_have_the_coordinates_they_came_from(dims):
    x = np.random.default_rng(0).normal(size=(500, 3)) @ np.eye(3, dims) * 4 + 1
    subspace = search_subspace(x)
    np.testing.assert_allclose(subspace.lift(subspace.project(x)), x, atol=1e-5)


def test_a_projected_row_does_not_depend_on_later_tiles():
    x = np.random.default_rng(0).normal(size=(2500, 80)) * np.linspace(3, 0.01, 80)
    subspace = search_subspace(x)
    np.testing.assert_array_equal(subspace.project(x)[:1024], subspace.project(x[:1024]))
