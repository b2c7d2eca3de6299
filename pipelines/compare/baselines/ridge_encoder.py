"""The common out-of-sample encoder: ridge regression of the training codes on the features.

Put on top of a method's own training codes it separates what the codes are worth from what the
method's encoder loses: sign(X (XᵀX + γI)⁻¹ XᵀB), γ = ridge · trace(XᵀX)/d.
"""

from __future__ import annotations

import numpy as np

from .linear_algebra import ridge_regression
from .protocol import CodeArray, Features, LinearCodes


def ridge_encoder(features: Features, train_codes: CodeArray, ridge: float = 0.1) -> LinearCodes:
    """Linear codes fitted to ``train_codes`` (n, l) from every modality (n, d_g)."""
    B = train_codes.astype(np.float64)
    projections = {name: ridge_regression(X, B, ridge) for name, X in features.items()}
    return LinearCodes(projections, train_codes)
