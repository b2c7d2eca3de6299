"""Which changes of a source make it another source."""

from __future__ import annotations

import os

import numpy as np
import pytest

from srch_dist.errors import StorageError
from srch_dist.ingest import pipeline
from srch_dist.ingest.fingerprint import source_fingerprint
from srch_dist.ingest.pipeline import ingest_source


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
    return source_fingerprint(paths, {}, 1)


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
