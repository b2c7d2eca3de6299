"""Edges between aggregates and pairs of nodes, against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from srch_dist.kernels.multigrid import coarsening, matching
from srch_dist.kernels.multigrid.coarsening import galerkin_coupling, inner_weights, subgraph
from srch_dist.kernels.multigrid.matching import match_nodes

N, COUNT = 300, 70


@pytest.fixture(params=[1, 37, 1 << 19])
def graph(request, monkeypatch):
    """Symmetric weights of a sparse graph, processed in tiles of edges."""
    monkeypatch.setattr(coarsening, "TILE_EDGES", request.param)
    monkeypatch.setattr(matching, "TILE_EDGES", request.param)
    rng = np.random.default_rng(0)
    upper = np.triu(rng.random((N, N)) < 0.04, 1) * rng.lognormal(size=(N, N))
    return scipy.sparse.csr_array(upper + upper.T)


def test_weights_between_aggregates_are_those_of_the_galerkin_product(graph):
    aggregates = np.random.default_rng(1).permutation(np.arange(N) % COUNT)
    ends = aggregates.astype(np.int32)
    edges, inner = galerkin_coupling(graph, ends, ends, 0, (COUNT, COUNT))
    p = np.eye(COUNT)[aggregates]
    product = p.T @ graph.toarray() @ p
    np.testing.assert_allclose(
        inner_weights(graph, aggregates, COUNT), np.diag(product), rtol=1e-12
    )
    np.testing.assert_allclose(inner, np.diag(product), rtol=1e-12)
    np.fill_diagonal(product, 0.0)
    np.testing.assert_allclose(edges.toarray(), product, rtol=1e-12)
    chosen = np.flatnonzero(np.arange(COUNT) % 3)
    np.testing.assert_array_equal(
        subgraph(edges, chosen).toarray(), edges.toarray()[np.ix_(chosen, chosen)]
    )


def test_nodes_pair_along_the_strongest_edges_of_both(graph):
    """An aggregate is a pair along an edge strong for both ends, and nodes that join it."""
    dense, diagonal = graph.toarray(), graph.sum(axis=1) + 1.0
    strength = dense / np.maximum(diagonal[:, None], diagonal)
    numbers, count = match_nodes(graph, diagonal)
    top = strength.max(axis=1)
    assert count < 0.6 * N
    for number in range(count):
        members = np.flatnonzero(numbers == number)
        if len(members) == 1:
            continue
        inside = strength[np.ix_(members, members)]
        least = 0.5 * np.maximum(top[members][:, None], top[members])
        pairs = np.argwhere(np.triu(inside >= least, 1) & (inside > 0))
        assert len(pairs)
        # Any other member has its strongest edge to a member.
        alone = np.setdiff1d(np.arange(len(members)), pairs.ravel())
        np.testing.assert_allclose(inside[alone].max(axis=1, initial=0.0), top[members[alone]])
