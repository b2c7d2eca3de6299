"""Bases of the codes' leading directions, against a dense eigendecomposition."""

import numpy as np
import pytest

from srch_dist.kernels.code_basis import code_coordinates, first_basis, leading_basis
from srch_dist.kernels.packed_codes import pack_codes

BITS, RANK = 40, 11


@pytest.fixture
def codes():
    """Codes of 16 directions and noise, so that eigenvalues differ."""
    rng = np.random.default_rng(0)
    low = rng.normal(size=(500, 16)) @ rng.normal(size=(16, BITS))
    return np.where(low + rng.normal(size=low.shape) >= 0, 1, -1).astype(np.int8)


def projection(basis):
    return basis @ basis.T


def leading_directions(codes, count):
    return np.linalg.svd(codes.astype(float), full_matrices=False)[2][:count].T


def test_first_basis_is_orthonormal_and_involves_all_bits_alike():
    basis = first_basis(BITS, RANK)
    np.testing.assert_allclose(basis.T @ basis, np.eye(RANK), atol=1e-5)
    assert np.linalg.norm(basis, axis=1).min() > 0.3 * np.sqrt(RANK / BITS)


def test_leading_basis_spans_the_principal_directions(codes):
    gram = codes.astype(float).T @ codes
    basis = leading_basis(gram, first_basis(BITS, RANK))
    expected = projection(leading_directions(codes, RANK))
    np.testing.assert_allclose(projection(basis), expected, atol=1e-5)


def test_leading_basis_is_the_nearest_to_the_previous_one(codes):
    gram = codes.astype(float).T @ codes
    basis = leading_basis(gram, first_basis(BITS, RANK))
    # A basis of nearly the same subspace, rotated inside it, is found again.
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(RANK, RANK)))[0]
    np.testing.assert_allclose(leading_basis(gram, basis @ rotation), basis @ rotation, atol=1e-5)


def test_codes_of_few_directions_keep_all_of_them(codes):
    """Equal and opposite bits leave fewer directions than columns."""
    few = np.repeat(codes[:, :5], 8, axis=1) * np.tile([1, -1], 20).astype(np.int8)
    gram = few.astype(float).T @ few
    basis = leading_basis(gram, first_basis(BITS, RANK))
    wide = few.astype(float)
    np.testing.assert_allclose(wide @ projection(basis), wide, atol=1e-4)


@pytest.mark.parametrize("bits", [8, 64, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coordinates_are_exact_in_both_precisions(bits, dtype):
    """Products equal the sums of exact fractions, in any grouping of rows and columns."""
    rng = np.random.default_rng(2)
    codes = np.where(rng.random((23, bits)) < 0.5, -1, 1).astype(np.int8)
    basis = first_basis(bits, min(bits, 7))
    exact = np.sum(codes[:, :, None].astype(np.longdouble) * basis[None], axis=1)
    packed, kind = pack_codes(codes), np.dtype(dtype)
    found = code_coordinates(packed, basis, slice(None), kind)
    np.testing.assert_array_equal(found, exact.astype(float))
    parts = [code_coordinates(packed[:5], basis, slice(k, k + 1), kind) for k in range(7)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), found[:5])


def test_without_a_basis_the_coordinates_are_the_codes(codes):
    found = code_coordinates(pack_codes(codes), None, slice(3, 9), np.dtype(np.float32))
    np.testing.assert_array_equal(found, codes[:, 3:9])
