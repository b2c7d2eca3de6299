from functools import partial

import numpy as np
import pytest
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import spsolve

from srch_dist.kernels.graph.laplacian import SystemBlock
from srch_dist.kernels.multigrid.conjugate_gradients import solve_single_block
from srch_dist.kernels.multigrid.preconditioner import empty_coarse_space, jacobi_preconditioner

N, BITS = 200, 24


@pytest.fixture(scope="module")
def matrix():
    """A sparse βI + λH over a random graph; row 7 has no edge."""
    rng = np.random.default_rng(0)
    weights = np.triu(rng.random((N, N)) * (rng.random((N, N)) < 0.05), 1)
    weights = weights + weights.T
    weights[7] = weights[:, 7] = 0
    return csr_array(np.diag(0.1 + 10 * weights.sum(axis=1)) - 10 * weights)


@pytest.fixture(scope="module")
def right():
    """Right-hand sides of very different difficulty, so that columns finish at different times."""
    rng = np.random.default_rng(1)
    b = rng.choice([-1.0, 1.0], (N, BITS))
    b[:, 3] = 1.0
    b[:, 9] *= 1e-6
    b[:, 11] = 0.0
    b[7, 11] = 1.0
    return b


def as_system(matrix, dtype=np.float64):
    diagonal = matrix.diagonal()
    off = csr_array(matrix - diags_array(diagonal))
    return SystemBlock(diagonal.astype(dtype), off.astype(dtype))


def relative_residuals(matrix, right, x):
    return np.linalg.norm(right - matrix @ x, axis=0) / np.linalg.norm(right, axis=0)


def solve(matrix, right, tolerance, start=None, limit=1000):
    start = np.zeros_like(right) if start is None else start
    system = as_system(matrix, right.dtype)
    made = (partial(np.copy, right), partial(np.copy, start))
    return solve_single_block(
        system,
        jacobi_preconditioner(system.diagonal),
        empty_coarse_space(1),
        *made,
        tolerance,
        limit,
    )


def test_solution_equals_that_of_a_direct_solver(matrix, right):
    x, _ = solve(matrix, right, 1e-12)
    np.testing.assert_allclose(x, spsolve(matrix.tocsc(), right), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-4, 1e-8, 1e-12])
def test_true_residual_of_every_column_is_within_the_tolerance(matrix, right, tolerance):
    x, last = solve(matrix, right, tolerance)
    true = relative_residuals(matrix, right, x)
    assert (true <= tolerance * 1.01).all()
    np.testing.assert_allclose(last.residual, true, rtol=0.01, atol=1e-13)
    assert not last.active.any()


def test_true_residual_is_within_the_tolerance_in_float32(matrix, right):
    x, _ = solve(matrix, right.astype(np.float32), 1e-4)
    assert x.dtype == np.float32
    assert (relative_residuals(matrix, right, x.astype(np.float64)) <= 1.1e-4).all()


@pytest.mark.parametrize("width", [8, 3, 2])
def test_columns_solved_in_groups_are_bitwise_the_same(matrix, right, width):
    together, _ = solve(matrix, right, 1e-6)
    groups = [
        solve(matrix, np.ascontiguousarray(right[:, c : c + width]), 1e-6)[0]
        for c in range(0, BITS, width)
    ]
    np.testing.assert_array_equal(np.concatenate(groups, axis=1), together)


def test_a_finished_column_is_frozen_while_others_continue(matrix, right):
    easy, last = solve(matrix, right[:, [11, 11]], 1e-6)
    assert last.iterations < solve(matrix, right, 1e-6)[1].iterations
    together, _ = solve(matrix, right, 1e-6)
    np.testing.assert_array_equal(together[:, 11], easy[:, 0])


def test_iterations_are_those_of_the_slowest_column(matrix, right):
    alone = [
        solve(matrix, np.repeat(right[:, [c]], 2, axis=1), 1e-6)[1].iterations for c in range(BITS)
    ]
    assert solve(matrix, right, 1e-6)[1].iterations == max(alone)
    assert min(alone) < max(alone)


def test_iterations_are_those_of_textbook_conjugate_gradients(matrix, right):
    """Preconditioned conjugate gradients by Hestenes and Stiefel, one column."""
    b = right[:, 0]
    inverse = 1 / matrix.diagonal()
    x, r = np.zeros(N), b.copy()
    p = u = inverse * r
    count = 0
    while np.linalg.norm(r) > 1e-6 * np.linalg.norm(b):
        step = (r @ u) / (p @ (matrix @ p))
        x, after = x + step * p, r - step * (matrix @ p)
        beta = (after @ (inverse * after)) / (r @ u)
        r, u = after, inverse * after
        p = u + beta * p
        count += 1
    found, last = solve(matrix, right[:, [0, 0]], 1e-6)
    assert last.iterations == count
    np.testing.assert_allclose(found[:, 0], x, rtol=1e-9, atol=1e-12)


def test_start_at_the_solution_needs_no_iteration(matrix, right):
    exact = spsolve(matrix.tocsc(), right)
    x, last = solve(matrix, right, 1e-8, start=exact)
    assert last.iterations == 0
    np.testing.assert_array_equal(x, exact)


def test_warm_start_needs_fewer_iterations_to_the_same_tolerance(matrix, right):
    near = spsolve(matrix.tocsc(), right) * (1 + 1e-4)
    x, warm = solve(matrix, right, 1e-8, start=near)
    _, cold = solve(matrix, right, 1e-8)
    assert warm.iterations < cold.iterations
    assert (relative_residuals(matrix, right, x) <= 1.01e-8).all()


def test_start_vectors_are_not_changed(matrix, right):
    start = np.ones_like(right)
    solve(matrix, right, 1e-6, start=start)
    np.testing.assert_array_equal(start, 1.0)


def test_too_few_iterations_leave_columns_active(matrix, right):
    x, last = solve(matrix, right, 1e-8, limit=3)
    assert last.iterations == 3
    assert last.active.any()
    true = relative_residuals(matrix, right, x)
    np.testing.assert_allclose(last.residual, true, rtol=1e-6, atol=1e-14)
    np.testing.assert_array_equal(last.active, true > 1e-8)
