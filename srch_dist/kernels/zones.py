"""Zones of rows: aggregated each on its own first, then together what is left of all.

Zones are fixed runs of row numbers that no plan changes. What a zone can decide without the others
it does, so that only a few nodes of each are ever in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from srch_dist.kernels.aggregation import Hierarchy, Nodes, aggregate_zone
from srch_dist.kernels.laplacian import index_type
from srch_dist.kernels.sizes import Sized

IntArray = NDArray[np.int64]
Row = NDArray[np.float64]

# Rows of a zone, whatever the plan is.
ZONE_ROWS = 1 << 18
# Most rows of which what zones leave is aggregated further, in one task: it takes some 220 bytes a
# row. Beyond, what waits in one zone for another gets a diagonal correction or a coarse unknown.
TOGETHER_ROWS = 1 << 24
# A zone stops where it has fewer nodes than this share of its rows.
_LEFT = 8
# Between what is left, an edge below this share of both ends' diagonals is no longer looked at. An
# edge to a row elsewhere may be one of several to the same node. Where the smaller end alone feels
# an edge it has to be stronger by a factor: such edges are many, but what hangs on a large node by
# them would otherwise be left without a partner. A node keeps 35 edges of that kind at most.
_WEAK, _WEAK_PART = 1.4e-2, 3e-3
_ALONE = 2.2


@dataclass(frozen=True)
class Zone(Sized):
    """What is left of a zone.

    Attributes
    ----------
    nodes : the m nodes left. outer : (outer,) row numbers of the rows elsewhere.
    labels : (rows,) the node that each row is in.
    """

    nodes: Nodes
    outer: IntArray
    labels: NDArray[np.int32]


@dataclass(frozen=True)
class Numbering(Sized):
    """What is left of all zones, in one numbering.

    Attributes
    ----------
    rows : (n,) the node that each row is in. diagonal : (nodes,) of P'AP.
    starts : the first node of each zone, and the number of nodes.
    """

    rows: NDArray[np.int32]
    diagonal: Row
    starts: IntArray


def zone_spans(rows: int) -> list[tuple[int, int]]:
    """First row and end of each zone of n rows."""
    return [(low, min(low + ZONE_ROWS, rows)) for low in range(0, rows, ZONE_ROWS)]


def reduce_zone(nodes: Nodes, outer: IntArray) -> tuple[Hierarchy, Zone]:
    """Aggregate the rows of a zone, whose edges elsewhere go to the rows ``outer`` (outer,).

    A zone without such edges is left as it is: nothing in it has to wait for others.
    """
    least = len(nodes) // _LEFT if len(outer) else len(nodes)
    hierarchy, left = aggregate_zone(nodes, least)
    if len(outer):
        weak = np.repeat([_WEAK, _WEAK_PART], [len(left), len(outer)])
        ends = np.concatenate([left.diagonal, left.outer])
        felt = _felt(left.coupling, left.diagonal, ends, weak)
        # Of all zones there are many edges in one place.
        left = replace(left, coupling=felt.astype(np.float32))
    labels = np.arange(len(nodes))
    for parents in hierarchy.parents:
        labels = parents[labels]
    return hierarchy, Zone(left, outer, labels.astype(np.int32))


def number_nodes(zones: Sequence[tuple[NDArray[np.int32], Row]]) -> Numbering:
    """Number the nodes of all zones, from the ``labels`` of each `Zone` and its diagonal."""
    starts = np.cumsum([0, *(len(diagonal) for _, diagonal in zones)])
    rows = [labels + np.int32(start) for (labels, _), start in zip(zones, starts, strict=False)]
    diagonals = [diagonal for _, diagonal in zones]
    return Numbering(np.concatenate(rows), np.concatenate(diagonals), starts)


def renumber_zone(zone: Zone, number: int, numbering: Numbering) -> Nodes:
    """The nodes of zone ``number`` with their edges (m, nodes of all zones).

    They have none where there are more than `TOGETHER_ROWS` rows.
    """
    nodes, ends = zone.nodes, numbering.diagonal
    if len(numbering.rows) > TOGETHER_ROWS:
        none = scipy.sparse.csr_array((len(nodes), len(ends)), dtype=np.float64)
        return replace(nodes, coupling=none, outer=np.empty(0))
    if not len(zone.outer) and len(nodes) == len(ends):
        return nodes
    start, stop = numbering.starts[number : number + 2]
    kind = index_type(nodes.coupling.nnz, len(ends))
    targets = np.concatenate([np.arange(start, stop), numbering.rows[zone.outer]]).astype(kind)
    parts = (nodes.coupling.data, targets[nodes.coupling.indices], nodes.coupling.indptr)
    edges = scipy.sparse.csr_array(parts, shape=(len(nodes), len(ends)), copy=True)
    if len(zone.outer):
        edges.sum_duplicates()
        edges = _felt(edges, nodes.diagonal, ends, np.full(len(ends), _WEAK))
    return replace(nodes, coupling=edges, outer=np.empty(0))


def _felt(
    coupling: scipy.sparse.csr_array, diagonal: Row, ends: Row, weak: Row
) -> scipy.sparse.csr_array:
    """The edges that both ends (m,), (columns,) feel by ``weak`` (columns,), or one by more."""
    j = coupling.indices
    i = np.repeat(np.arange(len(diagonal), dtype=j.dtype), np.diff(coupling.indptr))
    small, large = np.minimum(diagonal[i], ends[j]), np.maximum(diagonal[i], ends[j])
    kept = coupling.data >= weak[j] * np.minimum(_ALONE * small, large)
    counts = np.bincount(i[kept], minlength=len(diagonal))
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(j.dtype)
    return scipy.sparse.csr_array((coupling.data[kept], j[kept], indptr), shape=coupling.shape)


def join_zones(zones: Sequence[Nodes]) -> Nodes:
    """The nodes of all zones as `renumber_zone` left them."""
    if len(zones) == 1:
        return zones[0]
    coupling = scipy.sparse.vstack([zone.coupling for zone in zones], format="csr")
    diagonal, mass, corrected = (
        np.concatenate([getattr(zone, name) for zone in zones])
        for name in ("diagonal", "mass", "corrected")
    )
    return Nodes(scipy.sparse.csr_array(coupling), diagonal, mass, corrected, np.empty(0))
