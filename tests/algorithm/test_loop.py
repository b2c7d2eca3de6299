"""The loop of Algorithm 1 against the dense reference: codes, embedding, objective, history."""

import numpy as np
import pytest

from srch_dist.algorithm.b_step import b_step
from srch_dist.algorithm.iteration import Iteration
from srch_dist.algorithm.s_step import s_step
from srch_dist.algorithm.w_step import w_step
from srch_dist.algorithm.z_step import allowed_residual, z_step
from srch_dist.config.loading import build_config
from srch_dist.errors import SrchError
from srch_dist.runtime import tasks
from tests.helpers import reference
from tests.helpers.prepared import read_array

pytestmark = pytest.mark.slow

N = 150
PRESETS = {"balanced": reference.BALANCED, "paper": reference.PAPER}
SHAPES = {
    "two modalities": ((12, 9), 8),
    "three modalities": ((12, 9, 10), 8),
    "more bits than dimensions": ((12, 9), 16),
    "three modalities, more bits than some": ((20, 9, 14), 16),
}


class Whole:
    """A finished loop, and the reference run from the same first codes."""

    def __init__(self, prepare, preset, dims, bits, method=None, symmetry="union", **cut):
        features = reference.paired_features(0, N, dims)
        self.run = prepare(
            features,
            preset=preset,
            bits=bits,
            method={"forcing": 0.0, **(method or {})},
            graph={"symmetry": symmetry},
            solver={"tolerance": 1e-10},
            **cut,
        )
        self.learned = self.run.learn()
        changed = {**vars(PRESETS[preset]), "symmetry": symmetry, **(method or {})}
        self.expected = reference.train(
            features, self.run.first_codes, reference.Options(**changed)
        )
        self.history = self.run.directory.history()


@pytest.fixture(scope="module", params=SHAPES)
def shape(request):
    return SHAPES[request.param]


@pytest.fixture(scope="module", params=PRESETS)
def whole(request, prepare, shape):
    return Whole(prepare, request.param, *shape, partition_rows=64)


def assert_same_codes(whole):
    """Equal codes, except for bits whose score in the reference is zero up to rounding."""
    codes = whole.run.codes(whole.learned.iteration)
    assert whole.learned.iteration == len(whole.expected.terms)
    differing = codes != whole.expected.codes
    assert (np.abs(whole.expected.scores[differing]) <= reference.SCORE_TOLERANCE).all()
    assert np.abs(whole.expected.scores).max() > 0.01


def test_codes_equal_those_of_the_reference(whole):
    assert_same_codes(whole)


def test_embedding_equals_that_of_the_reference(whole):
    z = whole.run.embedding(whole.learned.iteration)
    # Lengths are float32, so an edge at the threshold of `drop` may be kept or dropped.
    np.testing.assert_allclose(z, whole.expected.z, atol=max(1e-5, whole.run.config.method.drop))


def test_every_term_of_the_objective_equals_that_of_the_reference(whole):
    assert len(whole.history) == len(whole.expected.terms)
    for record, terms in zip(whole.history, whole.expected.terms, strict=True):
        assert record["terms"] == pytest.approx(terms, rel=1e-4)
        assert record["objective"] == pytest.approx(sum(terms.values()), rel=1e-6)


def test_history_holds_alpha_and_changed_bits_of_the_reference(whole):
    for record, alpha, changed in zip(
        whole.history, whole.expected.alphas, whole.expected.changed, strict=True
    ):
        assert record["alpha"] == pytest.approx(alpha, rel=1e-4)
        assert record["changed_bits"] == pytest.approx(changed, abs=1e-12)


def test_history_holds_the_bits_and_residuals_of_every_iteration(whole):
    """Bits of the last iteration, whose codes are stored; residuals of every iteration."""
    codes = whole.run.codes(whole.learned.iteration).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.abs(np.nan_to_num(np.corrcoef(codes.T)))
    others = found[~np.eye(len(found), dtype=bool)]
    last = whole.history[-1]
    assert last["bit_correlation"] == pytest.approx(
        {"mean": others.mean(), "worst": others.max()}, abs=1e-9
    )
    edges = np.logical_or.reduce(whole.run.weights() > 0)
    for record in whole.history:
        assert sum(record["s_counts"]) == np.triu(edges).sum()
        assert len(record["cg_residuals"]) == record["cg_iterations"] + 1
        assert record["cg_residuals"][-1] == pytest.approx(record["cg_residual"], rel=1e-3)
        assert record["cg_residuals"][-1] <= 1e-10


def test_final_sums_equal_those_of_the_final_codes(whole):
    codes = whole.run.codes(whole.learned.iteration)
    for g, x in whole.run.features().items():
        np.testing.assert_allclose(whole.learned.cross_covariance[g], x.T @ codes, atol=1e-9)
        np.testing.assert_allclose(
            w_step(whole.learned.cross_covariance)[g], whole.expected.w[g], atol=1e-6
        )


