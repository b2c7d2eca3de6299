"""Aggregation hierarchy of a weighted graph: repeated matching of strongly coupled nodes.

Aggregation-based multigrid after Y. Notay, "An aggregation-based algebraic multigrid method",
Electron. Trans. Numer. Anal. 37, 2010. Prolongation is unsmoothed: column j of P_k is the indicator
vector of aggregate j. The hierarchy is rebuilt after every S-step, since it follows the edge
weights. It depends on the weights and the row numbers alone, not on blocks or workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from srch_dist.kernels.multigrid.coarsening import (
    aggregate_sums,
    galerkin_coupling,
    inner_weights,
    subgraph,
)
from srch_dist.kernels.multigrid.matching import match_nodes
from srch_dist.kernels.permutations import inverse_permutation
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import IntArray, Vector

# Fewest rows per coarse unknown, and most coarse unknowns. The product with their dense inverse
# then costs less than the sparse product with A.
_ROWS_PER_UNKNOWN, _MAX_UNKNOWNS = 64, 2048
# With fewer rows, building the hierarchy takes longer than the CG iterations that it saves.
_MIN_ROWS = 16_384
_MAX_LEVELS = 14
# A matching is a level only if at most this share of the coupled nodes remains. The first ratio is
# for edges that are strong for both ends. The last attempt uses edges that are strong for one end.
_COARSENING_RATIO, _LAST_COARSENING_RATIO = 0.8, 0.95
# An aggregate is isolated if its coupling to others is below this share of its diagonal.
_ISOLATED = 1e-2


@dataclass(frozen=True)
class Hierarchy(Sized):
    """Aggregation hierarchy: nested aggregates of nodes, on levels k ≥ 1 above the nodes (level 0).

    Level k has m_k nodes. As a preconditioner, the hierarchy is M⁻¹ = Σ_k P_k E_k P_k'.

    Attributes
    ----------
    parents : for each level k, the aggregate (m_{k-1},) int64 of each node of level k - 1.
    smoothers : for each level k, the diagonal (m_k,) of E_k. An entry is 1 / diag(P_k'AP_k), minus
        the correction by finer levels, but at least 0. The entry of an aggregate of one node is 0.
        Without the subtraction, every level would correct smooth vectors again.
    coarse_nodes : nodes of the last level that become coarse unknowns, ascending.
    """

    parents: tuple[IntArray, ...]
    smoothers: tuple[Vector, ...]
    coarse_nodes: IntArray


@dataclass(frozen=True)
class Nodes(Sized):
    """Nodes of one level (rows or aggregates), with edges to each other and to outer rows.

    Outer rows are neighbours outside the subdomain. In shapes, m is the number of nodes, and outer
    the number of outer rows.

    Attributes
    ----------
    coupling : (m, m + outer) CSR with zero diagonal. An entry is the sum of λCS² over the edges
        between two nodes, or between a node and an outer row.
    diagonal : (m,) diagonal of P'AP, with A = βI + λH.
    mass : (m,) β × number of rows of each node, the part of the diagonal without coupling.
    finer_correction : (m,) correction by finer levels, v'Fv / (v'v)². Here v is the indicator
        vector of a node, and F = D⁻¹ + Σ P_k E_k P_k' over the levels so far. It has the scale of
        1 / diagonal = 1 / (v'Av).
    outer_diagonal : (outer,) diagonal of A at the outer rows.
    """

    coupling: scipy.sparse.csr_array
    diagonal: Vector
    mass: Vector
    finer_correction: Vector
    outer_diagonal: Vector

    def __len__(self) -> int:
        return len(self.diagonal)


def coarse_unknowns(rows: int, choice: str) -> int:
    """Compute the upper limit of the number of coarse unknowns; 0 means the Jacobi preconditioner.

    Parameters
    ----------
    choice : the option ``solver.coarse``: "on", "off", or "auto", which is "on" from 16,384 rows.
    """
    if choice == "off" or (choice == "auto" and rows < _MIN_ROWS):
        return 0
    return min(_MAX_UNKNOWNS, max(32, rows // _ROWS_PER_UNKNOWN))


def row_nodes(
    coupling: scipy.sparse.csr_array,
    diagonal: Vector,
    beta: float,
    outer_diagonal: Vector | None = None,
) -> Nodes:
    """Make the nodes of level 0: each row is a node.

    Parameters
    ----------
    coupling : (rows, rows + outer) CSR of λCS².
    diagonal : (rows,) diagonal of βI + λH.
    outer_diagonal : (outer,) diagonal at the outer rows; None without outer rows.
    """
    outer = np.empty(0) if outer_diagonal is None else outer_diagonal
    return Nodes(coupling, diagonal, np.full(len(diagonal), beta), 1 / diagonal, outer)


def aggregate_once(nodes: Nodes) -> tuple[Hierarchy, Nodes]:
    """Build one level over nodes that have edges to outer rows.

    A node whose strongest edge leads to an outer row stays alone. If nearly all nodes stay alone,
    the hierarchy has no level.

    Returns
    -------
    The hierarchy, and its aggregates without edges. The caller adds the edges after all subdomains
    are matched.
    """
    matched = _match_level(nodes, 0, ((np.maximum, _LAST_COARSENING_RATIO),))
    if matched is None:
        return Hierarchy((), (), np.empty(0, dtype=np.int64)), nodes
    aggregates, count = matched
    inner = inner_weights(nodes.coupling, aggregates, count)
    smoother, coarse = _coarsen(nodes, aggregates, inner)
    return Hierarchy((aggregates,), (smoother,), np.empty(0, dtype=np.int64)), coarse


def build_hierarchy(nodes: Nodes, max_coarse: int) -> Hierarchy:
    """Aggregate nodes level by level, until at most ``max_coarse`` coupled nodes remain.

    A node is isolated if its edges are negligible against its diagonal; all other nodes are
    coupled. The nodes must have no edges to outer rows.

    Every matching makes one level. Skipping levels would save little work per CG iteration, but
    CG would need more iterations.

    Isolated aggregates come last on their level. On coarser levels, a single node with smoother 0
    replaces all isolated aggregates.
    """
    # The second attempt matches nodes whose edges are strong for one end only.
    attempts = ((np.maximum, _COARSENING_RATIO), (np.minimum, _LAST_COARSENING_RATIO))
    parents: list[IntArray] = []
    smoothers: list[Vector] = []
    width = len(nodes)  # number of nodes of the level, with isolated ones
    for _ in range(_MAX_LEVELS):
        matched = _match_level(nodes, max_coarse, attempts)
        if matched is None:
            break
        placeholder = int(width > len(nodes))
        level = np.full(width, matched[1])
        level[: len(nodes)], smoother, nodes = _coupled_first(nodes, *matched)
        parents.append(level)
        smoothers.append(np.concatenate([smoother, np.zeros(placeholder)]))
        width = len(smoothers[-1])
    if not parents:
        # Coarse unknowns need at least one level.
        parents, smoothers = [np.arange(len(nodes))], [np.zeros(len(nodes))]
    coupled = _coupling_sums(nodes)
    chosen = np.argsort(-coupled, kind="stable")[:max_coarse]
    coarse = np.sort(chosen[coupled[chosen] > _ISOLATED * nodes.diagonal[chosen]])
    smoothers[-1][coarse] = 0.0
    return Hierarchy(tuple(parents), tuple(smoothers), coarse)


def _coupled_first(
    nodes: Nodes, aggregates: IntArray, count: int
) -> tuple[IntArray, Vector, Nodes]:
    """Renumber the aggregates so that isolated ones come last.

    Returns each node's new aggregate number (nodes,), the smoother of the level (count,), and the
    coupled aggregates as nodes of the next level.
    """
    # Keep the dtype of the indices: a wider dtype doubles the memory of the edges.
    ends = aggregates.astype(nodes.coupling.indices.dtype)
    edges, inner = galerkin_coupling(nodes.coupling, ends, ends, 0, (count, count))
    smoother, coarse = _coarsen(nodes, aggregates, inner)
    isolated = _coupling_sums(coarse) <= _ISOLATED * coarse.diagonal
    order = np.argsort(isolated, kind="stable")
    aggregates = inverse_permutation(order)[aggregates]
    coupled = order[: count - np.count_nonzero(isolated)]
    kept = Nodes(
        subgraph(edges, coupled),
        coarse.diagonal[coupled],
        coarse.mass[coupled],
        coarse.finer_correction[coupled],
        nodes.outer_diagonal,
    )
    return aggregates, smoother[order], kept


def _match_level(
    nodes: Nodes, enough: int, attempts: tuple[tuple[np.ufunc, float], ...]
) -> tuple[IntArray, int] | None:
    """Match the nodes of one level; return their aggregates and the number of aggregates.

    ``attempts`` are pairs: the argument ``combine`` of `match_nodes`, and a coarsening ratio. The
    first attempt that reaches its ratio is the result. The result is None if no attempt reaches
    its ratio, or if at most ``enough`` nodes are coupled.
    """
    coupled = np.count_nonzero(_coupling_sums(nodes) > _ISOLATED * nodes.diagonal)
    if coupled <= enough:
        return None
    diagonal = np.concatenate([nodes.diagonal, nodes.outer_diagonal])
    for combine, ratio in attempts:
        aggregates, count = match_nodes(nodes.coupling, diagonal, combine)
        if len(nodes) - count >= (1 - ratio) * coupled:
            return aggregates, count
    return None


def _coupling_sums(nodes: Nodes) -> Vector:
    """Sum each node's coupling to other nodes and to outer rows, (m,)."""
    return nodes.diagonal - nodes.mass


def _coarsen(nodes: Nodes, aggregates: IntArray, inner: Vector) -> tuple[Vector, Nodes]:
    """Compute the smoother E_k (count,) of a level, and the level's nodes without edges.

    ``aggregates`` (m,) is the aggregate of each node of the finer level, and ``inner`` (count,)
    twice the coupling inside each aggregate.

    The Galerkin diagonal diag(P'AP) is Σ diag(A) over each aggregate, minus `inner_weights`.
    """
    count = len(inner)
    mass = aggregate_sums(aggregates, nodes.mass, count)
    # Rounding of single-precision weights may give less than the mass, which is a lower bound.
    diagonal = np.maximum(aggregate_sums(aggregates, nodes.diagonal, count) - inner, mass)
    # v'Fv is a sum over the nodes, since F has no entries between nodes. The mass is β v'v.
    weighted = aggregate_sums(aggregates, nodes.finer_correction * nodes.mass**2, count)
    finer = weighted / mass**2
    smoother = np.maximum(1 / diagonal - finer, 0.0)
    smoother[np.bincount(aggregates, minlength=count) == 1] = 0.0
    none = scipy.sparse.csr_array((count, count + len(nodes.outer_diagonal)))
    return smoother, Nodes(none, diagonal, mass, finer + smoother, nodes.outer_diagonal)
