"""The CCA-ITQ baseline of a run, against the in-memory CCA-ITQ of the comparison."""

import numpy as np
import pytest
from scipy import linalg

from pipelines.compare.baselines import cca, itq
from srch_dist.algorithm.encoders import cca_baseline
from srch_dist.algorithm.encoders.cca_baseline import fit_baseline
from tests.helpers import reference

N, DIMS = 150, (12, 9)


@pytest.fixture(scope="module")
def fit(prepare):
    """A function that prepares a run and fits its baseline."""

    def fitted(bits=8, rows=N, **options):
        run = prepare(reference.paired_features(6, rows, DIMS), bits=bits, **options)
        model = fit_baseline(run.job, run.statistics)
        return run, model

    return fitted


@pytest.mark.parametrize(("bits", "width"), [(8, 8), (16, 9)])
def test_scores_are_the_canonical_variates_turned_by_one_rotation(fit, bits, width):
    """W R (W R)ᵀ = W Wᵀ for every rotation R and every choice of the signs of W."""
    run, model = fit(bits)
    expected = cca.canonical_directions(run.features(), bits, 0.1).scaled()
    rotations = []
    for g, encoder in model.encoders.items():
        assert encoder.shape == (bits, run.features()[g].shape[1])
        w = expected[g]
        np.testing.assert_allclose(encoder.T @ encoder, w @ w.T, atol=1e-9)
        assert not encoder[width:].any()
        rotations.append(np.linalg.pinv(w) @ encoder[:width].T)
    np.testing.assert_allclose(*rotations, atol=1e-8)
    np.testing.assert_allclose(rotations[0].T @ rotations[0], np.eye(width), atol=1e-8)
    assert model.metadata == {"method": "CCA-ITQ", "effective_width": width}


def test_rotation_leaves_less_error_than_others_and_is_a_fixed_point(fit):
    run, model = fit()
    scores = np.concatenate([x @ model.encoders[g].T for g, x in run.features().items()])
    left = itq.quantisation_error(scores, np.eye(8))
    rng = np.random.default_rng(0)
    others = [linalg.qr(rng.normal(size=(8, 8)))[0] for _ in range(50)]
    assert left < min(itq.quantisation_error(scores, other) for other in others)
    again = itq.quantisation_error(scores, itq.itq_frame(scores, np.eye(8), 1))
    assert again == pytest.approx(left, rel=1e-3)


@pytest.mark.parametrize("cut", [{"partition_rows": 47}, {"partition_rows": 20, "blocks": 2}])
def test_partitions_do_not_change_the_baseline(fit, monkeypatch, cut):
    """With all rows in the sample of the rotation, and with some of them."""
    for rows in (1 << 14, 60):
        monkeypatch.setattr(cca_baseline, "_ROWS", rows)
        whole, parts = fit()[1], fit(**cut)[1]
        for g in whole.encoders:
            np.testing.assert_allclose(parts.encoders[g], whole.encoders[g], atol=1e-9)


def test_the_rotation_is_learned_on_the_bounded_sample(fit, monkeypatch):
    seen = []

    def rotation(embedding, start, _iterations):
        seen.append(embedding.shape)
        return start

    monkeypatch.setattr(cca_baseline, "_ROWS", 60)
    monkeypatch.setattr(cca_baseline.cca, "quantising_rotation", rotation)
    fit(partition_rows=47)
    assert seen == [(2 * 60, 8)]
