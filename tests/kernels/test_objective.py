import numpy as np
import pytest

from srch_dist.kernels.features import gram_matrices
from srch_dist.kernels.objective import Objective, auto_encoding_terms
from tests.helpers import reference

N = 40


@pytest.mark.parametrize("bits", [4, 12, 20], ids=["l < d", "l between", "l > d"])
@pytest.mark.parametrize("orthonormal", [True, False])
def test_auto_encoding_terms_equal_those_of_equation_3(bits, orthonormal):
    rng = np.random.default_rng(bits)
    features = reference.paired_features(0, N, (13, 7))
    b = rng.choice([-1.0, 1.0], (N, bits))
    w = {g: rng.normal(size=(bits, x.shape[1])) for g, x in features.items()}
    if orthonormal:
        w = {g: reference.w_step(x, b) for g, x in features.items()}
    cross = {g: x.T @ b for g, x in features.items()}
    quantisation, reconstruction = auto_encoding_terms(
        w, gram_matrices(features), cross, b.T @ b, N
    )
    assert quantisation == pytest.approx(
        sum(np.sum((x @ w[g].T - b) ** 2) for g, x in features.items()), rel=1e-10
    )
    assert reconstruction == pytest.approx(
        sum(np.sum((x - b @ w[g]) ** 2) for g, x in features.items()), rel=1e-10
    )


def test_objective_is_the_sum_of_its_named_terms():
    objective = Objective(1.0, 2.0, 4.0, 8.0, 16.0)
    assert objective.total == 31.0
    assert objective.terms() == {
        "quantisation": 1.0,
        "reconstruction": 2.0,
        "semantic": 4.0,
        "sparsity": 8.0,
        "embedding": 16.0,
    }
