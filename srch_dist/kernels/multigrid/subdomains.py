"""Zones of rows: matched once each on its own, then together what is left of all.

Zones are fixed runs of row numbers that no plan changes. Only once every zone has told which
aggregates its rows have become are edges between aggregates added up, so that a cluster elsewhere
weighs as much as one inside; a second matching before that would join what belongs elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from srch_dist.kernels.multigrid.aggregation import Hierarchy, Nodes, aggregate_zone
from srch_dist.kernels.multigrid.coarsening import contract
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import IntArray, Vector

# Rows of a zone, whatever the plan is.
ZONE_ROWS = 1 << 18
# Most rows of which what zones leave is aggregated further, in one task: it takes some 220 bytes a
# row. Beyond, what waits in one zone for another gets a diagonal correction or a coarse unknown.
TOGETHER_ROWS = 1 << 24
# Of edges below this share of the smaller end's diagonal some are drawn to stand for all, so that
# an aggregate has ten on the mean at most.
DRAWN = 0.1


@dataclass(frozen=True)
class Zone(Sized):
    """The aggregates of a zone's rows.

    Attributes
    ----------
    labels : (rows,) the aggregate that each row is in. diagonal, mass, corrected : (m,), as of
        `Nodes`.
    """

    labels: NDArray[np.int32]
    diagonal: Vector
    mass: Vector
    corrected: Vector


@dataclass(frozen=True)
class Numbering(Sized):
    """The aggregates of all zones in one numbering.

    Attributes
    ----------
    rows : (n,) the aggregate that each row is in. diagonal : (nodes,) of P'AP.
    starts : the first aggregate of each zone, and the number of them.
    """

    rows: NDArray[np.int32]
    diagonal: Vector
    starts: IntArray


def zone_spans(rows: int) -> list[tuple[int, int]]:
    """First row and end of each zone of n rows."""
    return [(low, min(low + ZONE_ROWS, rows)) for low in range(0, rows, ZONE_ROWS)]


def reduce_zone(nodes: Nodes) -> tuple[Hierarchy, Zone]:
    """Match the rows of a zone once.

    A zone without edges elsewhere is left as it is: nothing in it has to wait for others.
    """
    hierarchy, left = Hierarchy((), (), np.empty(0, dtype=np.int64)), nodes
    if len(nodes.outer):
        hierarchy, left = aggregate_zone(nodes)
    labels = hierarchy.parents[0] if hierarchy.parents else np.arange(len(nodes))
    return hierarchy, Zone(labels.astype(np.int32), left.diagonal, left.mass, left.corrected)


def number_nodes(zones: Sequence[tuple[NDArray[np.int32], Vector]]) -> Numbering:
    """Number the aggregates of all zones, from the ``labels`` and the diagonal of each `Zone`."""
    starts = np.cumsum([0, *(len(diagonal) for _, diagonal in zones)])
    rows = [labels + np.int32(start) for (labels, _), start in zip(zones, starts, strict=False)]
    diagonals = [diagonal for _, diagonal in zones]
    return Numbering(np.concatenate(rows), np.concatenate(diagonals), starts)


def contract_zone(
    nodes: Nodes, outer: IntArray, zone: Zone, number: int, numbering: Numbering
) -> Nodes:
    """The aggregates of zone ``number`` with their edges (m, aggregates of all zones).

    ``nodes`` are its rows, whose edges elsewhere go to the rows ``outer`` (outer,).
    """
    first = int(numbering.starts[number])
    ends = np.concatenate([first + zone.labels, numbering.rows[outer]])
    shape = (len(zone.diagonal), len(numbering.diagonal))
    weak = DRAWN * numbering.diagonal
    edges = contract(nodes.coupling, zone.labels, ends, first, shape, weak)
    # Of all zones there are many in one place, so they are of single precision there.
    edges.data = edges.data.astype(np.float32)
    return Nodes(edges, zone.diagonal, zone.mass, zone.corrected, np.empty(0))


def without_edges(zone: Zone, numbering: Numbering) -> Nodes:
    """The aggregates of a zone where they are not matched any further."""
    shape = (len(zone.diagonal), len(numbering.diagonal))
    none = scipy.sparse.coo_array(shape, dtype=np.float32)
    return Nodes(
        scipy.sparse.csr_array(none), zone.diagonal, zone.mass, zone.corrected, np.empty(0)
    )


def join_zones(zones: Sequence[Nodes]) -> Nodes:
    """The aggregates of all zones, as `contract_zone` left them."""
    coupling = scipy.sparse.vstack([zone.coupling for zone in zones], format="csr")
    diagonal, mass, corrected = (
        np.concatenate([getattr(zone, name) for zone in zones])
        for name in ("diagonal", "mass", "corrected")
    )
    return Nodes(scipy.sparse.csr_array(coupling), diagonal, mass, corrected, np.empty(0))
