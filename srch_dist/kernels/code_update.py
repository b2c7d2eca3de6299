"""Update the codes of one partition by Eq. 17 (B-step); the same pass computes `CodeSums`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from srch_dist.kernels.features import TILE_ROWS
from srch_dist.kernels.packed_codes import pack_codes, sign_codes
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Array, Matrix, Packed


@dataclass(frozen=True)
class CodeRule(Sized):
    """Rule of the B-step: B = sign((z_scale (Z - z_mean) + Σ_g X_g projections_g') rotation).

    Eq. 17 as printed has z_mean = 0, z_scale = β and projections_g = 2 W_g. With
    ``method.scaling: balanced``, the term of the projections has root mean square 1, and the term
    of Z has root mean square ``method.omega``.

    Attributes
    ----------
    projections : (l, d_g) scaled W_g by modality.
    z_mean : (l,) mean of Z over the rows, or zeros.
    z_scale : factor of Z.
    basis : (l, r) V, if Z is stored by its coordinates Z V; None means that Z itself is stored.
    rotation : (l, l) orthogonal matrix; None means the identity.
    """

    projections: Mapping[str, Matrix]
    z_mean: Matrix
    z_scale: float
    basis: Matrix | None = None
    rotation: Matrix | None = None

    def embedding(self, z: Array) -> Matrix:
        """Compute Z (n, l) float64 from stored rows ``z`` (n, r)."""
        wide = z.astype(np.float64)
        return wide if self.basis is None else np.asarray(wide @ self.basis.T)


@dataclass(frozen=True)
class CodeSums(Sized):
    """Sums over rows, with B the codes of a B-step; ``+`` adds the sums of disjoint rows.

    Attributes
    ----------
    cross_covariance : (d_g, l) X_g B' by modality.
    code_gram : (l, l) BB'.
    bit_sums : (l,) sum of each bit.
    changed : number of bits that differ from the previous codes.
    embedding_error : ‖Z - B‖² (Eq. 5).
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


def code_scores(rule: CodeRule, features: Mapping[str, Array], z: Matrix) -> Array:
    """Compute the scores, whose signs are the codes B (Eq. 17).

    Parameters
    ----------
    features : (n, d_g) X_g by modality, all of one dtype.
    z : (n, l) embedding Z, see `CodeRule.embedding`.

    Returns
    -------
    Scores (n, l), of the dtype of the features.
    """
    dtype = next(iter(features.values())).dtype
    scores: Array = (rule.z_scale * (z - rule.z_mean)).astype(dtype)
    for g, block in features.items():
        scores += block @ rule.projections[g].T.astype(dtype, copy=False)
    return scores if rule.rotation is None else scores @ rule.rotation.astype(dtype)


def update_codes(
    rule: CodeRule, features: Mapping[str, Array], z: Array, before: Packed
) -> tuple[Packed, CodeSums]:
    """Compute the new codes of one partition, and its `CodeSums`.

    All operations run on one tile of 1,024 rows while the tile is in the cache. Products of a tile
    have the dtype of the features, and are added to float64 sums.

    Parameters
    ----------
    features : (n, d_g) X_g by modality, all of one dtype.
    z : (n, r) embedding as stored; see `CodeRule`.
    before : (n, l / 8) packed codes of the previous iteration.

    Returns
    -------
    The new packed codes (n, l / 8), and the partition's `CodeSums`.
    """
    dtype = next(iter(features.values())).dtype
    rule = replace(rule, projections={g: w.astype(dtype) for g, w in rule.projections.items()})
    bits = len(rule.z_mean)
    packed = np.empty_like(before)
    cross = {g: np.zeros((block.shape[1], bits)) for g, block in features.items()}
    gram, bit_sums, error = np.zeros((bits, bits)), np.zeros(bits), 0.0
    for start in range(0, len(z), TILE_ROWS):
        tile = slice(start, start + TILE_ROWS)
        rows = {g: block[tile] for g, block in features.items()}
        embedding = rule.embedding(z[tile])
        codes = sign_codes(code_scores(rule, rows, embedding))
        packed[tile] = pack_codes(codes)
        signs = codes.astype(dtype)
        for g, block in rows.items():
            cross[g] += block.T @ signs
        gram += signs.T @ signs
        bit_sums += signs.sum(axis=0, dtype=np.float64)
        difference = embedding - signs
        error += float(np.einsum("ij,ij->", difference, difference))
    changed = int(np.bitwise_count(packed ^ before).sum())
    return packed, CodeSums(cross, gram, bit_sums, changed, error)
