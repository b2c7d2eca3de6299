"""Aggregates along heavy edges, and the multilevel preconditioner built on them."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import block_diag, csr_array, diags_array
from scipy.sparse.linalg import spsolve

from srch_dist.kernels.aggregation import build_hierarchy, match_nodes
from srch_dist.kernels.cascade import (
    jacobi,
    join_pieces,
    no_space,
    row_unknowns,
    shared_space,
    split_hierarchy,
)
from srch_dist.kernels.gradients import solve_whole
from srch_dist.kernels.laplacian import SystemBlock

BETA, LAM, QUOTA = 1.0, 10.0, 12


def neighbour_graph(n, seed, dims=2):
    """Symmetric weights of the ten nearest neighbours of random points."""
    points = np.random.default_rng(seed).normal(size=(n, dims))
    points = points[np.argsort(points[:, 0])]
    distances = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    dense = np.zeros((n, n))
    dense[np.arange(n)[:, None], np.argsort(distances, axis=1)[:, :10]] = 1.0
    return csr_array(np.maximum(dense, dense.T))


def reweighted(graph, seed):
    """The same edges with weights over six orders of magnitude, symmetric."""
    rng = np.random.default_rng(seed)
    factor = 10.0 ** rng.uniform(-6, 0, graph.shape)
    return csr_array(graph.multiply(np.triu(factor) + np.triu(factor, 1).T))


def disconnected(seed):
    """Components of 1, 1, 2, 30 and 200 rows."""
    parts = [neighbour_graph(size, seed) for size in (30, 200)]
    return csr_array(block_diag([np.zeros((1, 1)), np.zeros((1, 1)), np.eye(2)[::-1], *parts]))


GRAPHS = {
    "connected": lambda: neighbour_graph(240, 0),
    "re-weighted": lambda: reweighted(neighbour_graph(240, 0), 1),
    "disconnected": lambda: disconnected(2),
    "disconnected and re-weighted": lambda: reweighted(disconnected(2), 3),
    "no edge": lambda: csr_array((20, 20)),
}


@pytest.fixture(params=GRAPHS)
def coupling(request):
    graph = csr_array(LAM * GRAPHS[request.param]())
    graph.eliminate_zeros()
    graph.sort_indices()
    return graph


def diagonal_of(coupling, beta=BETA):
    return beta + coupling.sum(axis=1)


def preconditioner(coupling, cuts=None, beta=BETA, quota=QUOTA):
    """The cascades of the pieces between ``cuts``, the shared space, and the hierarchy."""
    n = coupling.shape[0]
    diagonal = diagonal_of(coupling, beta)
    hierarchy = build_hierarchy(coupling, diagonal, beta, quota)
    cuts = cuts or [0, n]
    split = split_hierarchy(hierarchy, cuts)
    width = len(split.shared)
    cascades = [
        join_pieces(diagonal[low:high], [piece], [0], width)
        for low, high, piece in zip(cuts[:-1], cuts[1:], split.pieces, strict=True)
    ]
    labels = np.concatenate([row_unknowns(cascade) for cascade in cascades])
    inside = np.flatnonzero(labels >= 0)
    p = csr_array((np.ones(len(inside)), (inside, labels[inside])), shape=(n, width))
    matrix = diags_array(diagonal) - coupling
    return cascades, shared_space(split.shared, split.top, csr_array(p.T @ matrix @ p)), hierarchy


def applied(coupling, cuts=None):
    """M⁻¹ as a dense matrix, by the way of several blocks."""
    cascades, space, _ = preconditioner(coupling, cuts)
    cuts = cuts or [0, coupling.shape[0]]
    parts = [np.eye(cuts[-1])[low:high] for low, high in pairwise(cuts)]
    shared = sum(c.restrict(part) for c, part in zip(cascades, parts, strict=True))
    correction = space.solve(shared)
    return np.concatenate(
        [c.precondition(part, correction) for c, part in zip(cascades, parts, strict=True)]
    )


def dense_formula(coupling):
    """D⁻¹ + Σ P_k E_k P_k' + P (P'AP)⁻¹ P', term by term from the hierarchy."""
    n, diagonal = coupling.shape[0], diagonal_of(coupling)
    hierarchy = preconditioner(coupling)[2]
    total, p = np.diag(1 / diagonal), np.eye(n)
    for parents, inverse in zip(hierarchy.parents, hierarchy.inverse, strict=True):
        p = p @ np.eye(len(inverse))[parents]
        total += p @ np.diag(inverse) @ p.T
    p = p[:, hierarchy.top]
    matrix = np.diag(diagonal) - coupling.toarray()
    return total + p @ np.linalg.solve(p.T @ matrix @ p, p.T)


