import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from srch_dist.kernels.graph.adjacency import (
    Adjacency,
    build_adjacency,
    component_stars,
    connect_rows,
    degrees,
    directed_pairs,
    edge_weights,
    modality_weights,
    symmetrise,
)
from tests.helpers import reference

N = 40


@pytest.fixture(scope="module")
def neighbours():
    """Neighbour rows (n, k) of two modalities, with some missing in the second."""
    features = reference.paired_features(0, N, (6, 5))
    found = [reference.nearest(x, 4) for x in features.values()]
    found[1][::3, 2:] = -1
    return found


def dense(neighbours, symmetry):
    directed = np.zeros((N, N), dtype=bool)
    for i, row in enumerate(neighbours):
        directed[i, row[row >= 0]] = True
    return directed & directed.T if symmetry == "mutual" else directed | directed.T


def block_adjacency(neighbours, start, stop, symmetry):
    """The adjacency of rows ``start`` … ``stop`` - 1 by the kernels."""
    keys = []
    for found in neighbours:
        rows, others = directed_pairs(found, 0)
        own, reverse = (rows >= start) & (rows < stop), (others >= start) & (others < stop)
        outgoing = (rows[own] - start) * N + others[own]
        incoming = (others[reverse] - start) * N + rows[reverse]
        keys.append(symmetrise(outgoing, incoming, symmetry == "mutual"))
    return build_adjacency(keys, stop - start, N)


def test_directed_pairs_name_each_neighbour_and_leave_missing_ones_out():
    rows, others = directed_pairs(np.array([[5, -1], [6, 2]]), 10)
    np.testing.assert_array_equal(rows, [10, 11, 11])
    np.testing.assert_array_equal(others, [5, 6, 2])


@pytest.mark.parametrize("symmetry", ["union", "mutual"])
@pytest.mark.parametrize("span", [(0, N), (0, 13), (13, 27), (39, 40)])
def test_adjacency_equals_the_dense_graphs(neighbours, symmetry, span):
    start, stop = span
    adjacency = block_adjacency(neighbours, start, stop, symmetry)
    graphs = [dense(found, symmetry)[start:stop] for found in neighbours]
    rows, columns = np.nonzero(graphs[0] | graphs[1])
    np.testing.assert_array_equal(
        np.repeat(np.arange(stop - start), np.diff(adjacency.indptr)), rows
    )
    np.testing.assert_array_equal(adjacency.indices, columns)
    np.testing.assert_array_equal(
        adjacency.members, np.stack([graph[rows, columns] for graph in graphs], axis=1)
    )


def test_rows_of_an_adjacency_are_its_part(neighbours):
    whole = block_adjacency(neighbours, 0, N, "union")
    part = whole.rows(11, 20)
    direct = block_adjacency(neighbours, 11, 20, "union")
    np.testing.assert_array_equal(part.indptr, direct.indptr)
    np.testing.assert_array_equal(part.indices, direct.indices)
    np.testing.assert_array_equal(part.members, direct.members)


@pytest.mark.parametrize("symmetry", ["union", "mutual"])
def test_degrees_count_distinct_undirected_edges(neighbours, symmetry):
    adjacency = block_adjacency(neighbours, 0, N, symmetry)
    expected = np.stack([dense(found, symmetry).sum(axis=1) for found in neighbours], axis=1)
    np.testing.assert_array_equal(degrees(adjacency), expected)


def test_degrees_of_rows_without_edges_are_zero():
    adjacency = build_adjacency([np.array([1 * 5 + 2]), np.empty(0, dtype=np.int64)], 4, 5)
    np.testing.assert_array_equal(degrees(adjacency), [[0, 0], [1, 0], [0, 0], [0, 0]])


@pytest.mark.parametrize("symmetry", ["union", "mutual"])
def test_weights_are_those_of_equation_6(neighbours, symmetry):
    start, stop = 8, 31
    graphs = [dense(found, symmetry) for found in neighbours]
    all_degrees = np.stack([graph.sum(axis=1) for graph in graphs], axis=1)
    adjacency = block_adjacency(neighbours, start, stop, symmetry)
    weights = edge_weights(
        adjacency, all_degrees[start:stop], all_degrees[adjacency.indices], all_degrees.mean(axis=0)
    )
    owners = np.repeat(np.arange(start, stop), np.diff(adjacency.indptr))
    for g, graph in enumerate(graphs):
        expected = np.zeros((N, N))
        i, j = reference.edges_of(graph)
        expected[i, j] = expected[j, i] = reference.edge_weights(graph)
        np.testing.assert_allclose(weights[:, g], expected[owners, adjacency.indices], rtol=1e-6)


def lowest_of_components(nodes, others, n):
    """The lowest node of each node's component, by SciPy."""
    graph = coo_array((np.ones(len(nodes)), (nodes, others)), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    return np.array([np.flatnonzero(labels == label)[0] for label in labels])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24)), max_size=30), st.integers(0, 30))
def test_components_are_those_of_scipy_for_any_split_of_the_edges(edges, cut):
    nodes, others = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    parts = [component_stars(nodes[:cut], others[:cut]), component_stars(nodes[cut:], others[cut:])]
    both = np.concatenate(parts)
    stars = component_stars(both[:, 0], both[:, 1])
    lowest = np.arange(25)
    lowest[stars[:, 0]] = stars[:, 1]
    expected = lowest_of_components(nodes, others, 25)
    np.testing.assert_array_equal(lowest, expected)
    assert 25 - len(stars) == len(np.unique(expected))


@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_rows_connected_in_tiles_have_the_same_components(at_once, monkeypatch):
    monkeypatch.setattr("srch_dist.kernels.graph.adjacency.CONNECTED_EDGES", at_once)
    rng = np.random.default_rng(4)
    neighbours = np.sort(rng.integers(0, 60, size=(20, 2)), axis=1)
    indptr = np.arange(0, 41, 2)
    members = np.ones((40, 1), dtype=bool)
    found = connect_rows(Adjacency(indptr, neighbours.ravel(), members), 10)
    expected = component_stars(np.repeat(np.arange(10, 30), 2), neighbours.ravel())
    np.testing.assert_array_equal(found, expected)


def test_modalities_are_weighted_by_their_share_of_mutual_edges():
    weights = modality_weights(np.array([0.2, 0.4, 0.6]))
    np.testing.assert_allclose(weights, 3 * np.array([1, 8, 27]) / 36, rtol=1e-12)


def test_the_share_of_mutual_edges_is_capped():
    np.testing.assert_allclose(modality_weights(np.array([0.65, 0.9])), [1.0, 1.0])


def test_graphs_without_a_mutual_edge_have_equal_weights():
    np.testing.assert_array_equal(modality_weights(np.zeros(2)), [1.0, 1.0])
