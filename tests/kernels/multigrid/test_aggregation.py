"""Aggregation hierarchy and multilevel preconditioner, against dense formulas."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import block_diag, csr_array, diags_array
from scipy.sparse.linalg import spsolve

from srch_dist.kernels.graph.block import local_columns, outside
from srch_dist.kernels.graph.laplacian import SystemBlock
from srch_dist.kernels.multigrid.aggregation import aggregate_once, build_hierarchy, row_nodes
from srch_dist.kernels.multigrid.conjugate_gradients import solve_single_block
from srch_dist.kernels.multigrid.matching import match_nodes
from srch_dist.kernels.multigrid.preconditioner import (
    assemble_preconditioner,
    build_coarse_space,
    empty_coarse_space,
    jacobi_preconditioner,
    row_unknowns,
    split_hierarchy,
)
from srch_dist.kernels.multigrid.subdomains import (
    aggregate_subdomain,
    coarsen_subdomain,
    join_subdomains,
    number_aggregates,
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


def subdomain_nodes(coupling, diagonal, beta, span):
    """The rows ``span`` as nodes, and their outer rows."""
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
    """Hierarchy of each subdomain, the joint one, and the first joint node of each subdomain."""
    diagonal = diagonal_of(coupling, beta)
    cut = [subdomain_nodes(coupling, diagonal, beta, span) for span in pairwise(ends)]
    found = [aggregate_subdomain(nodes) for nodes, _ in cut]
    numbering = number_aggregates([(own.labels, own.diagonal) for _, own in found])
    left = [coarsen_subdomain(*cut[k], own, k, numbering) for k, (_, own) in enumerate(found)]
    joint = build_hierarchy(join_subdomains(left), quota)
    return [hierarchy for hierarchy, _ in found], joint, numbering.starts


def preconditioner(coupling, cuts=None, beta=BETA, quota=QUOTA, subdomains=None):
    """The preconditioners of the blocks between ``cuts``, and the shared coarse space."""
    n = coupling.shape[0]
    cuts, subdomains = cuts or [0, n], subdomains or [0, n]
    diagonal = diagonal_of(coupling, beta)
    below, joint, starts = hierarchies(coupling, subdomains, beta, quota)
    runs = [  # block, subdomain, rows counted from its start
        (b, z, np.arange(max(block[0], span[0]), min(block[1], span[1])) - span[0])
        for b, block in enumerate(pairwise(cuts))
        for z, span in enumerate(pairwise(subdomains))
        if max(block[0], span[0]) < min(block[1], span[1])
    ]
    splits = [
        split_hierarchy(hierarchy, [rows for _, k, rows in runs if k == z])
        for z, hierarchy in enumerate(below)
    ]
    taken, local = [iter(split.local) for split in splits], {}
    for b, z, _ in runs:
        local.setdefault(b, []).append((z, next(taken[z])))
    members = [
        np.concatenate([part.coarsest + starts[z] for z, part in local[b]]) for b in sorted(local)
    ]
    splits.append(split_hierarchy(joint, members))
    first = np.cumsum([0, *(len(split.shared) for split in splits)])
    preconditioners = [
        assemble_preconditioner(
            diagonal[low:high],
            [part for _, part in local[b]],
            splits[-1].local[b],
            [*(first[z] for z, _ in local[b]), first[-2]],
        )
        for b, (low, high) in enumerate(pairwise(cuts))
    ]
    unknowns = splits[-1].unknowns
    labels = np.concatenate([row_unknowns(c, int(first[-1]) - unknowns) for c in preconditioners])
    inside = np.flatnonzero(labels >= 0)
    p = csr_array((np.ones(len(inside)), (inside, labels[inside])), shape=(n, unknowns))
    coarse = csr_array(p.T @ (diags_array(diagonal) - coupling) @ p)
    shared = np.concatenate([split.shared for split in splits])
    return preconditioners, build_coarse_space(
        shared, coarse, [c.own_slots for c in preconditioners]
    )


def applied(coupling, cuts=None, subdomains=None):
    """M⁻¹ as a dense matrix, as several blocks apply it."""
    preconditioners, space = preconditioner(coupling, cuts, subdomains=subdomains)
    cuts = cuts or [0, coupling.shape[0]]
    parts = [np.eye(cuts[-1])[low:high] for low, high in pairwise(cuts)]
    sums = space.add_up([c.restrict(part) for c, part in zip(preconditioners, parts, strict=True)])
    found = space.solve(sums)
    return np.concatenate(
        [
            c.precondition(part, space.correct(sums, found, c.own_slots))
            for c, part in zip(preconditioners, parts, strict=True)
        ]
    )


def levels_of(coupling, subdomains):
    """P (n, m) and E (m,) of all levels, subdomains first; and P of the coarse unknowns."""
    n = coupling.shape[0]
    below, joint, _ = hierarchies(coupling, subdomains)
    terms, bases = [], []
    for hierarchy, (low, high) in zip(below, pairwise(subdomains), strict=True):
        p = np.eye(n)[:, low:high]
        for parents, smoother in zip(hierarchy.parents, hierarchy.smoothers, strict=True):
            p = p @ np.eye(len(smoother))[parents]
            terms.append((p, smoother))
        bases.append(p)
    p = np.concatenate(bases, axis=1)
    for parents, smoother in zip(joint.parents, joint.smoothers, strict=True):
        p = p @ np.eye(len(smoother))[parents]
        terms.append((p, smoother))
    return terms, p[:, joint.coarse_nodes]


def dense_formula(coupling, subdomains):
    """D⁻¹ + Σ P_k E_k P_k' + P (P'AP)⁻¹ P', term by term from the hierarchies."""
    diagonal = diagonal_of(coupling)
    terms, p = levels_of(coupling, subdomains)
    total = np.diag(1 / diagonal) + sum(q @ np.diag(smoother) @ q.T for q, smoother in terms)
    matrix = np.diag(diagonal) - coupling.toarray()
    return total + p @ np.linalg.solve(p.T @ matrix @ p, p.T)