def test_preconditioner_is_its_formula(coupling):
    np.testing.assert_allclose(applied(coupling), dense_formula(coupling), atol=1e-12)


@pytest.mark.parametrize("shares", [(0, 0.5, 1), (0, 0.1, 0.4, 0.41, 1)])
def test_blocks_apply_the_preconditioner_of_the_whole(coupling, shares):
    cuts = [round(share * coupling.shape[0]) for share in shares]
    np.testing.assert_allclose(applied(coupling, cuts), applied(coupling), atol=1e-12)


def test_preconditioner_is_symmetric_and_positive_definite(coupling):
    matrix = applied(coupling)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_each_level_has_aggregates_without_gaps_and_never_more_coarse_unknowns_than_asked(coupling):
    hierarchy = preconditioner(coupling)[2]
    for parents, inverse in zip(hierarchy.parents, hierarchy.inverse, strict=True):
        np.testing.assert_array_equal(np.unique(parents), np.arange(len(inverse)))
        assert (inverse >= 0).all()
    assert len(hierarchy.top) <= QUOTA


def test_aggregates_stay_inside_components():
    graph = csr_array(LAM * disconnected(2))
    hierarchy = preconditioner(graph)[2]
    component = np.repeat(np.arange(5), [1, 1, 2, 30, 200])
    labels = np.arange(graph.shape[0])
    for parents in hierarchy.parents:
        labels = parents[labels]
        for label in np.unique(labels):
            assert len(np.unique(component[labels == label])) == 1


def test_a_node_joins_its_strongest_neighbour():
    """A path of four rows with the heavy edges at its ends."""
    path = csr_array(np.diag([5.0, 1.0, 7.0], 1) + np.diag([5.0, 1.0, 7.0], -1))
    numbers, count = match_nodes(path, path.sum(axis=1) + 1)
    assert count == 2
    np.testing.assert_array_equal(numbers, [0, 0, 1, 1])


def test_what_is_left_of_a_tight_cluster_pairs_with_no_node_that_the_cluster_hardly_knows():
    """Two clusters of five rows each, with weak ties between them: an odd row is left in both."""
    tight = np.kron(np.eye(2), 10 * (1 - np.eye(5)))
    tight += np.kron(np.eye(2)[::-1], 0.5 * np.eye(5))
    coupling = csr_array(tight)
    hierarchy = build_hierarchy(coupling, diagonal_of(coupling), BETA, 2)
    labels = np.arange(10)
    for parents in hierarchy.parents:
        labels = parents[labels]
        assert not set(labels[:5]) & set(labels[5:])
    assert len(np.unique(labels)) == 2


def test_a_left_over_node_joins_the_pair_of_its_strongest_neighbour():
    """A path of three rows: two pair up, the third joins them."""
    path = csr_array(np.diag([5.0, 4.0], 1) + np.diag([5.0, 4.0], -1))
    numbers, count = match_nodes(path, path.sum(axis=1) + 1)
    assert count == 1
    np.testing.assert_array_equal(numbers, [0, 0, 0])


def solve(coupling, right, coarse, tolerance, beta=BETA, quota=QUOTA):
    diagonal = diagonal_of(coupling, beta)
    if coarse:
        (cascade,), space, _ = preconditioner(coupling, beta=beta, quota=quota)
    else:
        cascade, space = jacobi(diagonal), no_space()
    system = SystemBlock(diagonal, -coupling)
    return solve_whole(system, cascade, space, right, np.zeros_like(right), tolerance, 3000)


@pytest.mark.parametrize("beta", [BETA, 1e-3], ids=["balanced", "paper"])
def test_solution_equals_that_of_a_direct_solver(coupling, beta):
    right = beta * np.random.default_rng(4).choice([-1.0, 1.0], (coupling.shape[0], 8))
    x, last = solve(coupling, right, True, 1e-10, beta)
    matrix = diags_array(diagonal_of(coupling, beta)) - coupling
    assert not last.active.any()
    np.testing.assert_allclose(x, spsolve(matrix.tocsc(), right), atol=1e-6)


@pytest.mark.parametrize("weights", ["first", "re-weighted"])
def test_a_long_thin_graph_takes_few_iterations_with_aggregates_and_many_without(weights):
    graph = neighbour_graph(900, 5, dims=1)
    if weights == "re-weighted":
        graph = reweighted(graph, 6)
    coupling = csr_array(LAM * graph)
    right = np.random.default_rng(7).choice([-1.0, 1.0], (900, 16))
    found = {
        coarse: solve(coupling, right, coarse, 1e-4, quota=32)[1].iterations
        for coarse in (True, False)
    }
    assert found[True] <= 25
    assert found[False] > 1.5 * found[True]
