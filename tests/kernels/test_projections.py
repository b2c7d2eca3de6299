import numpy as np
import pytest
from scipy.linalg import polar
from scipy.stats import ortho_group
from sklearn.linear_model import Ridge

from srch_dist.kernels.features import gram_matrices
from srch_dist.kernels.projections import (
    balanced_scales,
    polar_factor,
    procrustes,
    projection_energy,
    ridge_encoder,
)
from tests.helpers import reference

SHAPES = [(12, 8), (8, 8), (5, 8)]


@pytest.fixture(params=SHAPES, ids=["l < d", "l = d", "l > d"])
def data(request):
    """Features (n, d) and codes (n, l)."""
    d, bits = request.param
    rng = np.random.default_rng(d)
    return rng.normal(size=(60, d)), rng.choice([-1.0, 1.0], (60, bits))


def agreement(w, x, b):
    """tr(W X B') of Eq. 10."""
    return np.trace(w @ x.T @ b)


def random_orthonormal(rng, bits, d):
    """A random (l, d) matrix with orthonormal rows, or columns where l > d."""
    square = ortho_group.rvs(max(bits, d), random_state=rng)
    return square[:bits, :d]


def test_projection_has_orthonormal_rows_or_columns(data):
    x, b = data
    w = procrustes(x.T @ b)
    assert w.shape == (b.shape[1], x.shape[1])
    short = w @ w.T if len(w) <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(short, np.eye(len(short)), atol=1e-12)


def test_projection_attains_the_maximum_of_equation_10(data):
    x, b = data
    best = agreement(procrustes(x.T @ b), x, b)
    nuclear = np.linalg.svd(x.T @ b, compute_uv=False).sum()
    assert best == pytest.approx(nuclear, rel=1e-12)


def test_no_random_orthonormal_matrix_is_better(data):
    x, b = data
    best = procrustes(x.T @ b)
    rng = np.random.default_rng(0)
    others = [random_orthonormal(rng, *best.shape) for _ in range(200)]
    assert max(agreement(w, x, b) for w in others) < agreement(best, x, b)


def test_no_small_rotation_is_better(data):
    x, b = data
    best = procrustes(x.T @ b)
    rng = np.random.default_rng(0)
    for _ in range(50):
        noisy = best + 1e-3 * rng.normal(size=best.shape)
        near = polar(noisy)[0]
        assert agreement(near, x, b) < agreement(best, x, b)


def test_projection_is_the_polar_factor_of_the_cross_covariance(data):
    x, b = data
    np.testing.assert_allclose(procrustes(x.T @ b), polar(x.T @ b)[0].T, atol=1e-10)


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
def test_ridge_encoder_equals_that_of_scikit_learn(data, ridge):
    x, b = data
    gram = x.T @ x
    model = Ridge(alpha=ridge * np.trace(gram) / len(gram), fit_intercept=False).fit(x, b)
    np.testing.assert_allclose(ridge_encoder(gram, x.T @ b, ridge), model.coef_, rtol=1e-8)


def test_ridge_encoder_works_with_more_dimensions_than_rows():
    rng = np.random.default_rng(0)
    x, b = rng.normal(size=(6, 20)), rng.choice([-1.0, 1.0], (6, 8))
    gram = x.T @ x
    model = Ridge(alpha=0.1 * np.trace(gram) / 20, fit_intercept=False).fit(x, b)
    np.testing.assert_allclose(ridge_encoder(gram, x.T @ b, 0.1), model.coef_, rtol=1e-8)


def test_projection_energy_is_the_squared_norm_of_the_projected_rows(data):
    x, b = data
    w = procrustes(x.T @ b)
    assert projection_energy(w, x.T @ x) == pytest.approx(np.sum((x @ w.T) ** 2), rel=1e-12)


def scaled_parts(features, projections, weights=None):
    n = len(next(iter(features.values())))
    weights = weights or dict.fromkeys(features, 1.0)
    scales = balanced_scales(projections, gram_matrices(features), n, weights)
    return {g: scales[g] * features[g] @ projections[g].T for g in features}


@pytest.mark.parametrize("dims", [(12, 9), (12, 5, 30)])
def test_balanced_parts_have_one_rms_and_their_sum_rms_one(dims):
    features = reference.paired_features(1, 80, dims)
    rng = np.random.default_rng(2)
    projections = {g: rng.normal(size=(8, x.shape[1])) for g, x in features.items()}
    parts = scaled_parts(features, projections)
    sizes = [reference.rms(part) for part in parts.values()]
    np.testing.assert_allclose(sizes, sizes[0], rtol=1e-10)
    assert reference.rms(sum(parts.values())) == pytest.approx(1.0, rel=1e-10)


def test_weighted_parts_have_rms_in_proportion_to_their_weights():
    features = reference.paired_features(1, 80, (12, 9))
    rng = np.random.default_rng(2)
    projections = {g: rng.normal(size=(8, x.shape[1])) for g, x in features.items()}
    parts = scaled_parts(features, projections, {"m0": 0.5, "m1": 1.5})
    ratio = reference.rms(parts["m1"]) / reference.rms(parts["m0"])
    assert ratio == pytest.approx(3.0, rel=1e-10)
    assert reference.rms(sum(parts.values())) == pytest.approx(1.0, rel=1e-10)


def test_polar_factor_is_orthogonal_and_no_other_is_nearer():
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(6, 6))
    found = polar_factor(matrix)
    np.testing.assert_allclose(found @ found.T, np.eye(6), atol=1e-12)
    others = [np.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(200)]
    assert np.sum(found * matrix) >= max(np.sum(other * matrix) for other in others)


def test_a_modality_that_projects_to_zero_gets_no_weight():
    features = reference.paired_features(1, 80, (12, 9))
    projections = {"m0": np.zeros((8, 12)), "m1": np.ones((8, 9))}
    parts = scaled_parts(features, projections)
    assert not parts["m0"].any()
    assert reference.rms(parts["m1"]) == pytest.approx(1.0, rel=1e-10)


def test_projections_that_cancel_get_no_weight():
    x = np.random.default_rng(0).normal(size=(80, 9))
    w = np.random.default_rng(1).normal(size=(8, 9))
    parts = scaled_parts({"a": x, "b": x.copy()}, {"a": w, "b": -w})
    assert not parts["a"].any()
    assert not parts["b"].any()


def test_features_that_are_zero_give_a_zero_encoder():
    np.testing.assert_array_equal(ridge_encoder(np.zeros((4, 4)), np.zeros((4, 8)), 0.1), 0.0)
