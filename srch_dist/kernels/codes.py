"""The B-step on one partition (Eq. 17), and everything that is summed while X is in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.bits import Codes, sign_codes
from srch_dist.kernels.features import product_sum
from srch_dist.kernels.sizes import Sized

Array = NDArray[Any]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class CodeRule(Sized):
    """B = sign(z_scale (Z - z_mean) + Σ_g x_scale_g W_g X_g).

    As printed (Eq. 17): z_mean 0, z_scale β, x_scale 2. Balanced: both terms at rms 1.

    Attributes
    ----------
    projections : for each modality x_scale_g W_g, (l, d_g).
    z_mean : (l,); z_scale : a number.
    """

    projections: Mapping[str, Matrix]
    z_mean: Matrix
    z_scale: float


@dataclass(frozen=True)
class CodeSums(Sized):
    """Sums over rows after a B-step; those of two runs of rows add up.

    Attributes
    ----------
    cross_covariance : for each modality X B' as (d_g, l).
    code_gram : (l, l), B B'.
    bit_sums : (l,), sums of each bit.
    changed : entries of B that differ from the codes before.
    embedding_error : ‖Z - B‖².
    """

    cross_covariance: Mapping[str, Matrix]
    code_gram: Matrix
    bit_sums: Matrix
    changed: int
    embedding_error: float

    def __add__(self, other: CodeSums) -> CodeSums:
        return CodeSums(
            {g: part + other.cross_covariance[g] for g, part in self.cross_covariance.items()},
            self.code_gram + other.code_gram,
            self.bit_sums + other.bit_sums,
            self.changed + other.changed,
            self.embedding_error + other.embedding_error,
        )


def code_scores(rule: CodeRule, features: Mapping[str, Array], z: Array) -> Array:
    """What Eq. 17 takes the sign of, (n, l), from features (n, d_g) and embedding (n, l)."""
    dtype = next(iter(features.values())).dtype
    scores: Array = (rule.z_scale * (z.astype(np.float64) - rule.z_mean)).astype(dtype)
    for g, block in features.items():
        scores += block @ rule.projections[g].T.astype(dtype)
    return scores


def update_codes(
    rule: CodeRule, features: Mapping[str, Array], z: Array, before: Codes
) -> tuple[Codes, CodeSums]:
    """New codes (n, l) of one partition and its sums."""
    codes = sign_codes(code_scores(rule, features, z))
    return codes, code_sums(features, codes, before, z)


def code_sums(
    features: Mapping[str, Array], codes: Codes, before: Codes, z: Array | None
) -> CodeSums:
    """The sums of one partition for given codes (n, l); ``z`` None leaves its term out."""
    dense = codes.astype(np.float32)
    error = 0.0
    if z is not None:
        difference = z.astype(np.float64) - codes
        error = float(np.einsum("ij,ij->", difference, difference))
    return CodeSums(
        {g: product_sum(block, codes) for g, block in features.items()},
        product_sum(dense, dense),
        codes.sum(axis=0, dtype=np.float64),
        int(np.count_nonzero(codes != before)),
        error,
    )
