"""Reasons why local workers do not start: the real one, and the main guard only where it lacks."""

from __future__ import annotations

import errno
import multiprocessing

import pytest

from srch_dist.errors import ClusterError
from srch_dist.runtime import cluster, local_cluster
from srch_dist.runtime.main_guard import end_second_import, imported_again, marking
from srch_dist.runtime.start_failures import explain_start


def raised_from(cause: BaseException) -> BaseException:
    error = RuntimeError("Cluster failed to start")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (OSError(errno.EMFILE, "x"), r"\(EMFILE\)\. Raise the limit of open files \(ulimit -n"),
        (BlockingIOError(errno.EAGAIN, "x"), r"\(EAGAIN\).*ulimit -u, pids of the container"),
        (RuntimeError("can't start new thread"), r"can't start new thread.*pids of the container"),
        (OSError(errno.ENOSPC, "x", "/tmp/a"), r"\(ENOSPC\): /tmp/a\. .*TMPDIR"),
        (ValueError("strange\nthing"), r"^Cluster failed to start$"),
    ],
)
def test_the_reason_of_the_system_is_named_and_no_main_guard(monkeypatch, cause, expected):
    def fail(*_):
        raise raised_from(cause)

    monkeypatch.setattr(local_cluster, "_make", fail)
    expected = expected.replace("^", "^the local workers did not start: ")
    with pytest.raises(ClusterError, match=expected) as refusal, cluster.start_local(2, "1GiB"):
        pass
    assert "__main__" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_removed_working_folder_is_named(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "working folder of this process was removed" in explain_start(RuntimeError("x"), 2)


def test_a_worker_that_imports_the_script_leaves_a_mark_and_ends(tmp_path, monkeypatch):
    end_second_import()
    with marking(tmp_path):
        end_second_import()
        assert not imported_again(tmp_path)
        monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
        with pytest.raises(SystemExit):
            end_second_import()
    assert imported_again(tmp_path)
    end_second_import()
