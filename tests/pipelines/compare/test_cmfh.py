from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.compare.baselines.cmfh import CollectiveMatrixFactorisation, Factors
from pipelines.compare.baselines.protocol import signs

METHOD = CollectiveMatrixFactorisation(mu=3.0, gamma=0.2)


@pytest.fixture
def factors(clusters):
    rng = np.random.default_rng(0)
    features, _ = clusters
    U = {g: rng.standard_normal((6, X.shape[1])) for g, X in features.items()}
    P = {g: rng.standard_normal((X.shape[1], 6)) for g, X in features.items()}
    return Factors(rng.standard_normal((160, 6)), U, P)


def slope(features, factors, change, direction):
    """Central difference of the objective along ``direction``; ``change`` selects the factor."""
    step = 1e-4
    ahead, behind = (
        METHOD.objective(features, change(factors, s * direction)) for s in (step, -step)
    )
    return (ahead - behind) / (2 * step)


def random_slopes(features, factors, change, shape):
    rng = np.random.default_rng(1)
    directions = [rng.standard_normal(shape) for _ in range(5)]
    return [slope(features, factors, change, direction) for direction in directions]


def test_v_step_has_zero_gradient(clusters, factors):
    features, _ = clusters

    def change(f, d):
        return replace(f, V=f.V + d)

    before = random_slopes(features, factors, change, (160, 6))
    updated = replace(factors, V=METHOD.update_v(features, factors.U, factors.P))
    after = random_slopes(features, updated, change, (160, 6))
    assert np.abs(before).min() > 1
    np.testing.assert_allclose(after, 0, atol=1e-5)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_u_step_has_zero_gradient(clusters, factors, modality):
    features, _ = clusters

    def change(f, d):
        return replace(f, U=f.U | {modality: f.U[modality] + d})

    U = METHOD.update_u(features[modality], factors.V, 2)
    updated = replace(factors, U=factors.U | {modality: U})
    np.testing.assert_allclose(random_slopes(features, updated, change, U.shape), 0, atol=1e-5)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_p_step_has_zero_gradient(clusters, factors, modality):
    features, _ = clusters

    def change(f, d):
        return replace(f, P=f.P | {modality: f.P[modality] + d})

    P = METHOD.encoder_map(features[modality]) @ factors.V
    updated = replace(factors, P=factors.P | {modality: P})
    np.testing.assert_allclose(random_slopes(features, updated, change, P.shape), 0, atol=1e-5)


def test_objective_falls_with_every_round(clusters, factors):
    features, _ = clusters
    maps = {g: METHOD.encoder_map(X) for g, X in features.items()}
    values = []
    for _ in range(15):
        factors = METHOD.fitted(features, maps, METHOD.update_v(features, factors.U, factors.P))
        values.append(METHOD.objective(features, factors))
    assert np.all(np.diff(values) < 0)


def test_objective_is_the_sum_of_its_terms(clusters, factors):
    features, _ = clusters
    zero = Factors(0 * factors.V, factors.U, {g: 0 * P for g, P in factors.P.items()})
    fit = 0.5 * sum(np.sum(X**2) for X in features.values())
    norms = 0.2 * sum(np.sum(U**2) for U in factors.U.values())
    assert METHOD.objective(features, zero) == pytest.approx(fit + norms)


def test_encoders_reproduce_most_training_codes(clusters):
    features, _ = clusters
    model = CollectiveMatrixFactorisation().fit(features, 8, 0)
    for name, X in features.items():
        assert np.mean(signs(X @ model.projections[name]) == model.train_codes) > 0.9
