"""Files that replace others in one step, and waiting for the disk."""

from __future__ import annotations

import errno
import os
import stat
import threading

import pytest

from srch_dist.errors import StorageError
from srch_dist.storage import atomic_files, durable
from srch_dist.storage.atomic_files import remove_partials, replacing, write_bytes
from srch_dist.storage.locks.file_lock import FileLock
from srch_dist.storage.locks.output_lock import hold_output


@pytest.fixture
def steps(monkeypatch):
    """Names of what reaches the disk, in order."""
    seen = []
    for name in ("flush_file", "flush_folder"):
        monkeypatch.setattr(
            atomic_files, name, lambda path, name=name: seen.append((name, path.suffix))
        )
    return seen


def test_content_reaches_the_disk_before_the_name(tmp_path, steps, monkeypatch):
    monkeypatch.setattr(
        atomic_files.Path, "replace", lambda *_: steps.append(("replace", "")), raising=True
    )
    write_bytes(tmp_path / "a.json", b"x")
    assert steps == [("flush_file", ".partial"), ("replace", ""), ("flush_folder", "")]


def test_new_folders_reach_the_disk(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(durable, "flush_folder", seen.append)
    created = durable.make_folder(tmp_path / "a" / "b")
    assert created == [tmp_path / "a", tmp_path / "a" / "b"]
    assert set(seen) == {tmp_path, tmp_path / "a"}


def test_flush_of_a_place_that_is_not_there_yet(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        durable, "_flush_filesystem", lambda number: seen.append(os.fstat(number).st_ino)
    )
    durable.flush(tmp_path / "a" / "b")
    assert seen == [tmp_path.stat().st_ino]


def test_a_failing_disk_is_named(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(durable, "_flush_filesystem", fail)
    with pytest.raises(StorageError, match=rf"cannot write {tmp_path}: Input/output error"):
        durable.flush(tmp_path)


def test_the_system_call_reports_its_error():
    with pytest.raises(OSError, match="Bad file descriptor"):
        durable._flush_filesystem(987654)


def test_a_block_that_fails_leaves_the_old_content(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    def fail():
        with replacing(path) as partial:
            partial.write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_links_that_somebody_put_there_are_not_followed(tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.write_text("precious")
    monkeypatch.setattr(atomic_files.secrets, "token_hex", lambda _: "0" * 16)
    (tmp_path / f".a.{'0' * 16}.partial").symlink_to(other)
    with pytest.raises(StorageError, match="File exists"):
        write_bytes(tmp_path / "a", b"x")
    assert other.read_text() == "precious"


def test_names_of_any_length_can_be_written(tmp_path):
    write_bytes(tmp_path / ("n" * 255), b"x")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"x"
    with pytest.raises(StorageError, match="File name too long"):
        write_bytes(tmp_path / ("n" * 256), b"x")


def test_a_pipe_is_written_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_bytes(pipe, b"content")
    reader.join(10)
    assert found == [b"content"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a device node")
@pytest.mark.root
def test_a_device_stays_a_device(tmp_path):
    node = tmp_path / "null"
    try:
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        node.write_bytes(b"")
    except PermissionError:
        pytest.skip("this root may not make or open a device node")
    with hold_output(node):
        write_bytes(node, b"content")
    assert stat.S_ISCHR(node.stat().st_mode)
    assert list(tmp_path.iterdir()) == [node]


def test_an_open_file_of_the_process_is_written(tmp_path):
    with (tmp_path / "out").open("wb") as file:
        (tmp_path / "link").symlink_to(f"/proc/self/fd/{file.fileno()}")
        write_bytes(tmp_path / "link", b"content")
    assert (tmp_path / "out").read_bytes() == b"content"
    assert (tmp_path / "link").is_symlink()


def test_a_temporary_disk_that_is_full_is_one_refusal_for_a_stream(tmp_path):
    (tmp_path / "null").symlink_to("/dev/null")
    refused = pytest.raises(StorageError, match=r"cannot write .*null: No space left on device")
    with refused, replacing(tmp_path / "null"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_locked_output_is_refused_to_others_and_freed(tmp_path):
    place = tmp_path / "new" / "codes.zarr"
    with hold_output(place):
        refused = pytest.raises(StorageError, match=r"codes.zarr is in use .*choose another output")
        with refused, hold_output(place):
            pass
        (place.parent / "other").write_text("x")
    with hold_output(place):
        pass
    assert [entry.name for entry in place.parent.iterdir()] == ["other"]


def test_folders_made_for_an_output_that_is_not_written_go_away(tmp_path):
    with hold_output(tmp_path / "a" / "b" / "c"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_process_go_and_others_stay(tmp_path):
    place = tmp_path / "a"
    (tmp_path / f".a.{'0' * 16}.partial").write_text("x")
    (tmp_path / f".a.{'1' * 16}.partial").mkdir()
    (tmp_path / f".a.{'2' * 16}.partial").symlink_to(tmp_path)
    kept = [tmp_path / f".a.b.{'0' * 16}.partial", tmp_path / ".a.partial", tmp_path / "a.partial"]
    for path in kept:
        path.write_text("x")
    remove_partials(place)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_in_place_of_a_lock_is_not_written_to(tmp_path, link):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    link(victim, tmp_path / ".a.lock")
    with pytest.raises(StorageError, match=r"\.a\.lock is a link"), hold_output(tmp_path / "a"):
        pass
    assert victim.read_text() == "precious"
    assert os.path.lexists(tmp_path / ".a.lock")


def test_a_link_in_place_of_a_working_file_is_not_written_to(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "link").symlink_to(victim)
    for mode in ("ab", "r+b", "xb"):
        with pytest.raises(OSError, match=r"symbolic links|exists"):
            atomic_files.open_own(tmp_path / "link", mode)
    assert victim.read_text() == "precious"


def test_a_lock_that_cannot_be_written_leaves_no_file(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(FileLock, "_put", fail)
    with pytest.raises(StorageError, match="No space left"), hold_output(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []
