"""The anchor encoder against scikit-learn on the explicit feature map."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel

from srch_dist.kernels.anchors import (
    anchor_bandwidth,
    anchor_encoder,
    anchor_sums,
    anchor_targets,
    similarities,
)

N, D, M, BITS = 60, 7, 15, 8


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, D))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, x[:M], rng.choice([-1, 1], (N, BITS)).astype(np.int8)


def explicit_map(x, train, anchors, bandwidth):
    """[x, s (k - mean k)], with s that gives k three times the trace of x over ``train``."""
    kernel = rbf_kernel(train, anchors, gamma=1 / bandwidth)
    scale = 3**0.5 * np.linalg.norm(train) / np.linalg.norm(kernel - kernel.mean(axis=0))
    own = rbf_kernel(x, anchors, gamma=1 / bandwidth)
    return np.hstack([x, scale * (own - kernel.mean(axis=0))])


def test_similarities_are_gaussian(data):
    x, anchors, _ = data
    expected = rbf_kernel(x, anchors, gamma=1 / 0.8)
    np.testing.assert_allclose(similarities(x, anchors, 0.8), expected, rtol=1e-10)


def test_bandwidth_is_the_median_distance_to_the_tenth_other_anchor(data):
    _, anchors, _ = data
    squared = np.sum((anchors[:, None] - anchors[None]) ** 2, axis=2)
    expected = np.median(np.sort(squared, axis=1)[:, 10])
    assert anchor_bandwidth(anchors) == pytest.approx(expected, rel=1e-9)


def test_bandwidth_of_equal_anchors_is_one():
    assert anchor_bandwidth(np.ones((20, 3))) == 1.0


def test_encoder_from_sums_is_the_ridge_regression_on_the_explicit_map(data, monkeypatch):
    x, anchors, codes = data
    bandwidth = anchor_bandwidth(anchors)
    monkeypatch.setattr("srch_dist.kernels.anchors.TILE", 7)
    cuts = [slice(0, 11), slice(11, 40), slice(40, N)]
    sums = [anchor_sums(x[rows], anchors, bandwidth) for rows in cuts]
    targets = [anchor_targets(x[rows], anchors, bandwidth, codes[rows]) for rows in cuts]
    linear, on_anchors, offset = anchor_encoder(
        sums[0] + sums[1] + sums[2],
        targets[0] + targets[1] + targets[2],
        x.T @ x,
        x.T @ codes,
        N,
        0.1,
    )
    mapped = explicit_map(x, x, anchors, bandwidth)
    penalty = 0.1 * np.trace(mapped.T @ mapped) / mapped.shape[1]
    model = Ridge(alpha=penalty, fit_intercept=False).fit(mapped, codes)
    fresh = np.random.default_rng(1).normal(size=(20, D))
    scores = fresh @ linear.T + similarities(fresh, anchors, bandwidth) @ on_anchors.T + offset
    expected = model.predict(explicit_map(fresh, x, anchors, bandwidth))
    np.testing.assert_allclose(scores, expected, rtol=1e-7, atol=1e-9)


def test_anchors_that_see_no_difference_leave_the_linear_encoder(data):
    x, _, codes = data
    same = np.zeros((5, D))  # every row is at distance 1 from it
    sums, targets = anchor_sums(x, same, 1.0), anchor_targets(x, same, 1.0, codes)
    _, on_anchors, offset = anchor_encoder(sums, targets, x.T @ x, x.T @ codes, N, 0.1)
    np.testing.assert_allclose(on_anchors, 0.0, atol=1e-9)
    np.testing.assert_allclose(offset, 0.0, atol=1e-9)
