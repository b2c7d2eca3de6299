"""The table of scores: what it says beside the numbers."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from srch_dist.cli.console import print_evaluation
from srch_dist.evaluate.retrieval import evaluate_model
from tests.helpers.runs import ROWS, make_pairs, make_store, train_here

pytestmark = pytest.mark.slow


def evaluated(folder, **arrays) -> dict:
    """Scores of a run on these arrays; ``arrays`` replace those of `make_pairs`."""
    store = make_store(folder, **make_pairs(**arrays))
    run = train_here(store.path, folder / "run", queries=0).run
    return evaluate_model(run.path, store.path)


def shown_scores(result) -> str:
    page = Console(file=StringIO(), width=200)
    print_evaluation(page, result)
    return page.file.getvalue()


def test_the_table_says_how_many_queries_were_scored(tmp_path):
    split = (np.arange(ROWS) % 5 == 0).astype(np.uint8)
    labels = np.arange(ROWS) % 4
    labels[(split == 0) & (labels == 3)] = 0
    found = evaluated(tmp_path, labels=labels, split=split)
    without = int(np.count_nonzero((split == 1) & (labels == 3)))
    assert found["queries_without_relevant"] == without > 0
    assert f"18 queries ({18 - without} scored for MAP), database" in shown_scores(found)


def test_the_table_says_what_is_ranked_and_how_the_baseline_scores(tmp_path):
    found = evaluated(tmp_path)
    every = found["queries"] + found["database"]
    shown = shown_scores({**found, "queries_without_relevant": 0})
    heading = f"{found['queries']} queries, database of {found['database']} rows; pairs are ranked"
    assert f"{heading} among all {every} " in shown
    assert "no labels" not in shown
    scores = {"image_to_text": 0.5, "text_to_image": None}
    shown = shown_scores({**found, "baseline": {"method": "CCA-ITQ", "bits": 16, "map": scores}})
    line = "for comparison, MAP of CCA-ITQ, 16 bits: image → text 0.500, text → image –"
    assert line in shown


def test_without_labels_the_table_says_how_to_get_map(tmp_path):
    shown = shown_scores(evaluated(tmp_path, labels=None))
    assert "no labels: MAP needs an array 'labels' in the store, see docs/how-to/splits.md" in shown