def test_the_embedding_changes_the_codes(prepare):
    """A guard: without an effect of Z and S the tests above would not test them."""
    with_graph = Whole(prepare, "balanced", (12, 9), 8)
    fixed = Whole(prepare, "balanced", (12, 9), 8, {"rebase": False})
    without = Whole(prepare, "balanced", (12, 9), 8, {"omega": 0.0})
    for other in (fixed, without):
        assert_same_codes(other)
        share = np.mean(other.expected.codes != with_graph.expected.codes)
        assert share > 0.01


@pytest.mark.parametrize(
    "method",
    [
        {"omega": 2.0, "lam": 3.0, "beta": 0.5},
        {"alpha": 0.5, "stop": "objective", "threshold": 1e-3},
        {"lam": 0.0},
        {"iterations": 2},
    ],
    ids=lambda method: ", ".join(method),
)
def test_options_of_the_method_give_the_codes_of_the_reference(prepare, method):
    assert_same_codes(Whole(prepare, "balanced", (12, 9), 8, method, blocks=2, partition_rows=64))


def test_mutual_graphs_give_the_codes_of_the_reference(prepare):
    whole = Whole(prepare, "balanced", (12, 9), 8, symmetry="mutual")
    assert_same_codes(whole)


@pytest.mark.parametrize(
    ("preset", "method", "reason"),
    [
        ("balanced", {}, "changed bits"),
        ("paper", {}, "relative change of the objective"),
        ("balanced", {"iterations": 2}, "2 iterations"),
    ],
)
def test_reason_for_stopping_is_recorded(prepare, preset, method, reason):
    whole = Whole(prepare, preset, (12, 9), 8, method)
    assert whole.learned.reason.startswith(reason)


def features_with_components():
    """Duplicates, a distant component, and rows that are isolated in a mutual graph."""
    features = reference.paired_features(4, N, (12, 9))
    for x in features.values():
        x[20:26] = x[20]
        x[120:] = 0.1 * x[120:] + 30 * np.eye(x.shape[1])[0]
        x[60] = -40 * np.eye(x.shape[1])[1]
    return features


@pytest.mark.parametrize("symmetry", ["union", "mutual"])
def test_duplicates_isolated_rows_and_components_train_as_in_the_reference(prepare, symmetry):
    features = features_with_components()
    run = prepare(
        features,
        method={"forcing": 0.0},
        graph={"k": 4, "symmetry": symmetry},
        solver={"tolerance": 1e-10},
        blocks=2,
    )
    learned = run.learn()
    options = reference.Options(k=4, symmetry=symmetry)
    expected = reference.train(features, run.first_codes, options)
    differing = run.codes(learned.iteration) != expected.codes
    assert run.report.components > 1
    assert all(report.duplicates == 6 for report in run.report.modalities.values())
    assert (run.report.modalities["m0"].isolated > 0) == (symmetry == "mutual")
    assert learned.iteration == len(expected.terms)
    assert (np.abs(expected.scores[differing]) <= reference.SCORE_TOLERANCE).all()


def test_objective_falls_over_z_s_and_b_steps_of_the_printed_preset(prepare):
    """With l ≤ d and a fixed α. The W-step maximises Eq. 10 and may raise Eq. 9."""
    options = reference.Options(**{**vars(reference.PAPER), "alpha": 0.05, "beta": 0.2, "lam": 1.0})
    method = {"alpha": options.alpha, "beta": options.beta, "lam": options.lam}
    features = reference.paired_features(0, N, (12, 9))
    run = prepare(features, preset="paper", method=method, solver={"tolerance": 1e-8})
    x = {g: reference.normalise(values) for g, values in features.items()}
    graphs = {g: reference.adjacency(reference.nearest(x[g], options.k)) for g in x}
    graph = run.graph()
    cross, rebased, warm = run.statistics.cross_covariance, None, None
    b = run.first_codes.astype(np.float64)
    z, s = b, reference.unit_weights(graphs)
    falls = []
    for iteration in range(1, 5):
        w = w_step(cross)

        def total(z, s, b, w=w):
            terms = reference.objective(x, w, z, s, b, graphs, options.alpha, options)
            return sum(terms.values())

        values = [total(z, s, b)]
        step = Iteration(iteration, run.config.solver.tolerance)
        found = z_step(run.job, graph, step, rebased, warm)
        z, warm = np.concatenate(tasks.run_all(found.groups[0])).astype(float), found
        values.append(total(z, s, b))
        rebased = s_step(run.job, graph, found.groups)
        s = {
            g: 1 / (1 + options.lam / rebased.alpha * reference.edge_lengths(graphs[g], z))
            for g in x
        }
        values.append(total(z, s, b))
        rule = run.rule(w, found)
        update = b_step(run.job, iteration, rule)
        cross, b = update.sums.cross_covariance, run.codes(iteration).astype(float)
        values.append(total(z, s, b))
        falls.append(-np.diff(values))
    assert (np.array(falls) >= -1e-9).all()
    assert (np.array(falls[0]) > 1e-3).all()


