"""The page of options: none is missing, it is what the options and the measurements say."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import zarr

from pipelines.options.cases import ABLATION, CASES, NOT_TRIED, Case
from pipelines.options.page import PAGE, option_names, page
from pipelines.options.run import RESULTS, measure_case, nested
from srch_dist.config.identity import effective_options
from srch_dist.config.loading import build_config
from srch_dist.runtime.cluster import Cluster
from tests.helpers.runs import make_pairs, make_store, train_here

pytestmark = pytest.mark.cluster

OPTIONS = dict(option_names())


@pytest.fixture(scope="module")
def results():
    return json.loads(RESULTS.read_text())


def test_every_option_is_tried_or_there_is_a_reason_not_to():
    tried = [case.option for case in CASES]
    assert sorted([*tried, *NOT_TRIED]) == sorted(OPTIONS)
    # What can change codes is tried, but for what only says yes or no.
    refusing = {"queries", "features.max_zero_share", "solver.max_iterations"}
    assert set(effective_options(build_config({}))) - refusing <= set(tried)


def test_every_option_is_described():
    assert len(OPTIONS) > 50
    assert all(text.endswith(".") for text in OPTIONS.values())


def test_what_is_tried_is_not_the_default_and_valid():
    for case in CASES:
        default = build_config(nested(dict(case.beside)))
        for value in case.values:
            assert build_config(nested({**case.beside, case.option: value})) != default, case


def test_the_page_is_of_the_options_and_results_of_today(results):
    tried = {case.option: case for case in CASES}
    for name, records in results.items():
        assert [record["value"] for record in records] == list(tried[name].values), name
        assert all(one["beside"] == tried[name].beside for one in records)
    assert PAGE.read_text() == page(results), "python -m pipelines.options.page writes it again"
    for name in OPTIONS:
        assert f"| `{name}` |" in PAGE.read_text()


def test_what_is_said_to_change_no_codes_changed_none(results):
    without = {"partition_rows", "blocks", "columns", "cache", "spill", "workers", "memory_limit"}
    for name in without & set(results):
        assert [record["differing_bits"] for record in results[name]] == [0.0]


def test_the_ablation_of_the_quality_page_has_every_option_that_is_taken_from_it():
    for name in ABLATION:
        (line,) = (one for one in PAGE.read_text().splitlines() if one.startswith(f"| `{name}` |"))
        assert re.search(r"on instead of off, five data sets, 64 bits: \+\.\d{3} MAP", line)


def test_an_effect_is_that_of_two_trainings(tmp_path):
    store = make_store(tmp_path, 25, **make_pairs())
    beside = {"bits": 16, "graph.k": 5, "method.iterations": 3}
    case = Case("method.omega", (0.0,), beside)
    (record,) = measure_case(case, 2, store.path, Cluster(2, 2 << 30), {})
    maps, bits = [], []
    for seed in (0, 1):
        pair = [
            train_here(
                store.path,
                tmp_path / f"{seed}-{omega}",
                seed=seed,
                method={"iterations": 3, "omega": omega},
            )
            for omega in (1.0, 0.0)
        ]
        maps.append([np.mean(list(one.evaluation["map"].values())) for one in pair])
        before, after = (zarr.open_array(one.run.codes, mode="r")[:] for one in pair)
        bits.append(np.unpackbits(before ^ after).mean())
    found = [record["map_base"], record["map"]]
    np.testing.assert_allclose(found, np.mean(maps, axis=0), rtol=1e-12)
    assert record["differing_bits"] == pytest.approx(np.mean(bits))
    assert record["differing_bits"] > 0
