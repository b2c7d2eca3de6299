"""Permutations of row numbers."""

from __future__ import annotations

import numpy as np

from srch_dist.kernels.types import IntArray


def inverse_permutation(order: IntArray) -> IntArray:
    """Invert a permutation: ``inverse[order[i]] = i``, in linear time.

    Parameters
    ----------
    order : (n,) numbers 0 … n - 1, each once.

    Returns
    -------
    Inverse (n,), of the dtype of ``order``.
    """
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return inverse
