import numpy as np
import pytest

from srch_dist.kernels.graph import neighbours, rebase
from srch_dist.kernels.graph.block import (
    GraphBlock,
    JoinedValues,
    edge_values,
    index_type,
    local_columns,
    outside,
)
from srch_dist.kernels.graph.laplacian import SystemRule, system_block
from srch_dist.kernels.graph.rebase import (
    WEIGHT_BINS,
    distance_runs,
    edge_terms,
    semantic_weights,
    weight_counts,
)
from tests.helpers import reference

N, BITS, BETA, LAM = 30, 8, 0.7, 3.0
SPANS = [(0, 30), (0, 11), (11, 12), (12, 30)]
DOUBLE = np.dtype(np.float64)


@pytest.fixture(scope="module")
def graphs():
    """Two graphs; rows 4 and 17 have no edge in either."""
    features = reference.paired_features(3, N, (6, 5))
    found = {g: reference.adjacency(reference.nearest(x, 3)) for g, x in features.items()}
    for graph in found.values():
        graph[[4, 17]] = graph[:, [4, 17]] = False
    return found


@pytest.fixture(scope="module")
def z():
    return np.random.default_rng(1).normal(size=(N, BITS))


def dense_weights(graphs):
    """C of each graph as (n, n)."""
    result = []
    for graph in graphs.values():
        degrees = np.maximum(graph.sum(axis=1), 1)
        mean = graph.sum() / N
        result.append(np.where(graph, mean / np.sqrt(np.outer(degrees, degrees)), 0.0))
    return np.stack(result)


@pytest.mark.parametrize("count", [0, 3, 400], ids=["none", "few", "many"])
@pytest.mark.parametrize("span", [(0, 200), (40, 90), (199, 200)])
def test_columns_outside_follow_the_own_rows_in_ascending_order(count, span):
    """A few indices are found by binary search, many in a table."""
    rng = np.random.default_rng(count)
    indices = rng.choice(np.delete(np.arange(200), slice(20, 40)), count)
    halo = outside(span, indices)
    rows = span[1] - span[0]
    expected = [
        i - span[0] if span[0] <= i < span[1] else rows + halo.tolist().index(i)
        for i in indices.tolist()
    ]
    for kind in (np.int32, np.int64):
        np.testing.assert_array_equal(local_columns(span, halo, indices.astype(kind)), expected)


def test_joined_values_are_those_of_their_parts_in_order():
    values = np.arange(11)
    joined = JoinedValues((values[:4], values[4:4], values[4:9], values[9:]))
    assert len(joined) == 11
    for start in range(12):
        for stop in range(13):
            found = joined[start:stop]
            np.testing.assert_array_equal(found, values[start:stop])
            assert found.dtype == values.dtype


def block_of(graphs, span):
    weights = dense_weights(graphs)
    rows, columns = np.nonzero(weights.sum(axis=0)[slice(*span)])
    indptr = np.searchsorted(rows, np.arange(span[1] - span[0] + 1))
    halo = outside(span, columns)
    index = index_type(len(columns), span[1] - span[0] + len(halo))
    assert index is np.int32
    known = weights[:, rows + span[0], columns].T
    values = edge_values(span[0], indptr, columns, known, np.ones(len(graphs)))
    local = local_columns(span, halo, columns).astype(index)
    return GraphBlock(span[0], indptr.astype(index), local, halo, *values)


def edge_distances(block, own, halo):
    """Squared lengths of all edges of a block; its runs are adjacent."""
    parts, found = zip(*distance_runs(block, own, halo), strict=True)
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    return np.concatenate(found)


def apply(system, block, span, values):
    return system.apply(values[slice(*span)], values[block.halo])


def edge_ends(block):
    """Global row numbers of both ends of the block's edges."""
    numbers = np.concatenate([block.first_row + np.arange(block.rows), block.halo])
    return block.owners + block.first_row, numbers[block.columns]


@pytest.mark.parametrize("span", SPANS)
def test_rows_of_the_system_equal_those_of_the_dense_matrix(graphs, z, span):
    block = block_of(graphs, span)
    h = reference.full_laplacian(graphs, reference.unit_weights(graphs))
    expected = (BETA * np.eye(N) + LAM * h) @ z
    system = system_block(block, None, SystemRule(BETA, LAM, DOUBLE))
    np.testing.assert_allclose(apply(system, block, span, z), expected[slice(*span)], rtol=1e-12)


