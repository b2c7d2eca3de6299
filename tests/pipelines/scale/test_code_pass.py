"""The B-step pass by itself."""

from __future__ import annotations

import pytest

from pipelines.scale.code_pass import Options, measure


def test_every_part_is_timed_and_shares_follow(tmp_path):
    options = Options(tmp_path / "a.json", rows=2_000, dims=16, bits=16, repeats=1, workers=1)
    found = measure(options)
    seconds = found["seconds"]
    assert set(seconds) == {"read", "products", "pass", "pass, features kept"}
    assert all(value > 0 for value in seconds.values())
    floor = max(seconds["read"], seconds["products"])
    assert found["share"] == pytest.approx(floor / seconds["pass"])
    assert [path.name for path in tmp_path.iterdir()] == []
