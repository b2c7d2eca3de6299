"""What zones leave over: its edges, and what becomes of it together."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from srch_dist.kernels import zones
from srch_dist.kernels.aggregation import build_hierarchy, row_nodes

BETA = 1.0


def joined(coupling: scipy.sparse.csr_array, monkeypatch, rows: int) -> zones.Nodes:
    """What zones of ``rows`` rows leave of a graph with symmetric weights, in one numbering."""
    monkeypatch.setattr(zones, "ZONE_ROWS", rows)
    diagonal = BETA + coupling.sum(axis=1)
    left = []
    for low, high in zones.zone_spans(len(diagonal)):
        part = coupling[low:high].tocsr()
        inside = (part.indices >= low) & (part.indices < high)
        outer = np.unique(part.indices[~inside]).astype(np.int64)
        local = np.where(
            inside, part.indices - low, high - low + np.searchsorted(outer, part.indices)
        )
        cut = scipy.sparse.csr_array(
            (part.data, local, part.indptr), shape=(high - low, high - low + len(outer))
        )
        nodes = row_nodes(cut, diagonal[low:high], BETA, diagonal[outer])
        left.append(zones.reduce_zone(nodes, outer)[1])
    numbering = zones.number_nodes([(zone.labels, zone.nodes.diagonal) for zone in left])
    return zones.join_zones(
        [zones.renumber_zone(zone, k, numbering) for k, zone in enumerate(left)]
    )


def test_what_hangs_on_a_large_node_elsewhere_joins_it(monkeypatch):
    """For that node such an edge is next to nothing; for the rows that hang on it, it is all."""
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
