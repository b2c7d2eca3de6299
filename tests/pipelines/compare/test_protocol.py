"""Properties of every baseline."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.compare.baselines.protocol import CodeModel, Method, signs, two_modalities
from pipelines.compare.baselines.ridge_encoder import ridge_encoder
from pipelines.compare.grids import DETERMINISTIC, GRIDS
from pipelines.compare.scoring import real_average_precision
from tests.helpers.paired_data import aligned_pair

DEFAULTS = [grid[0] for grid in GRIDS]
NOT_FILLING = {"CCA-ITQ"}
FLOOR = {"random hyperplanes"}
COMMON_SPACE = {"float cosine", "float PQ, equal bytes", "PCA-ITQ, stacked"}
PQ = {"CCA + PQ, equal bytes", "float PQ, equal bytes"}
REAL = {"float CCA", "float ridge", "float cosine", "CSA", *PQ}
parametrize_methods = pytest.mark.parametrize("method", DEFAULTS, ids=lambda m: m.name)


@pytest.fixture
def pairs(method: Method, clusters):
    """Features and labels for a method: 160 rows in 4 classes, in one common space if it needs one.

    Otherwise the modalities have different dimensions, 12 and 9.
    """
    if method.name in COMMON_SPACE:
        return aligned_pair(160, 12, 4, noise=0.4, seed=3)
    return clusters


def mean_average_precision(distances, relevant):
    return real_average_precision(distances, relevant).mean()


def hamming(left, right):
    return (left[:, None] != right).sum(axis=2).astype(float)


def output(model, modality, X):
    """Codes, or distances to 20 fixed rows, for the comparison of two fits."""
    if isinstance(model, CodeModel):
        return model.encode(modality, X)
    return model.distances(modality, X, modality, X[:20])


def test_signs_of_zero_are_positive():
    assert signs(np.array([-0.5, 0.0, 2.0])).tolist() == [-1, 1, 1]


def test_two_modalities_refuses_a_third():
    X = np.zeros((3, 2))
    with pytest.raises(ValueError, match="got 3"):
        two_modalities({"a": X, "b": X, "c": X})


def test_two_modalities_refuses_unpaired_rows():
    with pytest.raises(ValueError, match=r"3 of 'a' and 4 of 'b'"):
        two_modalities({"a": np.zeros((3, 2)), "b": np.zeros((4, 2))})


@parametrize_methods
@pytest.mark.parametrize("bits", [8, 16])
def test_codes_are_signs_of_the_requested_length(method: Method, bits, pairs):
    """8 bits are fewer than the dimensions of either modality, 16 are more."""
    features, labels = pairs
    model = method.fit(features, bits, 0, labels)
    assert isinstance(model, CodeModel) is (method.name not in REAL)
    if not isinstance(model, CodeModel):
        distances = model.distances("image", features["image"][:5], "text", features["text"])
        assert distances.shape == (5, 160)
        assert np.isfinite(distances).all()
        return
    expected = min(bits, 9) if method.name in NOT_FILLING else bits
    for name, X in features.items():
        codes = model.encode(name, X[:7])
        assert codes.shape == (7, expected)
        assert codes.dtype == np.int8
        assert set(np.unique(codes)) == {-1, 1}
    if model.train_codes is not None:
        assert model.train_codes.shape == (160, expected)
        assert set(np.unique(model.train_codes)) == {-1, 1}


@parametrize_methods
def test_a_fit_depends_on_data_and_seed_only(method: Method, pairs):
    features, labels = pairs
    first, second = (method.fit(features, 16, 7, labels) for _ in range(2))
    for name, X in features.items():
        np.testing.assert_array_equal(output(first, name, X), output(second, name, X))


@parametrize_methods
def test_methods_listed_as_deterministic_ignore_the_seed(method: Method, pairs):
    features, labels = pairs
    X = features["image"]
    one, other = (output(method.fit(features, 16, seed, labels), "image", X) for seed in (0, 1))
    if method.name in DETERMINISTIC:
        np.testing.assert_array_equal(one, other)


@parametrize_methods
def test_only_supervised_methods_read_labels(method: Method, pairs):
    features, labels = pairs
    shuffled = np.random.default_rng(0).permutation(labels)
    X = features["image"]
    same = np.array_equal(
        output(method.fit(features, 8, 0, labels), "image", X),
        output(method.fit(features, 8, 0, shuffled), "image", X),
    )
    assert same is not method.supervised


@parametrize_methods
def test_classes_are_found_across_modalities(method: Method, pairs):
    """Half of the rows are for training and the database, the other half are queries."""
    features, labels = pairs
    train = {name: X[:80] for name, X in features.items()}
    if method.name in PQ:
        train = {name: np.vstack([X, X]) for name, X in train.items()}
    model = method.fit(train, 16, 0, np.resize(labels[:80], (len(train["image"]), 4)))
    relevant = labels[80:] @ labels[:80].T > 0
    Q, X = features["image"][80:], features["text"][:80]
    if isinstance(model, CodeModel):
        distances = hamming(model.encode("image", Q), model.encode("text", X))
    else:
        distances = model.distances("image", Q, "text", X)
    score = mean_average_precision(distances, relevant)
    if method.name in FLOOR:
        assert score < 0.5
    else:
        assert score > 0.7


@parametrize_methods
def test_a_common_ridge_encoder_fits_the_training_codes(method: Method, pairs):
    features, labels = pairs
    model = method.fit(features, 16, 0, labels)
    if not isinstance(model, CodeModel) or model.train_codes is None:
        assert method.name in FLOOR | REAL
        return
    encoder = ridge_encoder(features, model.train_codes)
    codes = [encoder.encode(name, X) for name, X in features.items()]
    assert mean_average_precision(hamming(*codes), labels @ labels.T > 0) > 0.7