@pytest.fixture(params=["one subdomain", "three subdomains"])
def subdomains(request, coupling):
    n = coupling.shape[0]
    return [0, n] if request.param == "one subdomain" else [0, n // 3, n // 3 * 2, n]


def test_preconditioner_is_its_formula(coupling, subdomains):
    found = applied(coupling, subdomains=subdomains)
    np.testing.assert_allclose(found, dense_formula(coupling, subdomains), atol=1e-12)


@pytest.mark.parametrize("shares", [(0, 0.5, 1), (0, 0.1, 0.4, 0.41, 1)])
def test_blocks_apply_the_preconditioner_of_the_whole(coupling, subdomains, shares):
    cuts = sorted({round(share * coupling.shape[0]) for share in shares})
    whole = applied(coupling, subdomains=subdomains)
    np.testing.assert_allclose(applied(coupling, cuts, subdomains), whole, atol=1e-12)


def test_blocks_take_part_in_the_shared_aggregates_of_their_rows_alone(coupling, subdomains):
    n = coupling.shape[0]
    preconditioners, space = preconditioner(coupling, [0, n // 2, n], subdomains=subdomains)
    seen = np.concatenate([c.own_slots for c in preconditioners])
    np.testing.assert_array_equal(np.unique(seen), np.arange(len(space.smoother)))
    cut = len(space.smoother) - len(space.coarse_inverse)
    np.testing.assert_array_equal(np.bincount(seen, minlength=cut)[:cut], 2)


def test_preconditioner_is_symmetric_and_positive_definite(coupling, subdomains):
    matrix = applied(coupling, subdomains=subdomains)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_each_level_has_aggregates_without_gaps_and_never_more_coarse_unknowns_than_asked(
    coupling, subdomains
):
    below, joint, _ = hierarchies(coupling, subdomains)
    for hierarchy in (*below, joint):
        for parents, smoother in zip(hierarchy.parents, hierarchy.smoothers, strict=True):
            np.testing.assert_array_equal(np.unique(parents), np.arange(len(smoother)))
            assert (smoother >= 0).all()
    assert len(joint.coarse_nodes) <= QUOTA


@pytest.mark.parametrize("ends", [[0, 234], [0, 20, 100, 234]], ids=["one", "three"])
def test_aggregates_stay_inside_components(ends):
    graph = csr_array(LAM * disconnected(2))
    component = np.repeat(np.arange(5), [1, 1, 2, 30, 200])
    terms, last = levels_of(graph, ends)
    for p, smoother in (*terms, (last, np.ones(last.shape[1]))):
        held = np.count_nonzero([p[component == c].any(axis=0) for c in range(5)], axis=0)
        # The last node of a level may represent all isolated aggregates. Its smoother is 0 then.
        inside = held[:-1] if len(smoother) and smoother[-1] == 0 else held
        np.testing.assert_array_equal(inside, 1)


def test_no_level_repeats_isolated_aggregates():
    """Forty pairs are isolated after one level. The path of 64 rows needs more levels."""
    path = np.diag(np.full(63, 1.0), 1)
    pairs = np.kron(np.eye(40), [[0.0, 1.0], [0.0, 0.0]])
    whole = block_diag([csr_array(part + part.T) for part in (pairs, path)], format="csr")
    coupling = csr_array(LAM * whole)
    hierarchy = build_hierarchy(row_nodes(coupling, diagonal_of(coupling), BETA), 1)
    first, *later = hierarchy.smoothers
    assert len(first) >= 40 + 64 / 3
    assert len(later) >= 3
    for smoother, parents in zip(later, hierarchy.parents[1:], strict=True):
        assert len(smoother) <= 1 + 64 / 4
        # The last node represents the pairs, and its smoother is 0.
        assert parents[-1] == len(smoother) - 1
        assert smoother[-1] == 0.0


def test_separate_pairs_need_one_level():
    coupling = csr_array(LAM * np.kron(np.eye(40), [[0.0, 1.0], [1.0, 0.0]]))
    hierarchy = build_hierarchy(row_nodes(coupling, diagonal_of(coupling), BETA), 1)
    assert [len(smoother) for smoother in hierarchy.smoothers] == [40]
    assert len(hierarchy.coarse_nodes) == 0


def test_a_row_whose_cluster_is_in_another_subdomain_stays_alone():
    """Two weakly coupled clusters of five rows; the subdomain ends in the second."""
    tight = np.kron(np.eye(2), 10 * (1 - np.eye(5)))
    coupling = csr_array(tight + np.kron(1 - np.eye(2), np.full((5, 5), 0.5)))
    nodes, _ = subdomain_nodes(coupling, diagonal_of(coupling), BETA, (0, 6))
    alone, _ = aggregate_once(
        replace(nodes, coupling=nodes.coupling[:, :6], outer_diagonal=np.empty(0))
    )
    waiting, left = aggregate_once(nodes)
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


def test_the_odd_node_of_a_tight_cluster_does_not_pair_with_a_weakly_coupled_node():
    """Two clusters of five rows each, with weak edges between them: both have an odd row."""
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
def test_aggregates_without_coupling_do_not_end_the_matching(pairs):
    """A chain is aggregated to the end, however many isolated clusters are beside it."""
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


def solve(coupling, right, coarse, tolerance, beta=BETA, quota=QUOTA, subdomains=None):
    diagonal = diagonal_of(coupling, beta)
    if coarse:
        (block,), space = preconditioner(coupling, beta=beta, quota=quota, subdomains=subdomains)
    else:
        block, space = jacobi_preconditioner(diagonal), empty_coarse_space(1)
    system = SystemBlock(diagonal, -coupling)
    made = (partial(np.copy, right), partial(np.zeros_like, right))
    return solve_single_block(system, block, space, *made, tolerance, 3000)


@pytest.mark.parametrize("beta", [BETA, 1e-3], ids=["balanced", "paper"])
def test_solution_equals_that_of_a_direct_solver(coupling, subdomains, beta):
    right = beta * np.random.default_rng(4).choice([-1.0, 1.0], (coupling.shape[0], 8))
    x, last = solve(coupling, right, True, 1e-10, beta, subdomains=subdomains)
    matrix = diags_array(diagonal_of(coupling, beta)) - coupling
    assert not last.active.any()
    np.testing.assert_allclose(x, spsolve(matrix.tocsc(), right), atol=1e-6)


@pytest.mark.parametrize("weights", ["first", "re-weighted"])
def test_a_long_thin_graph_needs_few_iterations_with_aggregates_and_many_without(weights):
    graph = neighbour_graph(900, 5, dims=1)
    if weights == "re-weighted":
        graph = reweighted(graph, 6)
    coupling = csr_array(LAM * graph)
    right = np.random.default_rng(7).choice([-1.0, 1.0], (900, 16))
    plain = solve(coupling, right, False, 1e-4)[1].iterations
    for subdomains in ([0, 900], [0, 250, 500, 750, 900], list(range(0, 901, 60))):
        found = solve(coupling, right, True, 1e-4, quota=32, subdomains=subdomains)[1].iterations
        assert found <= 25
        assert plain > 1.5 * found


@pytest.mark.parametrize("least", [1.0, -1e-3])
def test_the_coarse_matrix_is_inverted_even_if_rounding_makes_it_indefinite(least):
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(30, 30)))[0]
    matrix = rotation @ np.diag([least, *np.linspace(2, 9, 29)]) @ rotation.T
    space = build_coarse_space(np.zeros(30), csr_array(matrix), [np.arange(30)])
    np.testing.assert_allclose(space.coarse_inverse @ matrix, np.eye(30), atol=1e-9)
    np.testing.assert_array_equal(space.coarse_inverse, space.coarse_inverse.T)