@pytest.mark.parametrize("span", SPANS)
def test_rebased_edges_weigh_with_the_square_of_s(graphs, z, span):
    block = block_of(graphs, span)
    options = reference.Options(alpha=0.5, lam=LAM)
    _, s = reference.s_step(graphs, z, options)
    expected = (BETA * np.eye(N) + LAM * reference.full_laplacian(graphs, s)) @ z
    lengths = edge_distances(block, z[slice(*span)], z[block.halo])
    semantic = semantic_weights(lengths, 0.5, LAM)
    system = system_block(block, semantic.__getitem__, SystemRule(BETA, LAM, DOUBLE))
    np.testing.assert_allclose(apply(system, block, span, z), expected[slice(*span)], rtol=1e-12)


@pytest.mark.parametrize("span", SPANS)
def test_dropped_edges_are_left_out_at_both_ends(graphs, z, span):
    block = block_of(graphs, span)
    _, s = reference.s_step(graphs, z, reference.Options(alpha=0.5, lam=LAM))
    coupling = -LAM * reference.full_laplacian(graphs, s)
    np.fill_diagonal(coupling, 0.0)
    drop = float(np.median(coupling[coupling > 0])) / BETA
    kept = np.where(coupling >= drop * BETA, coupling, 0.0)
    assert 0 < np.count_nonzero(kept) < np.count_nonzero(coupling)
    expected = (BETA * np.eye(N) + np.diag(kept.sum(axis=1)) - kept) @ z
    lengths = edge_distances(block, z[slice(*span)], z[block.halo])
    semantic = semantic_weights(lengths, 0.5, LAM)
    system = system_block(block, semantic.__getitem__, SystemRule(BETA, LAM, DOUBLE, drop))
    assert system.off_diagonal.nnz == np.count_nonzero(kept[slice(*span)])
    np.testing.assert_allclose(apply(system, block, span, z), expected[slice(*span)], rtol=1e-12)


def test_dropping_edges_changes_z_within_the_documented_bound(graphs, z):
    block = block_of(graphs, (0, N))
    lengths = edge_distances(block, z, z[:0])
    semantic = semantic_weights(lengths, 0.5, LAM)
    coupling = LAM * block.weights * semantic**2 / BETA
    for drop in np.quantile(coupling, [0.1, 0.5, 0.9]):
        whole, less = (
            system_block(block, semantic.__getitem__, SystemRule(BETA, LAM, DOUBLE, share))
            for share in (0.0, drop)
        )
        assert less.off_diagonal.nnz < whole.off_diagonal.nnz
        found = [
            np.linalg.solve(np.diag(s.diagonal) + s.off_diagonal.toarray(), BETA * np.sign(z))
            for s in (whole, less)
        ]
        most = np.diff(block.indptr).max()
        change = np.linalg.norm(found[1] - found[0], axis=0)
        assert np.all(change <= 2 * drop * most * np.linalg.norm(found[0], axis=0))


def test_system_has_the_dtype_asked_for(graphs):
    system = system_block(
        block_of(graphs, (0, 11)), None, SystemRule(BETA, LAM, np.dtype(np.float32))
    )
    assert system.diagonal.dtype == system.off_diagonal.dtype == np.float32


@pytest.mark.parametrize("values_at_once", [1 << 22, 3 * BITS])
@pytest.mark.parametrize("edges_at_once", [1 << 22, 7])
@pytest.mark.parametrize("span", SPANS)
def test_edge_distances_are_squared_lengths(
    graphs, z, span, edges_at_once, values_at_once, monkeypatch
):
    monkeypatch.setattr(rebase, "DISTANCE_EDGES", edges_at_once)
    monkeypatch.setattr(neighbours, "REFINE_VALUES", values_at_once)
    block = block_of(graphs, span)
    i, j = edge_ends(block)
    lengths = edge_distances(block, z[slice(*span)], z[block.halo])
    np.testing.assert_allclose(lengths, ((z[i] - z[j]) ** 2).sum(axis=1), rtol=1e-12)


