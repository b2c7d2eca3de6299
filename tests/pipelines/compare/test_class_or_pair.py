"""The command that measures class and pair retrieval."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.compare import class_or_pair
from pipelines.compare.class_or_pair import Options, measure, tables, with_queries


def test_files_without_queries_get_a_fixed_fifth(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"image": rng.normal(size=(50, 4)), "labels": np.arange(50) % 3}
    np.savez(tmp_path / "a.npz", split=np.zeros(50, dtype=np.uint8), **arrays)
    (tmp_path / "out").mkdir()
    made = with_queries(tmp_path / "a.npz", tmp_path / "out")
    with np.load(made) as file:
        assert file["split"].sum() == 10
        np.testing.assert_array_equal(file["image"], arrays["image"])
    assert with_queries(made, tmp_path) == made


def test_tables_have_means_over_seeds_and_sets():
    def row(name, seed, score, kept):
        scores = dict.fromkeys(class_or_pair._SCORES, score)
        return {"set": name, "seed": seed, "bits": 64, "method.pair": 0.5, **scores} | kept

    kept = dict.fromkeys(class_or_pair._FLOAT_SCORES, 0.4)
    text = tables([row("a", 0, 0.2, {}), row("a", 1, 0.4, {}), row("b", 0, 0.6, kept)])
    assert "| 64 | 8 | 0.5 | 0.300 | 0.300 | 0.300 | 0.300 | 0.300 |" in text.split("## b")[0]
    assert "0.600 | 0.400 | 0.400 | 0.400 |" in text
    assert text.split("## Mean of a, b")[1].count("0.400") == 5


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_one_sweep_measures_every_value(source, tmp_path):
    method = '{"method": {"iterations": 2, "loop_bits": 16, "encoder": "ridge"}}'
    options = Options([source], tmp_path, [8, 16], [0.0, 0.5], 1, method)
    rows = measure(options, source)
    assert [(r["method.pair"], r["bits"]) for r in rows] == [(0, 8), (0, 16), (0.5, 8), (0.5, 16)]
    assert all(0 < r["pair_recall_10"] < 1 and 0 < r["asymmetric_map"] < 1 for r in rows)
