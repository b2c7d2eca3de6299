"""Inter-media hashing (IMH).

J. Song, Y. Yang, Y. Yang, Z. Huang and H. T. Shen, "Inter-media hashing for large-scale retrieval
from heterogeneous data sources", SIGMOD 2013.

For real codes F_g (n, l), Laplacians L_g of the modalities' kNN graphs and linear encoders W_g,
minimise

    Σ_g [ ‖X_g W_g - F_g‖² + β_g ‖W_g‖² + λ tr(F_gᵀ L_g F_g) ] + μ ‖F_X - F_Y‖²,   F_XᵀF_X = I.

The optimal W_g = (X_gᵀX_g + β_g I)⁻¹ X_gᵀ F_g gives tr(F_gᵀ Q_g F_g) with
Q_g = I - X_g(X_gᵀX_g + β_g I)⁻¹X_gᵀ + λL_g. Then F_Y = (I + Q_Y/μ)⁻¹ F_X, and F_X consists of the
eigenvectors of the smallest eigenvalues of C = Q_X + (I + Q_Y/μ)⁻¹ Q_Y. The thresholds of the codes
are the training medians of X_g W_g.

μ should be huge, since both rows of a pair should have one code. This form of C stays accurate
then. The matrices are dense: n² memory, n³ time. X_g W_g has rank d_g. Beyond min(d_g) bits, a
random frame therefore spreads the first min(d_g) columns of F_g over the code, scaled by the
agreement of the encoders along them.

Uncertain: the paper was not available. Objective, elimination and medians follow the structure of a
public implementation; 0/1 edge weights and no local scaling are assumptions. β_g is a share of the
mean eigenvalue of X_gᵀX_g, another scale than in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import linalg

from .graphs import laplacian, neighbour_graph
from .linear_algebra import column_agreement, random_frame, regularised_gram, ridge_regression
from .protocol import Features, FloatArray, LinearCodes, signs, two_modalities


def fitting_form(X: FloatArray, neighbours: int, smoothness: float, ridge: float) -> FloatArray:
    """Q_g (n, n) of one modality, after elimination of the encoder."""
    n = X.shape[0]
    hat = X @ linalg.solve(regularised_gram(X, ridge), X.T, assume_a="pos")
    graph = laplacian(neighbour_graph(X, neighbours)).toarray()
    return np.asarray(np.eye(n) - hat + smoothness * graph)


def joint_codes(
    Q_x: FloatArray, Q_y: FloatArray, bits: int, coupling: float
) -> tuple[FloatArray, FloatArray]:
    """Real codes F_X and F_Y (n, l) that minimise the objective; ``coupling`` is μ."""
    damping = np.eye(Q_y.shape[0]) + Q_y / coupling
    C = Q_x + linalg.solve(damping, Q_y, assume_a="pos")
    _, F_x = linalg.eigh((C + C.T) / 2, subset_by_index=[0, bits - 1])
    return F_x, np.asarray(linalg.solve(damping, F_x, assume_a="pos"))


@dataclass(frozen=True)
class InterMediaHashing:
    """IMH.

    Parameters
    ----------
    smoothness : float
        λ, the weight of the graphs.
    ridge : float
        β_g as a share of the mean eigenvalue of X_gᵀX_g.
    neighbours : int
        k of both graphs.
    coupling : float
        μ.
    """

    smoothness: float = 1.0
    ridge: float = 0.1
    neighbours: int = 10
    coupling: float = 1e6
    name: ClassVar[str] = "IMH"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> LinearCodes:
        """See `Method`."""
        first, second = two_modalities(features)
        X, Y = features[first], features[second]
        r = min(bits, X.shape[1], Y.shape[1])
        F_x, F_y = joint_codes(
            fitting_form(X, self.neighbours, self.smoothness, self.ridge),
            fitting_form(Y, self.neighbours, self.smoothness, self.ridge),
            r,
            self.coupling,
        )
        W_x, W_y = ridge_regression(X, F_x, self.ridge), ridge_regression(Y, F_y, self.ridge)
        if r < bits:
            frame = random_frame(r, bits, np.random.default_rng(seed))
            frame = column_agreement(X @ W_x, Y @ W_y)[:, None] * frame
            F_x, F_y, W_x, W_y = F_x @ frame, F_y @ frame, W_x @ frame, W_y @ frame
        projections = {first: W_x, second: W_y}
        thresholds = {g: np.median(features[g] @ W, axis=0) for g, W in projections.items()}
        mean = F_x + F_y
        return LinearCodes(projections, signs(mean - np.median(mean, axis=0)), thresholds)
