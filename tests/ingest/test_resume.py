"""Interrupted ingests: what resumes, what is refused, and the disk space that is missing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from srch_dist.errors import StorageError
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.storage import disk_space
from srch_dist.storage.feature_store import open_store
from tests.helpers.ingest import ROWS, Interrupting, make_pairs


@pytest.mark.parametrize("blocks", [1, 2, 5, 7, 10])
def test_interrupted_ingest_resumes_where_it_stopped(ingest, tmp_path, blocks):
    arrays = make_pairs(titles=np.array([f"{row} 🦊" for row in range(ROWS)]))
    with pytest.raises(KeyboardInterrupt):
        ingest(arrays, rows_per_chunk=5, progress=Interrupting(blocks))
    with pytest.raises(StorageError, match="not a finished feature store"):
        open_store(tmp_path / "store.zarr")
    last = Interrupting(0)
    source, target = tmp_path / "source.npz", tmp_path / "store.zarr"
    store = ingest_source(source, target, rows_per_chunk=5, progress=last)
    assert any("resuming from row" in note for note in last.notes)
    whole = ingest_source(source, tmp_path / "whole.zarr", rows_per_chunk=5)
    assert store.checksums == whole.checksums
    for name, values in arrays.items():
        np.testing.assert_array_equal(store.read(name), values)
    assert sorted(path.name for path in target.iterdir()) == sorted([*arrays, "zarr.json"])


def test_interrupted_ingest_needs_disk_only_for_the_missing_rows(ingest, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        ingest(make_pairs(2300), rows_per_chunk=50, progress=Interrupting(60))
    source, target = tmp_path / "source.npz", tmp_path / "store.zarr"
    room = [0]
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: SimpleNamespace(free=room[0]))
    with pytest.raises(StorageError, match=r" 0 bytes free, plus \d+ bytes of the store already"):
        ingest_source(source, target, rows_per_chunk=50)
    needed = sum(values.nbytes for values in make_pairs(2300).values())
    room[0] = needed // 2  # more than half was written
    last = Interrupting(0)
    store = ingest_source(source, target, rows_per_chunk=50, progress=last)
    assert "ingest image: resuming from row 2300" in last.notes
    np.testing.assert_array_equal(store.read("text"), make_pairs(2300)["text"])


def test_unfinished_ingest_of_other_arrays_of_the_same_names_does_not_resume(tmp_path):
    pairs = make_pairs()
    arrays = {"a": pairs["image"], "b": pairs["image"] + 1, "text": pairs["text"]}
    np.savez(tmp_path / "source.npz", **arrays)
    source, target = tmp_path / "source.npz", tmp_path / "store.zarr"
    with pytest.raises(KeyboardInterrupt):
        ingest_source(source, target, ["image=a+b", "t=b+a"], 5, progress=Interrupting(2))
    with pytest.raises(StorageError, match="already exists"):
        ingest_source(source, target, ["image=b+a", "t=a+b"], 5)
    last = Interrupting(0)
    store = ingest_source(source, target, ["image=a+b", "t=b+a"], 5, progress=last)
    assert any("resuming" in note for note in last.notes)
    np.testing.assert_array_equal(store.read("image"), np.concatenate([arrays["a"], arrays["b"]]))


@pytest.mark.parametrize("change", ["source", "chunks", "modalities"])
def test_unfinished_ingest_of_another_source_or_layout_does_not_resume(ingest, tmp_path, change):
    with pytest.raises(KeyboardInterrupt):
        ingest(make_pairs(), rows_per_chunk=5, progress=Interrupting(2))
    if change == "source":
        np.savez(tmp_path / "source.npz", **make_pairs(image=np.zeros((ROWS, 6))))
    names = ["picture=image", "text"] if change == "modalities" else None
    with pytest.raises(StorageError, match="already exists"):
        ingest_source(
            tmp_path / "source.npz",
            tmp_path / "store.zarr",
            names,
            rows_per_chunk=4 if change == "chunks" else 5,
        )
