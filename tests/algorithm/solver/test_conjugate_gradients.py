from functools import cache

import numpy as np
import pytest
from scipy.sparse import csc_array
from scipy.sparse.linalg import spsolve

from srch_dist.algorithm.solver.conjugate_gradients import solve
from srch_dist.algorithm.solver.preconditioner import build_preconditioner
from srch_dist.config.options import SolverConfig
from srch_dist.errors import SrchError
from srch_dist.kernels.graph.laplacian import SystemRule, system_block
from srch_dist.runtime import tasks
from tests.helpers import reference

N, BITS, BETA, LAM = 80, 16, 0.5, 10.0


@pytest.fixture(scope="module")
def features():
    return reference.paired_features(0, N, (8, 6))


@pytest.fixture(scope="module")
def graph_of(prepare, features):
    """A function from a number of blocks to the loaded graph."""

    @cache
    def load(blocks):
        options = {"k": 4, "symmetry": "mutual"}
        run = prepare(features, graph=options, partition_rows=16, blocks=blocks)
        assert len(run.plan.blocks) == blocks
        return run.graph()

    return load


@pytest.fixture(params=[1, 3], ids=["one block", "three blocks"])
def graph(request, graph_of):
    return graph_of(request.param)


@pytest.fixture(scope="module")
def matrix(features):
    """βI + λH, from the features alone."""
    graphs = {
        g: reference.adjacency(reference.nearest(reference.normalise(x), 4), "mutual")
        for g, x in features.items()
    }
    h = reference.full_laplacian(graphs, reference.unit_weights(graphs))
    return BETA * np.eye(N) + LAM * h


@pytest.fixture(scope="module")
def right():
    b = np.random.default_rng(1).choice([-1.0, 1.0], (N, BITS))
    b[:, 0] = 1.0
    return BETA * b


def blocks_of(graph, values):
    return [(np.copy, values[slice(*graph.plan.block_span(b))]) for b in graph.plan.blocks]


def run_solver(graph, right, start=None, groups=(slice(None),), **options):
    kind = np.dtype(right.dtype)
    systems = [
        tasks.task(system_block, block, None, SystemRule(BETA, LAM, kind)) for block in graph.blocks
    ]
    start = np.zeros_like(right) if start is None else start
    options = SolverConfig(**{"fused": 4, "coarse": "on", **options})
    preconditioner = build_preconditioner(graph, systems, BETA, options)
    sides = [
        (blocks_of(graph, right[:, columns]), blocks_of(graph, start[:, columns]))
        for columns in groups
    ]
    solved = solve(graph, systems, preconditioner, sides, options)
    found = [np.concatenate(tasks.run_all(solution)) for solution, _ in solved]
    return np.concatenate(found, axis=1), solved[0][1]


def relative_residuals(matrix, right, x):
    return np.linalg.norm(right - matrix @ x, axis=0) / np.linalg.norm(right, axis=0)


@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5])
def test_solution_equals_that_of_a_direct_solver(graph_of, blocks, matrix, right):
    x, _ = run_solver(graph_of(blocks), right, tolerance=1e-10)
    # C is stored in float32.
    np.testing.assert_allclose(x, spsolve(csc_array(matrix), right), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("blocks", [1, 3])
def test_groups_of_columns_are_solved_as_alone(graph_of, blocks, right):
    groups = (slice(0, 3), slice(3, 4), slice(4, None))
    together, _ = run_solver(graph_of(blocks), right, groups=groups, tolerance=1e-6)
    for columns in groups:
        alone, _ = run_solver(graph_of(blocks), right[:, columns], tolerance=1e-6)
        np.testing.assert_array_equal(together[:, columns], alone)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_true_residual_of_every_column_is_within_the_tolerance(graph, matrix, right, tolerance):
    x, last = run_solver(graph, right, tolerance=tolerance)
    assert (relative_residuals(matrix, right, x) <= tolerance + 1e-7).all()
    assert (last.residual <= tolerance).all()


def test_true_residual_is_within_the_tolerance_in_float32(graph, matrix, right):
    x, _ = run_solver(graph, right.astype(np.float32), tolerance=1e-4)
    assert x.dtype == np.float32
    assert (relative_residuals(matrix, right, x.astype(np.float64)) <= 1.02e-4).all()


def test_iterations_do_not_depend_on_the_look_at_the_residual(graph, right):
    x, last = run_solver(graph, right, tolerance=1e-5, fused=3)
    again, other = run_solver(graph, right, tolerance=1e-5, fused=8)
    np.testing.assert_array_equal(x, again)
    assert last.iterations == other.iterations


def test_columns_solved_in_groups_are_bitwise_the_same(graph, right):
    together, _ = run_solver(graph, right, tolerance=1e-5)
    for columns in (slice(0, 8), slice(8, 16)):
        part, _ = run_solver(graph, np.ascontiguousarray(right[:, columns]), tolerance=1e-5)
        np.testing.assert_array_equal(part, together[:, columns])


def test_start_at_the_solution_needs_no_iteration(graph, right):
    x, _ = run_solver(graph, right, tolerance=1e-10)
    again, last = run_solver(graph, right, start=x, tolerance=1e-8)
    assert last.iterations == 0
    np.testing.assert_array_equal(again, x)


def test_too_few_iterations_are_an_error_that_says_what_to_do(graph, right):
    with pytest.raises(SrchError, match=r"after 4 iterations, above solver.tolerance 1.0e-08"):
        run_solver(graph, right, tolerance=1e-8, max_iterations=4, fused=3)


def test_just_enough_iterations_are_no_error(graph, right):
    _, last = run_solver(graph, right, tolerance=1e-4)
    x, again = run_solver(graph, right, tolerance=1e-4, max_iterations=last.iterations)
    assert again.iterations == last.iterations
    with pytest.raises(SrchError):
        run_solver(graph, right, tolerance=1e-4, max_iterations=last.iterations - 1)
    assert np.isfinite(x).all()
