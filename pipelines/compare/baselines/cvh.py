"""Cross-view hashing (CVH).

S. Kumar and R. Udupa, "Learning hash functions for cross-view similarity search", IJCAI 2011.

With similarities W_ij >= 0 of the training objects, minimise the W-weighted Hamming distances
within and across the two views. With relaxed signs and projections A_g the problem is

    minimise    Σ_g tr(A_gᵀ X_gᵀ (2L + D) X_g A_g) - 2 tr(A_1ᵀ X_1ᵀ W X_2 A_2)
    subject to  Σ_g A_gᵀ X_gᵀ X_g A_g = I,

with the diagonal D of W's row sums and L = D - W. It is a generalised symmetric eigenproblem in
the stacked A; the smallest eigenvalues come first. With W = I, where only the pairing counts, it
is CCA.

Uncertain: the paper was not available. The objective follows its published description, hence
without equation numbers. The W of its experiments is unknown. Here W = (1 - ω) I + ω A/k, with A
the mean of the 0/1 kNN graphs of both views; ω = 0 gives W = I. A ridge is added to X_gᵀX_g on
both sides, so that ω = 0 is exactly the regularised CCA of `cca`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import linalg, sparse

from .graphs import laplacian, neighbour_graph
from .linear_algebra import column_agreement, random_frame, regularised_gram, ridge_amount
from .protocol import Features, FloatArray, LinearCodes, linear_codes_from, two_modalities


def similarity_matrix(features: Features, neighbours: int, weight: float) -> sparse.csr_array:
    """W = (1 - weight) I + weight · A / k, (n, n), with A the mean kNN graph of the modalities."""
    n = next(iter(features.values())).shape[0]
    pairing = sparse.csr_array(sparse.eye_array(n))
    if weight == 0:
        return pairing
    graphs = [neighbour_graph(X, neighbours) for X in features.values()]
    mean = sum(graphs[1:], start=graphs[0]) / len(graphs)
    return sparse.csr_array((1 - weight) * pairing + weight / neighbours * mean)


def eigenproblem(
    X: FloatArray, Y: FloatArray, W: sparse.csr_array, ridge: float
) -> tuple[FloatArray, FloatArray]:
    """Matrices M and C of M a = μ C a, both (d_X + d_Y, d_X + d_Y)."""
    within = 2 * laplacian(W) + sparse.diags_array(np.asarray(W.sum(axis=1)).ravel())
    cross = -X.T @ (W @ Y)
    blocks = []
    for Z in (X, Y):
        block = Z.T @ (within @ Z)
        block.flat[:: Z.shape[1] + 1] += ridge_amount(Z, ridge)
        blocks.append(block)
    M = np.block([[blocks[0], cross], [cross.T, blocks[1]]])
    C = linalg.block_diag(regularised_gram(X, ridge), regularised_gram(Y, ridge))
    return M, C


@dataclass(frozen=True)
class CrossViewHashing:
    """CVH.

    Beyond min(d_g) bits, a random frame spreads the directions over the code. They are scaled by
    the agreement of both views along them.

    Parameters
    ----------
    weight : float
        ω, the weight of the neighbour graphs in W.
    neighbours : int
        k of the graphs; without effect at ω = 0.
    ridge : float
        Added to the scatter matrices, as a share of their mean eigenvalue.
    """

    weight: float = 0.0
    neighbours: int = 10
    ridge: float = 0.1
    name: ClassVar[str] = "CVH"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> LinearCodes:
        """See `Method`."""
        first, second = two_modalities(features)
        X, Y = features[first], features[second]
        W = similarity_matrix(features, self.neighbours, self.weight)
        r = min(bits, X.shape[1], Y.shape[1])
        M, C = eigenproblem(X, Y, W, self.ridge)
        _, vectors = linalg.eigh(M, C, subset_by_index=[0, r - 1])
        A_x, A_y = vectors[: X.shape[1]], vectors[X.shape[1] :]
        if r < bits:
            frame = random_frame(r, bits, np.random.default_rng(seed))
            scale = column_agreement(X @ A_x, Y @ A_y)[:, None]
            A_x, A_y = A_x @ (scale * frame), A_y @ (scale * frame)
        return linear_codes_from(features, {first: A_x, second: A_y})
