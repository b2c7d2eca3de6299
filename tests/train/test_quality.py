"""Retrieval quality on the shipped emoji, against published figures and CCA in plain NumPy."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from srch_dist.ingest.pipeline import ingest_source
from tests.helpers.runs import train_here

pytestmark = pytest.mark.slow

BITS = 32
# Means of five seeds, image → text and text → image (README).
PAPER, BALANCED = (0.453, 0.442), (0.589, 0.586)
# Own partner among the first 10, mean of both directions (docs/concepts/class-or-pair.md).
PAIR = 0.170
DATA = Path(str(resources.files("srch_dist.ingest"))) / "data"


@pytest.fixture(scope="module")
def emoji():
    with np.load(DATA / "emoji.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return ingest_source(DATA / "emoji.npz", tmp_path_factory.mktemp("quality") / "emoji.zarr")


@pytest.fixture(scope="module")
def evaluations(store, tmp_path_factory):
    """Scores by preset."""
    found = {}
    for preset in ("balanced", "paper"):
        out = tmp_path_factory.mktemp("runs") / preset
        options = {"bits": BITS, "graph": {"k": 10}}
        found[preset] = train_here(store.path, out, preset, **options).evaluation
    return found


@pytest.fixture(scope="module")
def maps(evaluations):
    """MAP of both directions by preset."""
    return {preset: tuple(scores["map"].values()) for preset, scores in evaluations.items()}


def mean_average_precision(distances, query_labels, database_labels) -> float:
    """Expectation over random order among equal distances, rank by rank."""
    relevant = query_labels @ database_labels.T > 0
    values = []
    for row, hit in zip(distances, relevant, strict=True):
        levels, block = np.unique(row, return_inverse=True)
        items = np.bincount(block, minlength=len(levels))
        hits = np.bincount(block[hit], minlength=len(levels))
        before, found = np.cumsum(items) - items, np.cumsum(hits) - hits
        places = np.arange(len(row))
        b = np.repeat(np.arange(len(levels)), items)
        inside = places - before[b]
        earlier = inside * (hits[b] - 1) / np.maximum(items[b] - 1, 1)
        gain = hits[b] / items[b] * (found[b] + 1 + earlier) / (places + 1)
        values.append(gain.sum() / hit.sum())
    return float(np.mean(values))


@pytest.fixture(scope="module")
def embedded(emoji):
    """CCA embedding: covariances plus 0.1 trace / d, directions scaled by the correlations."""
    train = emoji["split"] == 0
    x = {}
    for g in ("image", "text"):
        values = emoji[g].astype(np.float64)
        values -= values[train].mean(axis=0)
        x[g] = values / np.linalg.norm(values, axis=1, keepdims=True)
    roots = {}
    for g, values in x.items():
        gram = values[train].T @ values[train]
        gram += 0.1 * np.trace(gram) / len(gram) * np.eye(len(gram))
        w, v = np.linalg.eigh(gram)
        roots[g] = v / np.sqrt(w) @ v.T
    cross = x["image"][train].T @ x["text"][train]
    u, s, vt = np.linalg.svd(roots["image"] @ cross @ roots["text"], full_matrices=False)
    return {
        "image": x["image"] @ (roots["image"] @ u * s),
        "text": x["text"] @ (roots["text"] @ vt.T * s),
    }


def both_directions(emoji, distances) -> tuple[float, float]:
    """MAP with ``distances(query modality, database modality, queries, database)``."""
    database, queries = emoji["split"] == 0, emoji["split"] == 1
    labels = emoji["labels"].astype(np.float64)
    return tuple(
        mean_average_precision(
            distances(source, target, queries, database), labels[queries], labels[database]
        )
        for source, target in (("image", "text"), ("text", "image"))
    )


def test_balanced_reaches_its_published_map(maps):
    assert maps["balanced"][0] > BALANCED[0] - 0.02
    assert maps["balanced"][1] > BALANCED[1] - 0.02


def test_balanced_finds_the_own_partner_as_often_as_published(evaluations):
    """Share of the queries whose partner is among the first 10 of 1906 rows."""
    scores = evaluations["balanced"]
    own = np.mean([pair["10"] for pair in scores["pair_recall"].values()])
    by_float = np.mean([pair["10"] for pair in scores["asymmetric"]["pair_recall"].values()])
    assert own > PAIR - 0.02
    assert by_float > PAIR - 0.02


def test_paper_is_within_003_of_its_published_map(maps):
    assert maps["paper"] == pytest.approx(PAPER, abs=0.03)


def test_balanced_beats_binary_codes_of_cca_with_itq(maps, emoji, embedded):
    """ITQ: 50 rotations of the stacked training rows of the first 32 directions."""
    train = emoji["split"] == 0
    cut = {g: values[:, :BITS] for g, values in embedded.items()}
    stacked = np.concatenate([values[train] for values in cut.values()])
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(BITS, BITS)))[0]
    for _ in range(50):
        u, _, vt = np.linalg.svd(np.sign(stacked @ rotation).T @ stacked)
        rotation = (u @ vt).T
    codes = {g: np.sign(values @ rotation) for g, values in cut.items()}

    def hamming(source, target, queries, database):
        return (BITS - codes[source][queries] @ codes[target][database].T) / 2

    itq = both_directions(emoji, hamming)
    assert itq == pytest.approx((0.385, 0.399), abs=0.03)  # the baseline itself is right
    assert all(np.array(maps["balanced"]) > np.array(itq) + 0.15)


def test_balanced_is_ten_percent_above_the_real_valued_embedding(maps, emoji, embedded):
    best = np.zeros(2)
    for width in (8, 16, 32, 64):
        unit = {
            g: values[:, :width] / np.linalg.norm(values[:, :width], axis=1, keepdims=True)
            for g, values in embedded.items()
        }

        def cosine(source, target, queries, database, unit=unit):
            return -unit[source][queries] @ unit[target][database].T

        best = np.maximum(best, both_directions(emoji, cosine))
    assert best == pytest.approx((0.504, 0.503), abs=0.02)
    assert all(np.array(maps["balanced"]) > 1.1 * best)


def test_shipped_arrays_match_the_licence_note(emoji):
    note = (DATA / "LICENSE-emoji.md").read_text(encoding="utf-8")
    count = int(re.search(r"for ([\d,]+) emoji", note)[1].replace(",", ""))
    assert {name: values.shape for name, values in emoji.items()} == {
        "image": (count, 1280),
        "text": (count, 384),
        "labels": (count, 9),
        "label_names": (9,),
        "labels_sub": (count, 98),
        "sub_names": (98,),
        "split": (count,),
        "titles": (count,),
        "characters": (count,),
    }
    assert {name: values.dtype.kind for name, values in emoji.items()} == {
        **dict.fromkeys(("image", "text"), "f"),
        **dict.fromkeys(("labels", "labels_sub", "split"), "u"),
        **dict.fromkeys(("label_names", "sub_names", "titles", "characters"), "U"),
    }
    for source in ("emoji-datasource-google", "efficientnet", "MiniLM", "Apache-2.0", "MIT"):
        assert source in note


def test_shipped_rows_have_one_category_each_and_the_split_is_a_fifth(emoji):
    np.testing.assert_array_equal(emoji["labels"].sum(axis=1), 1)
    np.testing.assert_array_equal(emoji["labels_sub"].sum(axis=1), 1)
    assert (emoji["split"] == 1).sum() == 381
    assert set(emoji["split"]) == {0, 1}
    assert len(set(emoji["characters"])) == len(emoji["characters"])
    np.testing.assert_allclose(np.linalg.norm(emoji["text"].astype(float), axis=1), 1, atol=1e-2)


def test_shipped_files_are_small():
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 6 << 20