@pytest.mark.parametrize("halo", [False, True])
def test_unaligned_rows_are_not_copied_at_every_call(graphs, z, halo, monkeypatch):
    """`np.take` copies all of an array that is not aligned."""
    block = block_of(graphs, (12, 30) if halo else (0, len(z)))
    own = z[12:30] if halo else z
    message = np.frombuffer(b"x" + own.tobytes(), dtype=np.uint8)[1:]
    taken = []

    def take(rows, *arguments, **options):
        taken.append(rows.flags.aligned)
        return original(rows, *arguments, **options)

    original = np.take
    monkeypatch.setattr(np, "take", take)
    lengths = edge_distances(block, message.view(z.dtype).reshape(own.shape), z[block.halo])
    assert taken
    assert all(taken)
    np.testing.assert_array_equal(lengths, edge_distances(block, own, z[block.halo]))


def test_halo_is_every_neighbour_outside_once_in_order(graphs):
    block = block_of(graphs, (12, 30))
    either = graphs["m0"] | graphs["m1"]
    np.testing.assert_array_equal(block.halo, np.flatnonzero(either[12:, :12].any(axis=0)))


def test_blocks_count_each_undirected_edge_once_with_its_multiplicity(graphs):
    counted = np.zeros((N, N), dtype=int)
    for span in SPANS[1:]:
        block = block_of(graphs, span)
        i, j = edge_ends(block)
        once = block.counted_once
        counted[i[once], j[once]] += block.multiplicity[once]
    np.testing.assert_array_equal(counted, np.triu(graphs["m0"].astype(int) + graphs["m1"], 1))


def test_semantic_weights_are_those_of_equation_15():
    distances = np.array([0.0, 0.5, 2.0, 100.0])
    np.testing.assert_allclose(
        semantic_weights(distances, 0.3, 4.0), 0.3 / (0.3 + 4.0 * distances), rtol=1e-14
    )


def test_semantic_weights_are_one_for_infinite_alpha_and_for_no_lambda():
    distances = np.array([0.0, 0.5, 1e30])
    np.testing.assert_array_equal(semantic_weights(distances, np.inf, 10.0), 1.0)
    np.testing.assert_array_equal(semantic_weights(distances, 1e-4, 0.0), 1.0)


@pytest.mark.parametrize("spans", [SPANS[:1], SPANS[1:]], ids=["one block", "three blocks"])
def test_edge_terms_of_the_blocks_add_up_to_equations_4_and_7(graphs, z, spans):
    options = reference.Options(alpha=0.5, lam=LAM)
    _, s = reference.s_step(graphs, z, options)
    c = {g: reference.edge_weights(graph) for g, graph in graphs.items()}
    lengths = {g: reference.edge_lengths(graph, z) for g, graph in graphs.items()}
    pull = sum(np.sum(c[g] * s[g] ** 2 * lengths[g]) for g in graphs)
    spread = sum(np.sum(c[g] * (s[g] - 1) ** 2) for g in graphs)
    parts = []
    for span in spans:
        block = block_of(graphs, span)
        own = edge_distances(block, z[slice(*span)], z[block.halo])
        parts.append(edge_terms(block, own, semantic_weights(own, 0.5, LAM)))
    np.testing.assert_allclose(np.sum(parts, axis=0), [pull, spread], rtol=1e-12)


@pytest.mark.parametrize("spans", [SPANS[:1], SPANS[1:]], ids=["one block", "three blocks"])
def test_counts_of_the_blocks_are_the_histogram_of_s_over_the_edges(graphs, z, spans):
    joint = np.logical_or.reduce(list(graphs.values()))
    s = 0.5 / (0.5 + LAM * reference.edge_lengths(joint, z))
    expected, _ = np.histogram(s, bins=WEIGHT_BINS, range=(0, 1))
    assert np.count_nonzero(expected) > 1
    whole, ones = np.zeros((2, WEIGHT_BINS), dtype=int)
    for span in spans:
        block = block_of(graphs, span)
        own = edge_distances(block, z[slice(*span)], z[block.halo])
        half = len(own) // 2
        for part in (slice(0, half), slice(half, None)):
            whole += weight_counts(block, semantic_weights(own[part], 0.5, LAM), part)
            ones += weight_counts(block, semantic_weights(own[part], np.inf, LAM), part)
    np.testing.assert_array_equal(whole, expected)
    assert ones.tolist() == [0] * (WEIGHT_BINS - 1) + [len(s)]
