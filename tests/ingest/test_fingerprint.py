"""Which changes of a source make it another source."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from srch_dist.errors import InputError, StorageError
from srch_dist.ingest import pipeline
from srch_dist.ingest.fingerprint import SourceFiles
from srch_dist.ingest.pipeline import ingest_source

NOWHERE = Path("/nowhere/store")


def write(folder, value):
    folder.mkdir()
    for g in ("image", "text"):
        np.save(folder / f"{g}.npy", np.full((40, 3), value, np.float32) + np.eye(40, 3))
        os.utime(folder / f"{g}.npy", (1, 1))


@pytest.fixture
def linked(tmp_path):
    """A folder whose only entry leads to the first of two versions of equal size and time."""
    write(tmp_path / "first", 1)
    write(tmp_path / "second", 2)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "current").symlink_to(tmp_path / "first")
    return tmp_path / "data"


def turn(linked):
    (linked / "current").unlink()
    (linked / "current").symlink_to(linked.parent / "second")


def identity(*paths):
    return SourceFiles(paths, NOWHERE).fingerprint({}, 1)


def test_a_linked_folder_that_points_elsewhere_is_another_source(linked):
    before = identity(linked)
    assert identity(linked) == before
    turn(linked)
    assert identity(linked) != before


def test_a_linked_file_that_points_elsewhere_is_another_source(tmp_path):
    write(tmp_path / "first", 1)
    write(tmp_path / "second", 2)
    link = tmp_path / "image.npy"
    link.symlink_to(tmp_path / "first" / "image.npy")
    before = identity(link)
    link.unlink()
    link.symlink_to(tmp_path / "second" / "image.npy")
    assert identity(link) != before


def test_a_file_that_was_replaced_is_another_source(tmp_path):
    write(tmp_path / "first", 1)
    write(tmp_path / "second", 2)
    before = identity(tmp_path / "first")
    (tmp_path / "second" / "image.npy").replace(tmp_path / "first" / "image.npy")
    assert identity(tmp_path / "first") != before


def test_a_link_to_a_folder_above_ends(linked):
    (linked / "loop").symlink_to(linked)
    assert identity(linked)


def test_an_interrupted_ingest_does_not_go_on_over_other_files(linked, tmp_path, monkeypatch):
    real, calls = pipeline.FeatureWriter.write, []

    def stop(self, *arguments):
        calls.append(real(self, *arguments))
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.FeatureWriter, "write", stop)
    source = linked / "current"
    with pytest.raises(KeyboardInterrupt):
        ingest_source(source, tmp_path / "store", rows_per_chunk=10)
    monkeypatch.undo()
    turn(linked)
    with pytest.raises(StorageError, match="already exists"):
        ingest_source(source, tmp_path / "store", rows_per_chunk=10)


def overwrite(path, put_back):
    """Change the content in place; ``put_back`` restores the time of modification."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\x40")
    if put_back:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("put_back", [False, True])
def test_a_file_that_is_overwritten_while_it_is_read_is_refused(tmp_path, monkeypatch, put_back):
    write(tmp_path / "first", 1)
    real, calls = pipeline.FeatureWriter.write, []

    def change(self, *arguments):
        calls.append(real(self, *arguments))
        if len(calls) == 2:
            overwrite(tmp_path / "first" / "image.npy", put_back)

    monkeypatch.setattr(pipeline.FeatureWriter, "write", change)
    with pytest.raises(InputError, match=r"image.npy changed while it was read"):
        ingest_source(tmp_path / "first", tmp_path / "store", rows_per_chunk=10)
    assert not (tmp_path / "store").exists()


def link_to(link, target):
    (link.parent / "new").symlink_to(target)
    (link.parent / "new").rename(link)


def exchange(folder, other):
    folder.rename(folder.parent / "away")
    other.rename(folder)
    return lambda: (folder.rename(other), (folder.parent / "away").rename(folder))


@pytest.mark.parametrize("way", ["link", "folder", "folder above"])
def test_a_source_that_is_exchanged_and_exchanged_back_is_refused(tmp_path, monkeypatch, way):
    for number in (1, 2):
        (tmp_path / f"v{number}").mkdir()
        write(tmp_path / f"v{number}" / "pairs", number)
    source = tmp_path / ("current" if way == "link" else "v1")
    if way == "link":
        source.symlink_to("v1")
    real, back = pipeline.FeatureWriter.write, []

    def turn(self, *arguments):
        if not back:
            if way == "link":
                link_to(source, "v2")
                back.append(lambda: link_to(source, "v1"))
            elif way == "folder":
                back.append(exchange(source / "pairs", tmp_path / "v2" / "pairs"))
            else:
                back.append(exchange(source, tmp_path / "v2"))
        elif back[0] is not None:
            back[0]()
            back[0] = None
        return real(self, *arguments)

    monkeypatch.setattr(pipeline.FeatureWriter, "write", turn)
    with pytest.raises(InputError, match="changed while it was read"):
        ingest_source(source / "pairs", tmp_path / "store", rows_per_chunk=10)
    assert not (tmp_path / "store").exists()


def test_files_may_come_and_go_beside_the_source(tmp_path):
    write(tmp_path / "first", 1)
    files = SourceFiles([tmp_path / "first"], NOWHERE)
    (tmp_path / "store").mkdir()
    (tmp_path / "first" / "new.log").write_text("a")
    files.check_unchanged()


def test_a_mount_point_may_change_its_status(tmp_path, monkeypatch):
    write(tmp_path / "first", 1)
    files = SourceFiles([tmp_path / "first"], NOWHERE)
    (tmp_path / "first").chmod(0o700)
    with pytest.raises(InputError, match="first changed while it was read"):
        files.check_unchanged()
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "first")
    files.check_unchanged()


def test_content_changed_between_two_attempts_is_another_source(tmp_path):
    write(tmp_path / "first", 1)
    before = identity(tmp_path / "first")
    overwrite(tmp_path / "first" / "image.npy", put_back=True)
    assert identity(tmp_path / "first") != before


def test_notes_beside_the_data_may_grow(tmp_path):
    write(tmp_path / "first", 1)
    (tmp_path / "first" / "job.log").write_text("a")
    files = SourceFiles([tmp_path / "first"], NOWHERE)
    (tmp_path / "first" / "job.log").write_text("ab")
    files.check_unchanged()


def test_a_store_in_the_folder_of_its_source_is_not_part_of_it(tmp_path):
    write(tmp_path / "first", 1)
    before = SourceFiles([tmp_path / "first"], tmp_path / "first" / "s").fingerprint({}, 1)
    (tmp_path / "first" / "s").mkdir()
    (tmp_path / "first" / "s" / "zarr.json").write_text("{}")
    (tmp_path / "first" / ".s.lock").write_text("{}")
    assert SourceFiles([tmp_path / "first"], tmp_path / "first" / "s").fingerprint({}, 1) == before


def test_folders_of_a_store_in_the_folder_of_its_source_may_go(tmp_path):
    write(tmp_path / "first", 1)
    store = tmp_path / "first" / "s"
    (store / "image" / "c").mkdir(parents=True)
    (store / "image" / "c" / "0").write_text("chunk")
    files = SourceFiles([tmp_path / "first"], store)
    (store / "image" / "c" / "0").unlink()
    (store / "image" / "c").rmdir()
    files.check_unchanged()
