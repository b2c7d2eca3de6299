from __future__ import annotations

from importlib import resources

import numpy as np
import pytest

from pipelines.compare.baselines.cca import canonical_directions
from pipelines.compare.baselines.itq import CcaItq, CcaItqExtended, itq_frame, quantisation_error
from pipelines.compare.baselines.linear_algebra import random_frame
from pipelines.compare.baselines.protocol import signs
from pipelines.compare.data import RetrievalTask
from pipelines.compare.scoring import score_model
from srch_dist import ingest_source
from tests.helpers.paired_data import random_orthonormal

pytestmark = pytest.mark.slow


@pytest.fixture
def embedding():
    rng = np.random.default_rng(0)
    return rng.standard_normal((200, 5)) * np.array([3.0, 2.0, 1.0, 0.5, 0.2])


@pytest.mark.parametrize("bits", [5, 12])
def test_error_never_rises(embedding, bits):
    start = random_frame(5, bits, np.random.default_rng(1))
    errors = [quantisation_error(embedding, itq_frame(embedding, start, k)) for k in range(20)]
    assert np.all(np.diff(errors) <= 1e-9)
    assert errors[-1] < 0.98 * errors[0]


@pytest.mark.parametrize("bits", [5, 12])
def test_frame_keeps_inner_products(embedding, bits):
    R = itq_frame(embedding, random_frame(5, bits, np.random.default_rng(1)), 20)
    np.testing.assert_allclose(R @ R.T, np.eye(5), atol=1e-12)


def test_rotation_is_optimal_for_its_codes(embedding):
    rng = np.random.default_rng(2)
    start = random_frame(5, 5, rng)
    B = signs(embedding @ start)
    best = np.sum((B - embedding @ itq_frame(embedding, start, 1)) ** 2)
    for _ in range(100):
        assert np.sum((B - embedding @ random_orthonormal(5, 5, rng)) ** 2) >= best


def test_one_rotation_serves_both_modalities(latent):
    model = CcaItq().fit(latent, 5, 0)
    directions = canonical_directions(latent, 5, 0.1).scaled()
    rotations = [np.linalg.pinv(directions[g]) @ model.projections[g] for g in latent]
    np.testing.assert_allclose(rotations[0], rotations[1], atol=1e-8)
    np.testing.assert_allclose(rotations[0].T @ rotations[0], np.eye(5), atol=1e-8)


def test_only_the_extended_method_has_more_bits_than_the_narrower_modality(latent):
    assert CcaItq().fit(latent, 16, 0).encode("text", latent["text"]).shape == (300, 7)
    assert CcaItqExtended().fit(latent, 16, 0).encode("text", latent["text"]).shape == (300, 16)


def test_the_extended_method_is_equal_if_the_embedding_fills_the_code(latent):
    first, second = (method.fit(latent, 6, 0) for method in (CcaItq(), CcaItqExtended()))
    np.testing.assert_array_equal(first.train_codes, second.train_codes)


def test_a_width_beyond_the_bits_does_not_lengthen_the_code(latent):
    wide, plain = (CcaItq(width=width).fit(latent, 4, 0) for width in (7, None))
    np.testing.assert_array_equal(wide.train_codes, plain.train_codes)


@pytest.mark.parametrize(("bits", "known"), [(16, (0.437, 0.449)), (32, (0.385, 0.399))])
def test_default_point_reaches_the_known_map_of_the_shipped_emoji(bits, known, tmp_path):
    """``known`` are means over three seeds of an independent implementation."""
    with resources.as_file(resources.files("srch_dist.ingest") / "data" / "emoji.npz") as source:
        task = RetrievalTask.load(ingest_source(source, tmp_path / "emoji.zarr"))
    runs = [score_model(task, CcaItq().fit(task.train, bits, seed))["map"] for seed in range(3)]
    np.testing.assert_allclose(np.mean(runs, axis=0), known, atol=0.015)
