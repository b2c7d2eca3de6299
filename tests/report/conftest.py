"""Runs with pages, on data with titles that try to be more than text."""

from __future__ import annotations

import pytest

from tests.helpers.pages import show_arrays
from tests.helpers.runs import make_pairs, make_store, train_here


@pytest.fixture(scope="package")
def shown(tmp_path_factory):
    """A run of two modalities with labels, titles and thumbnails, in a folder named to harm."""
    folder = tmp_path_factory.mktemp("shown")
    store = make_store(folder, 25, **make_pairs(**show_arrays()))
    out = folder / "_<i>$a$ & 'b'"
    return train_here(
        store.path, out, partition_rows=20, seed=7, baseline=True, report=True, preset="balanced"
    )


@pytest.fixture(scope="package")
def other(shown):
    """A run with other options on the same data; its baseline is the same."""
    out = shown.run.path.parent / "other"
    return train_here(
        shown.store.path, out, partition_rows=20, seed=7, bits=24, graph={"k": 7}, baseline=True
    )
