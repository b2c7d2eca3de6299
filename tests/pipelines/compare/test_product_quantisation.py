from __future__ import annotations

import faiss
import numpy as np
import pytest

from pipelines.compare.baselines.cca import FloatCca
from pipelines.compare.baselines.product_quantisation import CcaProductQuantiser


@pytest.fixture
def model(latent):
    return CcaProductQuantiser(width=5).fit(latent, 16, 0)


def test_distances_agree_with_a_faiss_index(latent, model):
    index = faiss.IndexPQ(model.quantiser.d, 2, 8)
    index.pq = model.quantiser
    index.is_trained = True
    index.add(model.embedding.embed("text", latent["text"]).astype(np.float32))
    queries = model.embedding.embed("image", latent["image"][:9]).astype(np.float32)
    found, rows = index.search(queries, 300)
    ours = model.distances("image", latent["image"][:9], "text", latent["text"])
    np.testing.assert_allclose(np.take_along_axis(ours, rows, axis=1), found, atol=1e-5)


def test_symmetric_distances_are_between_decoded_rows(latent):
    model = CcaProductQuantiser(width=5, symmetric=True).fit(latent, 16, 0)
    decoded = [
        model.quantiser.decode(model.encode_bytes(name, X[:8])) for name, X in latent.items()
    ]
    expected = np.sum((decoded[0][:, None] - decoded[1]) ** 2, axis=2)
    ours = model.distances("image", latent["image"][:8], "text", latent["text"][:8])
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("bits", [16, 64])
def test_a_row_has_one_byte_per_eight_bits(latent, bits):
    model = CcaProductQuantiser(width=5).fit(latent, bits, 0)
    codes = model.encode_bytes("image", latent["image"][:3])
    assert codes.shape == (3, bits // 8)
    assert codes.dtype == np.uint8


def test_rotation_keeps_the_distances_of_the_embedding(latent, model):
    reference = FloatCca(width=5).fit(latent, 0, 0)
    X, Y = latent["image"][:6], latent["text"][:6]
    np.testing.assert_allclose(
        model.embedding.distances("image", X, "text", Y),
        reference.distances("image", X, "text", Y),
        atol=1e-10,
    )


def test_more_bytes_approach_the_real_distances(latent):
    reference = FloatCca(width=5).fit(latent, 0, 0)
    args = ("image", latent["image"][:50], "text", latent["text"])
    exact = 2 + 2 * reference.distances(*args)
    errors = [
        np.mean((CcaProductQuantiser(width=5).fit(latent, b, 0).distances(*args) - exact) ** 2)
        for b in (8, 16, 40)
    ]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("bits", [0, 12])
def test_fractions_of_bytes_are_refused(latent, bits):
    with pytest.raises(ValueError, match=f"{bits} bits"):
        CcaProductQuantiser().fit(latent, bits, 0)
