"""Example queries: how the shown items and their captions are named."""

from __future__ import annotations

import numpy as np
import pytest

from srch_dist.evaluate import examples
from tests.helpers.runs import ROWS, make_pairs, make_store

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("shown", ["titles", "characters"])
def test_a_query_without_a_picture_is_named_as_one(tmp_path, shown):
    store = make_store(tmp_path, **make_pairs(**{shown: np.array(["a dog"] * ROWS)}))
    found = examples.Example(0, np.array([1]), np.array([2]))
    described = examples._describe(store, found, "image", "text")
    expected = "image of ‘a dog’" if shown == "titles" else "a dog"
    assert described["query"]["text"] == expected
    assert described["found"][0]["text"] == "a dog"
    assert examples._describe(store, found, "text", "image")["query"]["text"] == "a dog"


@pytest.mark.parametrize(
    ("titles", "shown"),
    [
        (["a dog, running", "two dogs"], "a dog, running / two dogs"),
        ("a dog, running", "a dog, running"),
        (", a dog", ", a dog"),
        (["", "a dog", ""], "a dog"),
        ("peanuts, peanuts", "peanuts"),
        ("so, so, so", "so, so, so"),
    ],
)
def test_examples_show_whole_captions(tmp_path, titles, shown):
    rows = np.broadcast_to(np.array(titles), (ROWS, *np.shape(titles)))
    store = make_store(tmp_path, **make_pairs(titles=rows))
    assert examples._item(store, 3, "text")["text"] == shown
    assert examples._item(store, 3, "image")["text"] == shown
