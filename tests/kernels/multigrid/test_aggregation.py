"""Aggregates along heavy edges, and the multilevel preconditioner built on them."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import block_diag, csr_array, diags_array
from scipy.sparse.linalg import spsolve

from srch_dist.kernels.graph.block import local_columns, outside
from srch_dist.kernels.graph.laplacian import SystemBlock
from srch_dist.kernels.multigrid.aggregation import aggregate_zone, build_hierarchy, row_nodes
from srch_dist.kernels.multigrid.conjugate_gradients import solve_whole
from srch_dist.kernels.multigrid.matching import match_nodes
from srch_dist.kernels.multigrid.preconditioner import (
    jacobi,
    join_pieces,
    no_space,
    row_unknowns,
    shared_space,
    split_hierarchy,
)
from srch_dist.kernels.multigrid.subdomains import (
    contract_zone,
    join_zones,
    number_nodes,
    reduce_zone,
)

BETA, LAM, QUOTA = 1.0, 10.0, 12


def neighbour_graph(n, seed, dims=2):
    """Symmetric weights of the ten nearest neighbours of random points."""
    points = np.random.default_rng(seed).normal(size=(n, dims))
    points = points[np.argsort(points[:, 0])]
    distances = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    dense = np.zeros((n, n))
    dense[np.arange(n)[:, None], np.argsort(distances, axis=1)[:, :10]] = 1.0
    return csr_array(np.maximum(dense, dense.T))


def reweighted(graph, seed):
    """The same edges with weights over six orders of magnitude, symmetric."""
    rng = np.random.default_rng(seed)
    factor = 10.0 ** rng.uniform(-6, 0, graph.shape)
    return csr_array(graph.multiply(np.triu(factor) + np.triu(factor, 1).T))


def disconnected(seed):
    """Components of 1, 1, 2, 30 and 200 rows."""
    parts = [neighbour_graph(size, seed) for size in (30, 200)]
    return csr_array(block_diag([np.zeros((1, 1)), np.zeros((1, 1)), np.eye(2)[::-1], *parts]))


GRAPHS = {
    "connected": lambda: neighbour_graph(240, 0),
    "re-weighted": lambda: reweighted(neighbour_graph(240, 0), 1),
    "disconnected": lambda: disconnected(2),
    "disconnected and re-weighted": lambda: reweighted(disconnected(2), 3),
    "no edge": lambda: csr_array((20, 20)),
}


@pytest.fixture(params=GRAPHS)
def coupling(request):
    graph = csr_array(LAM * GRAPHS[request.param]())
    graph.eliminate_zeros()
    graph.sort_indices()
    return graph


def diagonal_of(coupling, beta=BETA):
    return beta + coupling.sum(axis=1)


def zone_nodes(coupling, diagonal, beta, span):
    """The rows ``span`` as nodes, and the rows elsewhere that they have edges to."""
    part = coupling[slice(*span)]
    columns = part.indices.astype(np.int64)
    outer = outside(span, columns)
    rows = span[1] - span[0]
    local = csr_array(
        (part.data, local_columns(span, outer, columns), part.indptr),
        shape=(rows, rows + len(outer)),
    )
    return row_nodes(local, diagonal[slice(*span)], beta, diagonal[outer]), outer


def hierarchies(coupling, ends, beta=BETA, quota=QUOTA):
    """Those of the zones between ``ends``, that above, and the first node of each zone in it."""
    diagonal = diagonal_of(coupling, beta)
    cut = [zone_nodes(coupling, diagonal, beta, span) for span in pairwise(ends)]
    found = [reduce_zone(nodes) for nodes, _ in cut]
    numbering = number_nodes([(zone.labels, zone.diagonal) for _, zone in found])
    left = [contract_zone(*cut[k], zone, k, numbering) for k, (_, zone) in enumerate(found)]
    above = build_hierarchy(join_zones(left), quota)
    return [hierarchy for hierarchy, _ in found], above, numbering.starts


def preconditioner(coupling, cuts=None, beta=BETA, quota=QUOTA, zones=None):
    """The cascades between ``cuts``, and the shared space, of the zones between ``zones``."""
    n = coupling.shape[0]
    cuts, zones = cuts or [0, n], zones or [0, n]
    diagonal = diagonal_of(coupling, beta)
    below, above, starts = hierarchies(coupling, zones, beta, quota)
    runs = [  # block, zone, rows of the zone
        (b, z, np.arange(max(block[0], zone[0]), min(block[1], zone[1])) - zone[0])
        for b, block in enumerate(pairwise(cuts))
        for z, zone in enumerate(pairwise(zones))
        if max(block[0], zone[0]) < min(block[1], zone[1])
    ]
    splits = [
        split_hierarchy(hierarchy, [rows for _, k, rows in runs if k == z])
        for z, hierarchy in enumerate(below)
    ]
    taken, pieces = [iter(split.pieces) for split in splits], {}
    for b, z, _ in runs:
        pieces.setdefault(b, []).append((z, next(taken[z])))
    members = [
        np.concatenate([piece.nodes + starts[z] for z, piece in pieces[b]]) for b in sorted(pieces)
    ]
    splits.append(split_hierarchy(above, members))
    first = np.cumsum([0, *(len(split.shared) for split in splits)])
    cascades = [
        join_pieces(
            diagonal[low:high],
            [piece for _, piece in pieces[b]],
            splits[-1].pieces[b],
            [*(first[z] for z, _ in pieces[b]), first[-2]],
        )
        for b, (low, high) in enumerate(pairwise(cuts))
    ]
    unknowns = splits[-1].unknowns
    labels = np.concatenate([row_unknowns(c, int(first[-1]) - unknowns) for c in cascades])
    inside = np.flatnonzero(labels >= 0)
    p = csr_array((np.ones(len(inside)), (inside, labels[inside])), shape=(n, unknowns))
    coarse = csr_array(p.T @ (diags_array(diagonal) - coupling) @ p)
    shared = np.concatenate([split.shared for split in splits])
    return cascades, shared_space(shared, coarse, [c.own_slots for c in cascades])


def applied(coupling, cuts=None, zones=None):
    """M⁻¹ as a dense matrix, by the way of several blocks."""
    cascades, space = preconditioner(coupling, cuts, zones=zones)
    cuts = cuts or [0, coupling.shape[0]]
    parts = [np.eye(cuts[-1])[low:high] for low, high in pairwise(cuts)]
    sums = space.add_up([c.restrict(part) for c, part in zip(cascades, parts, strict=True)])
    found = space.solve(sums)
    return np.concatenate(
        [
            c.precondition(part, space.correct(sums, found, c.own_slots))
            for c, part in zip(cascades, parts, strict=True)
        ]
    )


def levels_of(coupling, zones):
    """P (n, m) and E (m,) of each level of each zone, then of those above; and the last P."""
    n = coupling.shape[0]
    below, above, _ = hierarchies(coupling, zones)
    terms, bases = [], []
    for hierarchy, (low, high) in zip(below, pairwise(zones), strict=True):
        p = np.eye(n)[:, low:high]
        for parents, inverse in zip(hierarchy.parents, hierarchy.inverse, strict=True):
            p = p @ np.eye(len(inverse))[parents]
            terms.append((p, inverse))
        bases.append(p)
    p = np.concatenate(bases, axis=1)
    for parents, inverse in zip(above.parents, above.inverse, strict=True):
        p = p @ np.eye(len(inverse))[parents]
        terms.append((p, inverse))
    return terms, p[:, above.top]


def dense_formula(coupling, zones):
    """D⁻¹ + Σ P_k E_k P_k' + P (P'AP)⁻¹ P', term by term from the hierarchies."""
    diagonal = diagonal_of(coupling)
    terms, p = levels_of(coupling, zones)
    total = np.diag(1 / diagonal) + sum(q @ np.diag(inverse) @ q.T for q, inverse in terms)
    matrix = np.diag(diagonal) - coupling.toarray()
    return total + p @ np.linalg.solve(p.T @ matrix @ p, p.T)


@pytest.fixture(params=["one zone", "three zones"])
def zones(request, coupling):
    n = coupling.shape[0]
    return [0, n] if request.param == "one zone" else [0, n // 3, n // 3 * 2, n]


def test_preconditioner_is_its_formula(coupling, zones):
    found = applied(coupling, zones=zones)
    np.testing.assert_allclose(found, dense_formula(coupling, zones), atol=1e-12)


@pytest.mark.parametrize("shares", [(0, 0.5, 1), (0, 0.1, 0.4, 0.41, 1)])
def test_blocks_apply_the_preconditioner_of_the_whole(coupling, zones, shares):
    cuts = sorted({round(share * coupling.shape[0]) for share in shares})
    whole = applied(coupling, zones=zones)
    np.testing.assert_allclose(applied(coupling, cuts, zones), whole, atol=1e-12)


def test_blocks_take_part_in_the_shared_aggregates_of_their_rows_alone(coupling, zones):
    n = coupling.shape[0]
    cascades, space = preconditioner(coupling, [0, n // 2, n], zones=zones)
    seen = np.concatenate([c.own_slots for c in cascades])
    np.testing.assert_array_equal(np.unique(seen), np.arange(len(space.inverse)))
    cut = len(space.inverse) - len(space.dense)
    np.testing.assert_array_equal(np.bincount(seen, minlength=cut)[:cut], 2)


def test_preconditioner_is_symmetric_and_positive_definite(coupling, zones):
    matrix = applied(coupling, zones=zones)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_each_level_has_aggregates_without_gaps_and_never_more_coarse_unknowns_than_asked(
    coupling, zones
):
    below, above, _ = hierarchies(coupling, zones)
    for hierarchy in (*below, above):
        for parents, inverse in zip(hierarchy.parents, hierarchy.inverse, strict=True):
            np.testing.assert_array_equal(np.unique(parents), np.arange(len(inverse)))
            assert (inverse >= 0).all()
    assert len(above.top) <= QUOTA


@pytest.mark.parametrize("ends", [[0, 234], [0, 20, 100, 234]], ids=["one zone", "three zones"])
def test_aggregates_stay_inside_components(ends):
    graph = csr_array(LAM * disconnected(2))
    component = np.repeat(np.arange(5), [1, 1, 2, 30, 200])
    terms, last = levels_of(graph, ends)
    for p, inverse in (*terms, (last, np.ones(last.shape[1]))):
        held = np.count_nonzero([p[component == c].any(axis=0) for c in range(5)], axis=0)
        # The last of a level may stand for all that is done, which nothing corrects then.
        inside = held[:-1] if len(inverse) and inverse[-1] == 0 else held
        np.testing.assert_array_equal(inside, 1)


def test_no_level_carries_on_what_nothing_ties_to_others():
    """Forty pairs are done after one level; the path of 64 rows needs more."""
    path = np.diag(np.full(63, 1.0), 1)
    pairs = np.kron(np.eye(40), [[0.0, 1.0], [0.0, 0.0]])
    whole = block_diag([csr_array(part + part.T) for part in (pairs, path)], format="csr")
    coupling = csr_array(LAM * whole)
    hierarchy = build_hierarchy(row_nodes(coupling, diagonal_of(coupling), BETA), 1)
    first, *later = hierarchy.inverse
    assert len(first) >= 40 + 64 / 3
    assert len(later) >= 3
    for inverse, parents in zip(later, hierarchy.parents[1:], strict=True):
        assert len(inverse) <= 1 + 64 / 4
        # The last one stands for the pairs, and nothing corrects it.
        assert parents[-1] == len(inverse) - 1
        assert inverse[-1] == 0.0


def test_separate_pairs_are_done_at_once():
    coupling = csr_array(LAM * np.kron(np.eye(40), [[0.0, 1.0], [1.0, 0.0]]))
    hierarchy = build_hierarchy(row_nodes(coupling, diagonal_of(coupling), BETA), 1)
    assert [len(inverse) for inverse in hierarchy.inverse] == [40]
    assert len(hierarchy.top) == 0


def test_a_row_whose_cluster_lies_in_another_zone_waits_for_it():
    """Two clusters of five rows, with weak ties between them; the first zone ends in the second."""
    tight = np.kron(np.eye(2), 10 * (1 - np.eye(5)))
    coupling = csr_array(tight + np.kron(1 - np.eye(2), np.full((5, 5), 0.5)))
    nodes, _ = zone_nodes(coupling, diagonal_of(coupling), BETA, (0, 6))
    alone, _ = aggregate_zone(replace(nodes, coupling=nodes.coupling[:, :6], outer=np.empty(0)))
    waiting, left = aggregate_zone(nodes)
    for hierarchy, joined in ((alone, True), (waiting, False)):
        labels = hierarchy.parents[0]
        assert len(np.unique(labels[:5])) == 2
        assert (labels[5] in labels[:5]) == joined
    apart = labels[5]
    np.testing.assert_allclose(left.mass.sum(), 6 * BETA)
    np.testing.assert_allclose(left.diagonal[apart], 1 + 40 + 2.5)


def test_a_node_joins_its_strongest_neighbour():
    """A path of four rows with the heavy edges at its ends."""
    path = csr_array(np.diag([5.0, 1.0, 7.0], 1) + np.diag([5.0, 1.0, 7.0], -1))
    numbers, count = match_nodes(path, path.sum(axis=1) + 1)
    assert count == 2
    np.testing.assert_array_equal(numbers, [0, 0, 1, 1])


def test_what_is_left_of_a_tight_cluster_pairs_with_no_node_that_the_cluster_hardly_knows():
    """Two clusters of five rows each, with weak ties between them: an odd row is left in both."""
    tight = np.kron(np.eye(2), 10 * (1 - np.eye(5)))
    tight += np.kron(np.eye(2)[::-1], 0.5 * np.eye(5))
    coupling = csr_array(tight)
    hierarchy = build_hierarchy(row_nodes(coupling, diagonal_of(coupling), BETA), 2)
    labels = np.arange(10)
    for parents in hierarchy.parents:
        labels = parents[labels]
        assert not set(labels[:5]) & set(labels[5:])
    assert len(np.unique(labels)) == 2


@pytest.mark.parametrize("pairs", [0, 3000])
def test_aggregates_that_are_tied_to_nothing_else_do_not_end_the_matching(pairs):
    """A chain is aggregated to the end, however many clusters beside it are finished already."""
    chain, quota = 512, 8
    ones = np.ones(chain - 1)
    blocks = [diags_array([ones, ones], offsets=[1, -1])]
    blocks += [block_diag([[[0, 1], [1, 0]]] * pairs)] if pairs else []
    coupling = csr_array(10.0 * block_diag(blocks))
    diagonal = 1.0 + coupling.sum(axis=1)
    hierarchy = build_hierarchy(row_nodes(coupling, diagonal, 1.0), quota)
    labels = np.arange(chain)
    for parents in hierarchy.parents:
        labels = parents[labels]
    assert len(np.unique(labels)) <= quota


def test_a_left_over_node_joins_the_pair_of_its_strongest_neighbour():
    """A path of three rows: two pair up, the third joins them."""
    path = csr_array(np.diag([5.0, 4.0], 1) + np.diag([5.0, 4.0], -1))
    numbers, count = match_nodes(path, path.sum(axis=1) + 1)
    assert count == 1
    np.testing.assert_array_equal(numbers, [0, 0, 0])


def solve(coupling, right, coarse, tolerance, beta=BETA, quota=QUOTA, zones=None):
    diagonal = diagonal_of(coupling, beta)
    if coarse:
        (cascade,), space = preconditioner(coupling, beta=beta, quota=quota, zones=zones)
    else:
        cascade, space = jacobi(diagonal), no_space(1)
    system = SystemBlock(diagonal, -coupling)
    made = (partial(np.copy, right), partial(np.zeros_like, right))
    return solve_whole(system, cascade, space, *made, tolerance, 3000)


@pytest.mark.parametrize("beta", [BETA, 1e-3], ids=["balanced", "paper"])
def test_solution_equals_that_of_a_direct_solver(coupling, zones, beta):
    right = beta * np.random.default_rng(4).choice([-1.0, 1.0], (coupling.shape[0], 8))
    x, last = solve(coupling, right, True, 1e-10, beta, zones=zones)
    matrix = diags_array(diagonal_of(coupling, beta)) - coupling
    assert not last.active.any()
    np.testing.assert_allclose(x, spsolve(matrix.tocsc(), right), atol=1e-6)


@pytest.mark.parametrize("weights", ["first", "re-weighted"])
def test_a_long_thin_graph_takes_few_iterations_with_aggregates_and_many_without(weights):
    graph = neighbour_graph(900, 5, dims=1)
    if weights == "re-weighted":
        graph = reweighted(graph, 6)
    coupling = csr_array(LAM * graph)
    right = np.random.default_rng(7).choice([-1.0, 1.0], (900, 16))
    plain = solve(coupling, right, False, 1e-4)[1].iterations
    for zones in ([0, 900], [0, 250, 500, 750, 900], list(range(0, 901, 60))):
        found = solve(coupling, right, True, 1e-4, quota=32, zones=zones)[1].iterations
        assert found <= 25
        assert plain > 1.5 * found


@pytest.mark.parametrize("least", [1.0, -1e-3])
def test_the_coarse_matrix_is_inverted_even_where_rounding_left_it_indefinite(least):
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(30, 30)))[0]
    matrix = rotation @ np.diag([least, *np.linspace(2, 9, 29)]) @ rotation.T
    space = shared_space(np.zeros(30), csr_array(matrix), [np.arange(30)])
    np.testing.assert_allclose(space.dense @ matrix, np.eye(30), atol=1e-9)
    np.testing.assert_array_equal(space.dense, space.dense.T)
