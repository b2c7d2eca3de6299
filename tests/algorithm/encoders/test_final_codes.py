"""PCA-ITQ final codes against the dense reference."""

import numpy as np
import pytest

from srch_dist.config.derived import direction_count
from srch_dist.config.loading import build_config
from srch_dist.errors import ConfigError, SrchError
from srch_dist.kernels.packed_codes import random_codes, unpack_codes
from srch_dist.kernels.sampling import Stream
from tests.helpers import reference
from tests.helpers.prepared import read_array

pytestmark = pytest.mark.slow

N, LOOP_BITS = 150, 16
METHOD = {"loop_bits": LOOP_BITS, "directions": 5, "iterations": 3, "weights": "mutual"}


def final_codes(run):
    return unpack_codes(read_array(run.directory.codes))


@pytest.fixture(scope="module")
def features():
    return reference.paired_features(5, N, (12, 9))


@pytest.fixture(scope="module")
def finish(prepare, features):
    """A function that trains; returns the run, the codes of the loop, the model and the figures."""

    def finished(
        bits=24,
        encoder="anchors",
        anchors=40,
        seed=0,
        partition_rows=N,
        precision="float64",
        **method,
    ):
        method = {**METHOD, "encoder": encoder, "anchors": anchors, **method}
        run = prepare(
            features,
            bits=bits,
            seed=seed,
            method=method,
            partition_rows=partition_rows,
            precision=precision,
            blocks=2,
        )
        learned = run.learn()
        return run, run.codes(learned.iteration), *run.finish(learned)

    return finished


def first_pair_frame(maps, bits):
    """Random projections of the features, in the pair directions."""
    random = random_codes(4 ^ Stream.PAIR_FRAME, np.arange(sum(map(len, maps.values()))), bits)
    total = np.vstack(list(maps.values())).T @ random
    return total * np.sqrt(bits) / np.linalg.norm(total) if len(total) else total


@pytest.mark.parametrize(
    ("encoder", "bits", "pair"),
    [
        ("ridge", 24, 0.5),
        ("anchors", 8, 0.5),
        ("anchors", 24, 0.0),
        ("anchors", 24, 1.0),
        ("projection", 24, 0.3),
    ],
)
def test_final_codes_equal_those_of_the_reference(finish, encoder, bits, pair):
    run, loop, _, record = finish(bits, encoder, seed=4, partition_rows=47, pair=pair)
    x = run.features()
    rows = read_array(run.directory.sample("rows"))
    scores = {g: reference.encoded(x[g], loop, encoder, 0.1, rows) for g in x}
    neighbours = [reference.nearest(x[g], 10) for g in x]
    trust = dict(zip(x, reference.mutual_trust(neighbours), strict=True))
    random = random_codes(4 ^ Stream.FINAL_FRAME, np.arange(LOOP_BITS), bits).astype(float)
    beyond = np.arange(bits) >= LOOP_BITS
    start = np.eye(LOOP_BITS, bits) + random * np.where(beyond, LOOP_BITS**-0.5, 1e-3)
    maps = reference.pair_maps(x, trust, 5 if pair else 0)
    start = np.vstack([start, first_pair_frame(maps, bits)])
    pairs = sum(x[g] @ a for g, a in maps.items())
    classes = reference.class_part(scores, loop, trust)
    expected = reference.condensed(classes, pairs, pair, rows, 5, start)
    found = final_codes(run)
    differing = found != reference.sign(expected)
    assert (np.abs(expected[differing]) <= reference.SCORE_TOLERANCE).all()
    assert found.shape == (N, bits)
    assert record["directions"] == 5
    assert 0.3 < record["share"] <= 1.0


@pytest.mark.parametrize("partition_rows", [13, 47, N + 5])
def test_partitions_change_neither_codes_nor_model(finish, partition_rows):
    whole, _, model, record = finish()
    cut, _, other, again = finish(partition_rows=partition_rows)
    np.testing.assert_array_equal(final_codes(cut), final_codes(whole))
    assert again == pytest.approx(record, rel=1e-9)
    for g in model.means:
        np.testing.assert_allclose(other.encoders[g], model.encoders[g], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(
            other.anchors[g].encoder, model.anchors[g].encoder, rtol=1e-6, atol=1e-8
        )


@pytest.mark.parametrize("directions", [0, 5])
def test_bit_means_and_correlations_equal_those_of_the_stored_codes(finish, directions):
    bits = 24 if directions else LOOP_BITS
    run, *_ = finish(bits=bits, directions=directions, partition_rows=47)
    found, codes = run.directory.bits(), final_codes(run).astype(np.float64)
    np.testing.assert_allclose(found["means"], codes.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found["correlations"], np.corrcoef(codes.T), atol=1e-6)


def test_the_model_is_fitted_to_the_final_codes(finish):
    run, _, model, _ = finish(encoder="ridge")
    codes = final_codes(run)
    for g, x in run.features().items():
        expected = reference.ridge_encoder(x, codes, 0.1)
        np.testing.assert_allclose(model.encoders[g], expected, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(model.projections[g], reference.w_step(x, codes), atol=1e-8)
    assert (model.bits, model.anchors) == (24, {})


ILL_CONDITIONED = {
    "float32": {"precision": "float32", "directions": 32, "loop_bits": 64},
    "float32, fewer dimensions than directions": {
        "precision": "float32",
        "encoder": "ridge",
        "directions": 32,
        "loop_bits": 64,
    },
    "fewer sampled rows than directions": {"anchors": 4},
    "a singular start": {"bits": 8, "loop_bits": 8, "seed": 2},
}


@pytest.mark.parametrize("case", ILL_CONDITIONED)
def test_ill_conditioned_cases_do_not_depend_on_the_partitioning(finish, case):
    found = [
        final_codes(finish(partition_rows=size, **ILL_CONDITIONED[case])[0]) for size in (N, 37, 64)
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_without_directions_the_codes_are_those_of_the_loop(finish):
    run, loop, model, record = finish(directions=0)
    np.testing.assert_array_equal(final_codes(run), loop)
    assert (record, model.bits) == ({}, 24)


@pytest.mark.parametrize(("bits", "count"), [(8, 8), (64, 32), (256, 64)])
def test_the_number_of_directions_follows_the_bits(bits, count):
    assert direction_count(build_config({"bits": bits})) == count
    assert direction_count(build_config({"bits": bits, "method": {"directions": 5}})) == 5


def test_pair_directions_of_three_modalities(prepare):
    """They tell pairs apart, and do not depend on the partitioning."""
    features = reference.paired_features(6, N, (12, 9, 7))
    found = []
    for rows in (N, 41):
        method = {**METHOD, "encoder": "ridge", "pair": 0.5}
        run = prepare(features, bits=24, seed=0, method=method, partition_rows=rows, blocks=2)
        run.finish(run.learn())
        found.append(final_codes(run))
    np.testing.assert_array_equal(*found)


def test_collapsed_codes_end_the_run(finish, monkeypatch):
    monkeypatch.setattr("srch_dist.algorithm.encoders.final_codes.COLLAPSED", 100.0)
    with pytest.raises(SrchError, match=r"24 bits, made from 5 directions, are equivalent to \d"):
        finish()


def test_one_direction_is_refused_before_any_work(finish):
    with pytest.raises(ConfigError, match=r"method\.directions is 1, so all bits"):
        finish(directions=1)
