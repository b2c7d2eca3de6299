"""Edges between the aggregates of subdomains, and their joint aggregation."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from srch_dist.kernels.multigrid import subdomains
from srch_dist.kernels.multigrid.aggregation import build_hierarchy, row_nodes

BETA = 1.0


def joined(coupling: scipy.sparse.csr_array, monkeypatch, rows: int) -> subdomains.Nodes:
    """The joint nodes of a graph with symmetric weights, in subdomains of ``rows`` rows."""
    monkeypatch.setattr(subdomains, "SUBDOMAIN_ROWS", rows)
    diagonal = BETA + coupling.sum(axis=1)
    cut = []
    for low, high in subdomains.subdomain_spans(len(diagonal)):
        part = coupling[low:high].tocsr()
        inside = (part.indices >= low) & (part.indices < high)
        outer = np.unique(part.indices[~inside]).astype(np.int64)
        local = np.where(
            inside, part.indices - low, high - low + np.searchsorted(outer, part.indices)
        )
        own = scipy.sparse.csr_array(
            (part.data, local, part.indptr), shape=(high - low, high - low + len(outer))
        )
        nodes = row_nodes(own, diagonal[low:high], BETA, diagonal[outer])
        cut.append((nodes, outer))
    found = [subdomains.aggregate_subdomain(nodes)[1] for nodes, _ in cut]
    numbering = subdomains.number_aggregates([(own.labels, own.diagonal) for own in found])
    return subdomains.join_subdomains(
        [subdomains.coarsen_subdomain(*cut[k], own, k, numbering) for k, own in enumerate(found)]
    )


def test_rows_that_hang_on_a_large_node_of_another_subdomain_join_it(monkeypatch):
    """The edge is weak for that node, but the only one of the rows that hang on it."""
    hub, leaves = 64, 192
    weights = np.zeros((hub + leaves, hub + leaves))
    weights[:hub, :hub] = 50.0
    weights[np.arange(hub, hub + leaves), np.arange(leaves) % hub] = 5.0
    weights = np.triu(weights + weights.T, 1)
    nodes = joined(scipy.sparse.csr_array(weights + weights.T), monkeypatch, 64)
    assert nodes.diagonal.max() > 100 * 5.0
    hanging = np.flatnonzero(nodes.diagonal - nodes.mass == 5.0)
    assert len(hanging) == leaves
    assert (np.diff(nodes.coupling.indptr)[hanging] == 1).all()
    hierarchy = build_hierarchy(nodes, 4)
    labels = np.arange(len(nodes))
    for parents in hierarchy.parents:
        labels = parents[labels]
    assert len(set(labels.tolist())) <= 4


def test_sparsified_edges_keep_their_sums(monkeypatch):
    """Both ends keep the same edges, and sparsified sums keep their expectation."""
    rng = np.random.default_rng(0)
    n = 1200
    weights = np.triu(rng.random((n, n)) < 0.5, 1) * rng.uniform(0.01, 0.02, (n, n))
    weights[np.arange(0, n, 2), np.arange(1, n, 2)] = 40.0
    graph = scipy.sparse.csr_array(weights + weights.T)
    nodes = joined(graph, monkeypatch, 100)
    assert len(nodes) == n // 2
    dense = nodes.coupling.toarray()
    np.testing.assert_allclose(dense, dense.T, rtol=1e-5)
    pairs = (weights + weights.T).reshape(n // 2, 2, n // 2, 2).sum(axis=(1, 3))
    np.fill_diagonal(pairs, 0.0)
    assert nodes.coupling.nnz < 0.5 * np.count_nonzero(pairs)
    np.testing.assert_allclose(dense.sum(), pairs.sum(), rtol=0.06)
    halves = np.add.reduceat(np.add.reduceat(pairs, [0, 300], axis=0), [0, 300], axis=1)
    found = np.add.reduceat(np.add.reduceat(dense, [0, 300], axis=0), [0, 300], axis=1)
    np.testing.assert_allclose(found, halves, rtol=0.1)
    np.testing.assert_allclose(nodes.diagonal, BETA * 2 + pairs.sum(axis=1), rtol=1e-6)