def test_no_flipped_bit_lowers_the_printed_objective(prepare):
    whole = Whole(prepare, "paper", (12, 9), 8, {"alpha": 0.05, "beta": 0.2, "lam": 1.0})
    options = reference.Options(**{**vars(reference.PAPER), "alpha": 0.05, "beta": 0.2, "lam": 1.0})
    x = whole.run.features()
    graphs = {g: reference.adjacency(reference.nearest(x[g], options.k)) for g in x}
    last = whole.learned.iteration
    z, b = whole.run.embedding(last).astype(float), whole.run.codes(last).astype(float)
    _, s = reference.s_step(graphs, z, options)
    w = {g: reference.w_step(x[g], whole.run.codes(last - 1).astype(float)) for g in x}

    def total(b):
        return sum(reference.objective(x, w, z, s, b, graphs, 0.05, options).values())

    best = total(b)
    for i, j in np.random.default_rng(0).integers(0, (N, 8), (40, 2)):
        flipped = b.copy()
        flipped[i, j] *= -1
        assert total(flipped) > best


OPTIONS = {
    "weights": ({"weights": "mutual"}, {"trust_mutual": True}),
    "rotation": ({"rotate": True, "anchors": 30}, {"rotation_rows": True}),
    "no centring": ({"center_z": False}, {"center_z": False}),
    "all": (
        {"weights": "mutual", "rotate": True, "anchors": 30, "omega": 1.5},
        {"trust_mutual": True, "rotation_rows": True, "omega": 1.5},
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("blocks", [1, 2])
def test_options_of_the_method_equal_the_dense_reference(prepare, name, blocks):
    method, changes = OPTIONS[name]
    features = reference.paired_features(3, N, (12, 9))
    method = {**method, "iterations": 4, "forcing": 0.0}
    run = prepare(
        features, method=method, solver={"tolerance": 1e-10}, blocks=blocks, partition_rows=31
    )
    learned = run.learn()
    changes = dict(changes, iterations=4)
    if changes.get("rotation_rows"):
        changes["rotation_rows"] = tuple(read_array(run.directory.sample("rows")))
    expected = reference.train(features, run.first_codes, reference.Options(**changes))
    differing = run.codes(learned.iteration) != expected.codes
    assert (np.abs(expected.scores[differing]) <= reference.SCORE_TOLERANCE).all()
    objective = [record["objective"] for record in run.directory.history()]
    np.testing.assert_allclose(objective, [sum(t.values()) for t in expected.terms], rtol=1e-5)


@pytest.mark.parametrize(
    ("forcing", "changed", "allowed"),
    [(1.0, 1.0, 0.1), (1.0, 0.004, 4e-3), (0.1, 0.02, 2e-3), (0.1, 5e-4, 1e-4), (0.0, 0.5, 1e-4)],
)
def test_allowed_residual_follows_the_changed_bits(forcing, changed, allowed):
    config = build_config({"method": {"forcing": forcing}})
    assert allowed_residual(config, changed) == pytest.approx(allowed)


def test_tolerance_of_the_z_step_follows_the_changed_bits(prepare):
    features, histories = reference.paired_features(3, N, (12, 9)), []
    for forcing in (1.0, 0.0):
        method = {"iterations": 5, "threshold": 0.0, "forcing": forcing}
        run = prepare(features, method=method, solver={"tolerance": 1e-7})
        run.learn()
        histories.append(run.directory.history())
    forced, exact = histories
    changed = [1.0, *(record["changed_bits"] for record in forced)]
    for record, share in zip(forced, changed, strict=False):
        allowed = max(1e-7, min(0.1, share))
        assert record["cg_residual"] <= allowed
        if allowed > 1e-7:  # the solve stops at once: the residual before was above the bound
            assert record["cg_residuals"][-2] > allowed
    assert all(record["cg_residual"] <= 1e-7 for record in exact)
    assert forced[0]["cg_iterations"] < exact[0]["cg_iterations"]


def test_sample_depends_on_the_row_numbers_only(prepare):
    features = reference.paired_features(3, N, (12, 9))
    method = {"rotate": True, "anchors": 20, "iterations": 1}
    samples = []
    for seed, size in ((0, 7), (5, N)):
        run = prepare(features, seed=seed, method=method, partition_rows=size)
        run.learn()
        samples.append(read_array(run.directory.sample("rows")))
    assert len(samples[0]) == 20
    np.testing.assert_array_equal(samples[0], samples[1])


def test_collapsed_codes_end_the_run(prepare):
    """A graph term that dominates gives every row the same code, which is an error."""
    features = reference.paired_features(0, N, (12, 9))
    method = {"lam": 1e6, "omega": 1e6, "center_z": False, "rebase": False}
    run = prepare(features, method=method, graph={"k": 20}, solver={"max_iterations": 100_000})
    with pytest.raises(SrchError, match=r"collapsed in iteration .* independent"):
        run.learn()
