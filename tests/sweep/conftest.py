"""Fixtures of the sweep tests: a small store, and counts of what the runs of a test compute."""

from __future__ import annotations

import pytest

from srch_dist.algorithm import loop
from srch_dist.train import resume
from tests.helpers.runs import make_pairs, make_store, no_cluster


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"), 25, **make_pairs())


@pytest.fixture
def made(monkeypatch):
    """How often the runs of a test build the graph, prepare features and run a loop."""
    counts = {"set_graph": 0, "prepare_features": 0, "load_graph": 0}

    def counting(module, name):
        inner = getattr(module, name)

        def counted(*arguments):
            counts[name] += 1
            return inner(*arguments)

        monkeypatch.setattr(module, name, counted)

    counting(resume, "set_graph")
    counting(resume, "prepare_features")
    counting(loop, "load_graph")  # a loop that is done already does not need the graph
    return counts


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    monkeypatch.setattr("srch_dist.runtime.cluster.connect", no_cluster)
