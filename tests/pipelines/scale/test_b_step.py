"""The benchmark of the B-step alone."""

from __future__ import annotations

import pytest

from pipelines.scale.b_step import Options, measure


def test_every_variant_is_timed_and_shares_follow(tmp_path):
    options = Options(tmp_path / "a.json", rows=2_000, dims=16, bits=16, repeats=1, workers=1)
    result = measure(options)
    seconds = result["seconds"]
    assert set(seconds) == {"read", "products", "pass", "pass, features kept"}
    assert all(value > 0 for value in seconds.values())
    floor = max(seconds["read"], seconds["products"])
    assert result["share"] == pytest.approx(floor / seconds["pass"])
    assert [path.name for path in tmp_path.iterdir()] == []
