"""Aggregate a graph by subdomains: match rows inside each subdomain, then aggregate all jointly.

Subdomains are fixed ranges of row numbers. The preconditioner therefore does not depend on blocks
or workers. Each subdomain is matched once. The edges between aggregates are summed after all
subdomains are matched, so edges between subdomains count like edges inside a subdomain. A second
matching inside a subdomain would join rows whose clusters are in other subdomains.
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
# Up to this number of rows, one task aggregates the aggregates of all subdomains further; it needs
# about 220 bytes per row. With more rows, aggregates are not joined across subdomains.
JOINT_ROWS = 1 << 24
# Edges below this share of the smaller diagonal of both ends are sparsified: an aggregate keeps at
# most ten such edges on average.
_SPARSIFIED_SHARE = 0.1


@dataclass(frozen=True)
class SubdomainAggregates(Sized):
    """The aggregates of a subdomain's rows, without edges.

    Attributes
    ----------
    labels : (rows,) the aggregate of each row.
    diagonal, mass, finer_correction : (aggregates,) see `Nodes`.
    """

    labels: NDArray[np.int32]
    diagonal: Vector
    mass: Vector
    finer_correction: Vector


@dataclass(frozen=True)
class AggregateNumbering(Sized):
    """Consecutive numbers for the aggregates of all subdomains.

    Attributes
    ----------
    labels : (n,) the aggregate of each row.
    diagonal : (aggregates,) diagonal of P'AP.
    starts : (subdomains + 1,) first aggregate of each subdomain, then the number of aggregates.
    """

    labels: NDArray[np.int32]
    diagonal: Vector
    starts: IntArray


def subdomain_spans(rows: int) -> list[tuple[int, int]]:
    """Return the row range (first, end) of each subdomain."""
    return [(low, min(low + SUBDOMAIN_ROWS, rows)) for low in range(0, rows, SUBDOMAIN_ROWS)]


def aggregate_subdomain(nodes: Nodes) -> tuple[Hierarchy, SubdomainAggregates]:
    """Match the rows of a subdomain once.

    A subdomain whose rows have no neighbours outside gets no level here, since the joint
    aggregation can match its rows.
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
    """Number the aggregates of all subdomains; each pair is a subdomain's labels and diagonal."""
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
    """Turn one subdomain's aggregates into nodes, with edges to aggregates of all subdomains.

    Parameters
    ----------
    nodes : rows of the subdomain.
    outer : (outer,) row numbers of the neighbours outside the subdomain.
    own : aggregates of the subdomain.
    number : number of the subdomain.

    Returns
    -------
    Nodes whose ``coupling`` (aggregates, aggregates of all subdomains) is float32.
    """
    first = int(numbering.starts[number])
    ends = np.concatenate([first + own.labels, numbering.labels[outer]])
    shape = (len(own.diagonal), len(numbering.diagonal))
    weak = _SPARSIFIED_SHARE * numbering.diagonal
    edges, _ = galerkin_coupling(nodes.coupling, own.labels, ends, first, shape, weak)
    # One task holds the edges of all subdomains, so single precision halves its memory.
    edges.data = edges.data.astype(np.float32)
    return Nodes(edges, own.diagonal, own.mass, own.finer_correction, np.empty(0))


def uncoupled_aggregates(own: SubdomainAggregates, numbering: AggregateNumbering) -> Nodes:
    """Turn one subdomain's aggregates into nodes without edges.

    For more than `JOINT_ROWS` rows, a run calls this function instead of `coarsen_subdomain`.
    """
    shape = (len(own.diagonal), len(numbering.diagonal))
    none = scipy.sparse.coo_array(shape, dtype=np.float32)
    return Nodes(
        scipy.sparse.csr_array(none), own.diagonal, own.mass, own.finer_correction, np.empty(0)
    )


def join_subdomains(subdomains: Sequence[Nodes]) -> Nodes:
    """Stack the nodes of all subdomains, in the order of their rows."""
    coupling = scipy.sparse.vstack([part.coupling for part in subdomains], format="csr")
    diagonal, mass, finer_correction = (
        np.concatenate([getattr(part, name) for part in subdomains])
        for name in ("diagonal", "mass", "finer_correction")
    )
    return Nodes(scipy.sparse.csr_array(coupling), diagonal, mass, finer_correction, np.empty(0))
