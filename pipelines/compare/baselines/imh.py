"""Inter-media hashing (IMH).

J. Song, Y. Yang, Y. Yang, Z. Huang and H. T. Shen, "Inter-media hashing for large-scale retrieval
from heterogeneous data sources", SIGMOD 2013.

For real codes F_g (n, l), the Laplacians L_g of the modalities' kNN graphs and linear encoders W_g,

    Σ_g [ ‖X_g W_g - F_g‖² + β_g ‖W_g‖² + λ tr(F_gᵀ L_g F_g) ] + μ ‖F_X - F_Y‖²,   F_XᵀF_X = I.

W_g = (X_gᵀX_g + β_g I)⁻¹ X_gᵀ F_g leaves tr(F_gᵀ Q_g F_g), Q_g = I - X_g(X_gᵀX_g + β_g I)⁻¹X_gᵀ +
λL_g. Then F_Y = (I + Q_Y/μ)⁻¹ F_X, and F_X holds the eigenvectors of the smallest eigenvalues of
C = Q_X + (I + Q_Y/μ)⁻¹ Q_Y. Codes are thresholded at the training medians of X_g W_g.

μ is meant to be huge, as the two rows of a pair shall have one code; this form of C does not lose
its digits then. Dense in n: n² memory, n³ time. X_g W_g has rank d_g only, so that beyond
min(d_g) bits the first min(d_g) columns of F_g, scaled by how far the encoders agree along them,
are spread over the code by a random frame.

Uncertain: the original text was not at hand; objective, elimination and medians follow a public
implementation's structure, 0/1 edge weights and no local scaling are assumed. β_g is a share of
the mean eigenvalue of X_gᵀX_g, which is another scale than the source's.
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
    """Q (n, n) of one modality, the encoder eliminated."""
    n = X.shape[0]
    hat = X @ linalg.solve(regularised_gram(X, ridge), X.T, assume_a="pos")
    graph = laplacian(neighbour_graph(X, neighbours)).toarray()
    return np.asarray(np.eye(n) - hat + smoothness * graph)


def joint_codes(
    Q_x: FloatArray, Q_y: FloatArray, bits: int, coupling: float
) -> tuple[FloatArray, FloatArray]:
    """Real codes F_X and F_Y (n, l) minimising the objective."""
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
        λ, of the graphs.
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
