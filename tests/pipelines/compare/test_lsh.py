from __future__ import annotations

import numpy as np
import pytest

from pipelines.compare.baselines.lsh import RandomHyperplanes


@pytest.mark.parametrize("angle", [0.2, 1.0, 2.5])
def test_the_share_of_differing_bits_is_the_angle_over_pi(angle):
    x = np.array([[1.0, 0.0, 0.0]])
    y = np.array([[np.cos(angle), np.sin(angle), 0.0]])
    model = RandomHyperplanes().fit({"a": x, "b": y}, 40000, 0)
    share = np.mean(model.encode("a", x) != model.encode("a", y))
    assert share == pytest.approx(angle / np.pi, abs=0.01)


def test_modalities_share_no_hyperplanes():
    x = np.random.default_rng(0).standard_normal((1, 5))
    model = RandomHyperplanes().fit({"a": x, "b": x}, 40000, 0)
    share = np.mean(model.encode("a", x) != model.encode("b", x))
    assert share == pytest.approx(0.5, abs=0.01)
