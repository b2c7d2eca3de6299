"""Inverse permutations."""

import numpy as np
import pytest

from srch_dist.kernels.permutations import inverse_permutation


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("n", [0, 1, 50])
def test_inverse_undoes_the_permutation_from_either_side(n, dtype):
    order = np.random.default_rng(0).permutation(n).astype(dtype)
    inverse = inverse_permutation(order)
    np.testing.assert_array_equal(inverse[order], np.arange(n))
    np.testing.assert_array_equal(order[inverse], np.arange(n))
    assert inverse.dtype == dtype
