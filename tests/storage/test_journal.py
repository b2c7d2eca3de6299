"""The journal of an unfinished feature store."""

from __future__ import annotations

import numpy as np
import pytest

from srch_dist.errors import StorageError
from srch_dist.storage import journal
from srch_dist.storage.feature_store import FeatureWriter, open_store
from srch_dist.storage.journal import Journal

SPECS = {g: ((40, 3), np.dtype(np.float32)) for g in ("image", "text")}
ROWS = np.arange(120, dtype=np.float32).reshape(40, 3)


def start(folder, fingerprint="same"):
    return FeatureWriter(folder, SPECS, ("image", "text"), 10, fingerprint)


def write(writer, name, stop):
    for first in range(writer.written.get(name, 0), stop, 10):
        writer.write(name, first, ROWS[first : first + 10])


def test_a_block_is_recorded_only_once_the_disk_has_it(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(journal, "flush", lambda folder: flushed.append(lines(folder)))
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.0)
    write(start(tmp_path / "a"), "image", 30)
    assert flushed == [0, 1, 2]
    assert lines(tmp_path / "a") == 3


def test_the_disk_is_not_waited_for_at_each_block(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 1e9)
    writer = start(tmp_path / "a")
    write(writer, "image", 40)
    assert lines(tmp_path / "a") == 1
    writer.settle()
    assert lines(tmp_path / "a") == 4


def lines(folder):
    path = folder / ".unfinished.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_line_cut_short_ends_the_journal(tmp_path, monkeypatch, cut):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.0)
    write(start(tmp_path / "a"), "image", 30)
    path = tmp_path / "a" / ".unfinished.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    writer = start(tmp_path / "a")
    assert writer.written == {"image": 20}
    write(writer, "image", 40)
    write(writer, "text", 40)
    store = writer.finish({})
    for g in SPECS:
        np.testing.assert_array_equal(store.read(g), ROWS)
    assert sorted(entry.name for entry in (tmp_path / "a").iterdir()) == [
        "image",
        "text",
        "zarr.json",
    ]


def test_bytes_after_a_damaged_line_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.0)
    write(start(tmp_path / "a"), "image", 30)
    path = tmp_path / "a" / ".unfinished.jsonl"
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([whole[0], b"\0" * len(whole[1]), whole[2]]))
    assert start(tmp_path / "a").written == {"image": 10}


@pytest.mark.parametrize("names", [[], [".unfinished.json"], ["..unfinished.json.ab.partial"]])
def test_a_folder_with_a_part_of_the_journal_alone_is_started_again(tmp_path, names):
    (tmp_path / "a").mkdir()
    for name in names:
        (tmp_path / "a" / name).write_bytes(b"")
    writer = start(tmp_path / "a")
    assert writer.written == {}
    for g in SPECS:
        write(writer, g, 40)
    writer.finish({})
    open_store(tmp_path / "a")


@pytest.mark.parametrize("name", ["zarr.json", "image/zarr.json"])
def test_metadata_cut_short_start_the_ingest_again(tmp_path, monkeypatch, name):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.0)
    write(start(tmp_path / "a"), "image", 30)
    (tmp_path / "a" / name).write_bytes(b"")
    assert start(tmp_path / "a").written == {}


def test_lines_that_do_not_follow_each_other_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.0)
    write(start(tmp_path / "a"), "image", 30)
    path = tmp_path / "a" / ".unfinished.jsonl"
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(whole[0] + whole[2])
    with pytest.raises(StorageError, match=r"row 20, expected row 10.* remove"):
        start(tmp_path / "a")


def test_the_folder_of_something_else_does_not_belong(tmp_path):
    (tmp_path / "mine").write_text("x")
    assert not Journal(tmp_path, "same").belongs()
    with pytest.raises(StorageError, match="already exists"):
        start(tmp_path)


def test_the_journal_grows_with_the_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.0)
    specs = {"image": ((400, 1), np.dtype(np.float32))}
    writer = FeatureWriter(tmp_path / "a", specs, ("image",), 1, "same")
    sizes = []
    for row in range(400):
        writer.write("image", row, np.ones((1, 1), np.float32))
        sizes.append((tmp_path / "a" / ".unfinished.jsonl").stat().st_size)
    assert sizes[-1] < 2.5 * sizes[199]
