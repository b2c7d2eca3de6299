"""Aggregation of a graph by subdomains: fixed row ranges are matched alone, then jointly.

Subdomains are fixed ranges of row numbers, independent of blocks and workers, so the
preconditioner does not depend on them either. Each subdomain is matched once. Edges between
aggregates are summed only after every subdomain has reported the aggregates of its rows. Edges
across subdomains then weigh as much as edges inside. A second matching before that would join rows
whose cluster lies in another subdomain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from srch_dist.kernels.multigrid.aggregation import Hierarchy, Nodes, aggregate_once
from srch_dist.kernels.multigrid.coarsening import galerkin_coupling
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import IntArray, Vector

# Rows of a subdomain. Not an option, since the preconditioner and the rounding of Z depend on it.
SUBDOMAIN_ROWS = 1 << 18
# Most rows for which the aggregates of all subdomains are aggregated further, in one task that
# needs about 220 bytes a row. With more rows, an aggregate whose cluster spans subdomains gets its
# smoother or a coarse unknown only.
JOINT_ROWS = 1 << 24
# Edges below this share of the smaller end's diagonal are sparsified: an aggregate keeps at most
# ten of them on average.
_SPARSIFIED_SHARE = 0.1


@dataclass(frozen=True)
class SubdomainAggregates(Sized):
    """The aggregates of a subdomain's rows, without edges.

    Attributes
    ----------
    labels : (rows,) the aggregate of each row.
    diagonal, mass, finer_correction : (m,), see `Nodes`.
    """

    labels: NDArray[np.int32]
    diagonal: Vector
    mass: Vector
    finer_correction: Vector


@dataclass(frozen=True)
class AggregateNumbering(Sized):
    """One numbering of the aggregates of all subdomains.

    Attributes
    ----------
    labels : (n,) the aggregate of each row.
    diagonal : (nodes,) diagonal of P'AP.
    starts : (subdomains + 1,) the first aggregate of each subdomain, then their number.
    """

    labels: NDArray[np.int32]
    diagonal: Vector
    starts: IntArray


def subdomain_spans(rows: int) -> list[tuple[int, int]]:
    """First row and end of each subdomain of n rows."""
    return [(low, min(low + SUBDOMAIN_ROWS, rows)) for low in range(0, rows, SUBDOMAIN_ROWS)]


def aggregate_subdomain(nodes: Nodes) -> tuple[Hierarchy, SubdomainAggregates]:
    """Match the rows of a subdomain once.

    A subdomain without outer rows gets no level here: the joint aggregation serves it as well.
    """
    hierarchy, coarse = Hierarchy((), (), np.empty(0, dtype=np.int64)), nodes
    if len(nodes.outer_diagonal):
        hierarchy, coarse = aggregate_once(nodes)
    labels = hierarchy.parents[0] if hierarchy.parents else np.arange(len(nodes))
    return hierarchy, SubdomainAggregates(
        labels.astype(np.int32), coarse.diagonal, coarse.mass, coarse.finer_correction
    )


def number_aggregates(
    subdomains: Sequence[tuple[NDArray[np.int32], Vector]],
) -> AggregateNumbering:
    """Number the aggregates of all subdomains, from the labels and the diagonal of each."""
    starts = np.cumsum([0, *(len(diagonal) for _, diagonal in subdomains)])
    labels = [own + np.int32(start) for (own, _), start in zip(subdomains, starts, strict=False)]
    diagonals = [diagonal for _, diagonal in subdomains]
    return AggregateNumbering(np.concatenate(labels), np.concatenate(diagonals), starts)


def coarsen_subdomain(
    nodes: Nodes,
    outer: IntArray,
    own: SubdomainAggregates,
    number: int,
    numbering: AggregateNumbering,
) -> Nodes:
    """The aggregates of one subdomain with their edges to all aggregates.

    Parameters
    ----------
    nodes : rows of the subdomain.
    outer : (outer,) row numbers of their outer rows.
    own : aggregates of the subdomain, which has this ``number``.

    Returns
    -------
    Nodes whose ``coupling`` is (m, nodes of all subdomains), float32.
    """
    first = int(numbering.starts[number])
    ends = np.concatenate([first + own.labels, numbering.labels[outer]])
    shape = (len(own.diagonal), len(numbering.diagonal))
    weak = _SPARSIFIED_SHARE * numbering.diagonal
    edges = galerkin_coupling(nodes.coupling, own.labels, ends, first, shape, weak)
    # One task holds the edges of all subdomains, so single precision halves its memory.
    edges.data = edges.data.astype(np.float32)
    return Nodes(edges, own.diagonal, own.mass, own.finer_correction, np.empty(0))


def uncoupled_aggregates(own: SubdomainAggregates, numbering: AggregateNumbering) -> Nodes:
    """The aggregates of one subdomain without edges, for more than `JOINT_ROWS` rows."""
    shape = (len(own.diagonal), len(numbering.diagonal))
    none = scipy.sparse.coo_array(shape, dtype=np.float32)
    return Nodes(
        scipy.sparse.csr_array(none), own.diagonal, own.mass, own.finer_correction, np.empty(0)
    )


def join_subdomains(subdomains: Sequence[Nodes]) -> Nodes:
    """Stack the aggregates of all subdomains, in the order of their rows."""
    coupling = scipy.sparse.vstack([part.coupling for part in subdomains], format="csr")
    diagonal, mass, finer_correction = (
        np.concatenate([getattr(part, name) for part in subdomains])
        for name in ("diagonal", "mass", "finer_correction")
    )
    return Nodes(scipy.sparse.csr_array(coupling), diagonal, mass, finer_correction, np.empty(0))
