from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from pipelines.compare.baselines.ridge_retrieval import FloatRidge


@pytest.mark.parametrize(("target", "name", "source"), [(1, "text", "image"), (0, "image", "text")])
def test_source_is_compared_in_the_space_of_the_target(latent, target, name, source):
    model = FloatRidge(target=target, ridge=0.3).fit(latent, 16, 0)
    X, Y = latent[source], latent[name]
    alpha = 0.3 * np.sum(X**2) / X.shape[1]
    predicted = Ridge(alpha=alpha, fit_intercept=False).fit(X, Y).predict(X[:6])
    expected = -cosine_similarity(predicted, Y[:8])
    np.testing.assert_allclose(model.distances(source, X[:6], name, Y[:8]), expected, atol=1e-10)
    np.testing.assert_allclose(model.distances(name, Y[:8], source, X[:6]), expected.T, atol=1e-10)
