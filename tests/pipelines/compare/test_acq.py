from __future__ import annotations

import numpy as np
import pytest

from pipelines.compare.baselines.acq import AlternatingCoQuantisation, CoQuantiser
from tests.helpers.paired_data import random_orthonormal


@pytest.fixture(params=[4, 9])
def quantiser(request):
    """As many bits as variates (4), and more (9)."""
    rng = np.random.default_rng(0)
    V_x = rng.standard_normal((60, 4))
    V_y = V_x + 0.5 * rng.standard_normal((60, 4))
    R = tuple(random_orthonormal(4, request.param, rng) for _ in range(2))
    return CoQuantiser((V_x, V_y), R)


@pytest.mark.parametrize("coupling", [0.1, 1.0, 3.0])
def test_objective_never_rises(quantiser, coupling):
    values = []
    for _ in range(15):
        codes = quantiser.codes(coupling)
        values.append(quantiser.objective(codes, coupling))
        quantiser = quantiser.rotated(codes, coupling)
        values.append(quantiser.objective(codes, coupling))
    assert np.all(np.diff(values) <= 1e-9)
    assert values[-1] < values[0]


def test_no_single_bit_is_better_flipped(quantiser):
    codes = quantiser.codes(0.4)
    best = quantiser.objective(codes, 0.4)
    for side in (0, 1):
        for i, b in np.ndindex(codes[side].shape):
            flipped = [c.copy() for c in codes]
            flipped[side][i, b] *= -1
            assert quantiser.objective((flipped[0], flipped[1]), 0.4) >= best


def test_frames_are_optimal_for_their_codes(quantiser):
    rng = np.random.default_rng(1)
    codes = quantiser.codes(0.4)
    turned = quantiser.rotated(codes, 0.4)
    best = turned.objective(codes, 0.4)
    shape = turned.R[0].shape
    for _ in range(100):
        other = CoQuantiser(turned.V, tuple(random_orthonormal(*shape, rng) for _ in range(2)))
        assert other.objective(codes, 0.4) >= best


def test_full_coupling_gives_both_modalities_the_same_code(quantiser):
    x, y = quantiser.codes(1.0)
    np.testing.assert_array_equal(x, y)


def test_weak_coupling_gives_each_modality_its_own_code(quantiser):
    x, y = quantiser.codes(1e-9)
    np.testing.assert_array_equal(x, np.where(quantiser.V[0] @ quantiser.R[0] >= 0, 1, -1))
    assert (x != y).any()


def test_fit_lowers_the_error_of_its_random_start(latent):
    agree = []
    for iterations in (0, 50):
        model = AlternatingCoQuantisation(iterations=iterations).fit(latent, 6, 0)
        codes = [model.encode(name, X) for name, X in latent.items()]
        agree.append(np.mean(codes[0] == codes[1]))
    assert agree[1] > agree[0]
