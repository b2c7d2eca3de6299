"""The store of a sweep: by --data, as every command takes it, or by its place as before."""

from __future__ import annotations

import pytest

from srch_dist.sweep import __main__ as sweep


@pytest.fixture
def seen(monkeypatch):
    stores = []
    monkeypatch.setattr(sweep, "sweep_options", lambda config, *_: stores.append(config.data) or [])
    return stores


@pytest.mark.parametrize("spelling", [["--data", "a.zarr"], ["a.zarr"], ["--data=a.zarr"]])
def test_both_spellings_name_the_store(seen, spelling):
    sweep.main([*spelling, "--grid", "bits=8,16", "--out", "out"])
    assert seen == ["a.zarr"]


def test_two_stores_are_refused(seen, capsys):
    with pytest.raises(SystemExit) as end:
        sweep.main(["a.zarr", "--data", "b.zarr", "--grid", "bits=8"])
    assert end.value.code == 2
    assert "two feature stores, a.zarr and --data b.zarr" in capsys.readouterr().err
    assert seen == []
