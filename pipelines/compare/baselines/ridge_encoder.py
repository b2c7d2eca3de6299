"""Common out-of-sample encoder: ridge regression of the training codes on the features.

sign(X (XᵀX + γI)⁻¹ XᵀB) with γ = ridge · trace(XᵀX)/d. Fitted to a method's training codes, it
separates the quality of the codes from the quality of the method's encoder.
"""

from __future__ import annotations

import numpy as np

from .linear_algebra import ridge_regression
from .protocol import CodeArray, Features, LinearCodes


def ridge_encoder(features: Features, train_codes: CodeArray, ridge: float = 0.1) -> LinearCodes:
    """Fit linear codes of every modality (n, d_g) to ``train_codes`` (n, l)."""
    B = train_codes.astype(np.float64)
    projections = {name: ridge_regression(X, B, ridge) for name, X in features.items()}
    return LinearCodes(projections, train_codes)
