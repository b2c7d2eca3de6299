"""Each recipe ingests, trains and evaluates a small synthetic file of its layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from srch_dist import ingest_source, load_config, train_model

pytestmark = pytest.mark.slow

RECIPES = Path(__file__).parents[3] / "pipelines"
# Dimensions of image and text (deep features divided by 32), classes, and most classes per row.
LAYOUTS = {
    "wiki": (128, 10, 10, 1),
    "mirflickr": (128, 16, 24, 3),
    "coco": (128, 16, 80, 3),
    "nuswide": (128, 16, 10, 2),
}


def make_file(path, image, text, classes, most):
    """Write 250 pairs with up to ``most`` classes each, float16, with splits 0, 1 and 2."""
    rng = np.random.default_rng(0)
    n = 250
    labels = np.zeros((n, classes), dtype=np.uint8)
    for row in labels:
        row[rng.choice(min(classes, 12), rng.integers(1, most + 1), replace=False)] = 1
    hidden = labels @ rng.normal(size=(classes, 8)) + 0.3 * rng.normal(size=(n, 8))
    features = {
        name: hidden @ rng.normal(size=(8, d)) + 0.5 * rng.normal(size=(n, d))
        for name, d in (("image", image), ("text", text))
    }
    split = rng.choice([0, 1, 2], size=n, p=[0.75, 0.2, 0.05]).astype(np.uint8)
    halves = {name: X.astype(np.float16) for name, X in features.items()}
    np.savez(path, labels=labels, split=split, **halves)
    return labels[split == 0], labels[split == 1]


def test_each_recipe_has_a_layout():
    assert {path.stem for path in RECIPES.glob("*.yaml")} == set(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_recipe_runs_from_file_to_scores(name, in_process, tmp_path):
    database, queries = make_file(tmp_path / f"{name}.npz", *LAYOUTS[name])
    store = ingest_source(tmp_path / f"{name}.npz", tmp_path / f"{name}.zarr")
    config = load_config(RECIPES / f"{name}.yaml")
    assert (config.preset, config.bits, config.graph.k) == ("balanced", 64, 10)
    places = {"data": store.path, "out": str(tmp_path / "run"), "scheduler": in_process}
    scores = train_model(replace(config, **places)).evaluation
    assert (scores["database"], scores["queries"]) == (len(database), len(queries))
    chance = (queries @ database.T > 0).mean()
    assert set(scores["map"]) == {"image_to_text", "text_to_image"}
    assert min(scores["map"].values()) > chance + 0.1
