"""Aggregates of strongly coupled rows: matching along the heaviest edges, repeated.

The hierarchy follows the edge weights after a rebase, as in aggregation-based multigrid (Notay,
Electron. Trans. Numer. Anal. 37, 2010): two nodes join when each is the other's strongest
neighbour, and what is left over joins a pair. What a row joins depends on the weights and on row
numbers alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from srch_dist.kernels.multigrid.coarsening import add_up, contract, inner_weights
from srch_dist.kernels.multigrid.matching import match_nodes
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import IntArray, Vector

# Rows that a coarse unknown stands for at least, and the most unknowns of a problem: the dense
# product with their inverse stays below the sparse one with the matrix.
_UNKNOWN_ROWS, _UNKNOWNS = 64, 2048
# Below so many rows, building aggregates costs more than the iterations that they save.
_LEAST_ROWS = 16_384
_PASSES = 14
# A matching after which more than this share of the tied nodes is left is not worth a level: along
# edges that both ends feel, and along those that one end feels, which are the last there are.
_SHRINK, _LAST_SHRINK = 0.8, 0.95
# Below this share of its diagonal, what ties an aggregate to others asks for no coarse unknown.
_TIED = 1e-2


@dataclass(frozen=True)
class Hierarchy(Sized):
    """Nested aggregates of some nodes; level 0 is these.

    Attributes
    ----------
    parents : for each level its aggregate (m,) of each node of the level below.
    inverse : for each level how much (m,) its functions are corrected: the inverse diagonal of
        P'AP, less what the levels below correct of them already (all of it where a node is an only
        child). Without that, a function that hardly changes over the levels counts at each.
    top : nodes of the last level that ask for a coarse unknown of their own, ascending.
    """

    parents: tuple[IntArray, ...]
    inverse: tuple[Vector, ...]
    top: IntArray


@dataclass(frozen=True)
class Nodes(Sized):
    """Rows or aggregates of rows, with what ties them to each other and to rows elsewhere.

    Attributes
    ----------
    coupling : (m, m + outer), λCS² summed over the edges between two nodes, or a node and a row
        elsewhere.
    diagonal : (m,) of P'AP. mass : (m,), β times the rows of each node.
    corrected : (m,), how much the levels so far correct the nodes' functions.
    outer : (outer,), the diagonal of the rows elsewhere.
    """

    coupling: scipy.sparse.csr_array
    diagonal: Vector
    mass: Vector
    corrected: Vector
    outer: Vector

    def __len__(self) -> int:
        return len(self.diagonal)


def coarse_unknowns(rows: int, choice: str) -> int:
    """Coarse unknowns of a problem of n rows by ``solver.coarse``; 0 is plain Jacobi."""
    if choice == "off" or (choice == "auto" and rows < _LEAST_ROWS):
        return 0
    return min(_UNKNOWNS, max(32, rows // _UNKNOWN_ROWS))


def row_nodes(
    coupling: scipy.sparse.csr_array, diagonal: Vector, beta: float, outer: Vector | None = None
) -> Nodes:
    """Rows as nodes.

    ``coupling`` (rows, rows + outer) is λCS², ``diagonal`` (rows,) that of βI + λH, ``outer``
    (outer,) the same of the rows elsewhere that there are edges to.
    """
    outer = np.empty(0) if outer is None else outer
    return Nodes(coupling, diagonal, np.full(len(diagonal), beta), 1 / diagonal, outer)


def aggregate_zone(nodes: Nodes) -> tuple[Hierarchy, Nodes]:
    """One matching of nodes among which some are tied to others elsewhere, and what is left.

    What is left has no edges: these are added up once all zones are matched. A node whose strongest
    edge goes elsewhere waits; where nearly all do there is no level.
    """
    found = _match(nodes, 0, ((np.maximum, _LAST_SHRINK),))
    if found is None:
        return Hierarchy((), (), np.empty(0, dtype=np.int64)), nodes
    mates, count = found
    added, left = _join(nodes, mates, count)
    return Hierarchy((mates,), (added,), np.empty(0, dtype=np.int64)), left


def build_hierarchy(nodes: Nodes, quota: int) -> Hierarchy:
    """Aggregate nodes that have no edge elsewhere until at most ``quota`` are tied to others.

    ``quota`` is the most coarse unknowns. Every matching is a level: since a level corrects only
    what those below leave, leaving some out saves little work and costs iterations. Aggregates
    that next to nothing ties to others are done, and come last on their level; on all above, one
    node that nothing corrects stands for them, so that no level carries them on.
    """
    # Where no other is left, what remains are nodes that only the smaller of both ends is tied to.
    ends = ((np.maximum, _SHRINK), (np.minimum, _LAST_SHRINK))
    parents: list[IntArray] = []
    inverse: list[Vector] = []
    width = len(nodes)  # of the level, with what is done
    for _ in range(_PASSES):
        found = _match(nodes, quota, ends)
        if found is None:
            break
        aside = int(width > len(nodes))
        level = np.full(width, found[1])
        level[: len(nodes)], added, nodes = _tied_first(nodes, *found)
        parents.append(level)
        inverse.append(np.concatenate([added, np.zeros(aside)]))
        width = len(inverse[-1])
    if not parents:
        # A level to carry the coarse unknowns.
        parents, inverse = [np.arange(len(nodes))], [np.zeros(len(nodes))]
    tied = _ties(nodes)
    chosen = np.argsort(-tied, kind="stable")[:quota]
    top = np.sort(chosen[tied[chosen] > _TIED * nodes.diagonal[chosen]])
    inverse[-1][top] = 0.0
    return Hierarchy(tuple(parents), tuple(inverse), top)


def _tied_first(nodes: Nodes, mates: IntArray, count: int) -> tuple[IntArray, Vector, Nodes]:
    """The aggregates ``mates`` (m,) with those that are tied to others first.

    Returns them, what their level adds (count,), and as nodes those that are tied.
    """
    added, joined = _join(nodes, mates, count)
    done = _ties(joined) <= _TIED * joined.diagonal
    order = np.argsort(done, kind="stable")
    mates = np.argsort(order)[mates]
    tied = order[: count - np.count_nonzero(done)]
    ends = mates.astype(nodes.coupling.indices.dtype)  # as narrow as there, for memory
    edges = contract(nodes.coupling, ends, ends, 0, (len(tied), len(tied)))
    left = Nodes(
        edges, joined.diagonal[tied], joined.mass[tied], joined.corrected[tied], nodes.outer
    )
    return mates, added[order], left


def _match(
    nodes: Nodes, least: int, ends: tuple[tuple[np.ufunc, float], ...]
) -> tuple[IntArray, int] | None:
    """`match_nodes` with the first of the ``ends`` that leaves few enough of the tied nodes.

    None where none does, or ``least`` nodes or fewer are tied to others: what is tied to nothing
    else is as good as it will be, however much of it there is.
    """
    tied = np.count_nonzero(_ties(nodes) > _TIED * nodes.diagonal)
    if tied <= least:
        return None
    diagonal = np.concatenate([nodes.diagonal, nodes.outer])
    for end, shrink in ends:
        mates, count = match_nodes(nodes.coupling, diagonal, end)
        if len(nodes) - count >= (1 - shrink) * tied:
            return mates, count
    return None


def _ties(nodes: Nodes) -> Vector:
    """What ties each node (nodes,) to others and to rows elsewhere."""
    return nodes.diagonal - nodes.mass


def _join(nodes: Nodes, mates: IntArray, count: int) -> tuple[Vector, Nodes]:
    """What the level of the aggregates ``mates`` (m,) adds (count,), and its nodes, no edges."""
    inner = inner_weights(nodes.coupling, mates, count)
    mass = add_up(mates, nodes.mass, count)
    # It is the mass at least; weights of single precision may cancel below that.
    diagonal = np.maximum(add_up(mates, nodes.diagonal, count) - inner, mass)
    covered = add_up(mates, nodes.corrected * nodes.mass**2, count) / mass**2
    added = np.maximum(1 / diagonal - covered, 0.0)
    added[np.bincount(mates, minlength=count) == 1] = 0.0
    none = scipy.sparse.csr_array((count, count + len(nodes.outer)))
    return added, Nodes(none, diagonal, mass, covered + added, nodes.outer)
