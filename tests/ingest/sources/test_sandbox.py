"""The sandbox: what ends the child, what it answers, and that it ends with its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from srch_dist.errors import InputError
from srch_dist.ingest.sources import sandbox
from srch_dist.ingest.sources.formats import open_in_process, open_source
from tests.helpers.source_files import WRITERS, make_pairs

_SERVE = "from srch_dist.ingest.sources.sandbox import serve; serve(*map(int, sys.argv[1:]))"
_ENDLESS = (
    "import sys, srch_dist.ingest.sources.formats as s; "
    "s.open_in_process = lambda *p: exec('while 1: pass'); " + _SERVE
)


@pytest.fixture(autouse=True)
def _own_child():
    sandbox._child.stop()
    yield
    sandbox._child.stop()


@pytest.mark.parametrize("name", ["a.h5", "v5.mat", "v73.mat", "a.parquet", "a.zarr", "shards"])
def test_arrays_read_in_turn_are_those_of_this_process(tmp_path, name):
    """Two arrays at once, as ids are compared, and more than are kept open."""
    WRITERS[name](tmp_path / name, make_pairs())
    source, here = open_source(tmp_path / name), open_in_process(tmp_path / name)
    names = list(source.specs())
    assert source.specs() == here.specs()
    for rows in range(2, 6):
        readers = [source.blocks(array, rows, 1) for array in names * 3]
        for blocks in zip(*readers, strict=True):
            for array, block in zip(names, blocks, strict=False):
                assert len(block) <= rows
                assert block.dtype == here.specs()[array][1]
        for array in names:
            found = np.concatenate(list(source.blocks(array, rows)))
            assert found.tolist() == next(here.blocks(array, 100)).tolist()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            "import os; os.kill(os.getpid(), 11)",
            r"a\.mat is damaged: its reader crashed with SIGSEGV",
        ),
        ("raise SystemExit(7)", r"a\.mat is damaged: its reader exited with code 7"),
        (_ENDLESS, r"a\.mat is damaged: its reader gave no answer within 1 s"),
    ],
    ids=["signal", "exit", "endless"],
)
def test_the_end_of_the_reader_is_a_refusal_and_the_next_file_is_read(
    tmp_path, monkeypatch, program, message
):
    scipy.io.savemat(tmp_path / "a.mat", {"image": np.ones((5, 3))})
    with monkeypatch.context() as patched:
        patched.setattr(sandbox, "_PROGRAM", program)
        patched.setattr(sandbox, "ANSWER_SECONDS", 1)
        with pytest.raises(InputError, match=message):
            open_source(tmp_path / "a.mat")
    assert dict(open_source(tmp_path / "a.mat").specs()) == {"image": ((5, 3), np.dtype(float))}


def test_a_file_that_takes_more_memory_than_there_is_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "MEMORY_BYTES", 1 << 30)
    scipy.io.savemat(tmp_path / "a.mat", {"image": np.zeros((1 << 13, 1 << 13))})
    source = open_source(tmp_path / "a.mat")
    with pytest.raises(InputError, match=r"a\.mat"):
        list(source.blocks("image", 1 << 13))


def test_a_file_is_read_as_it_is_now(tmp_path):
    for value in (1.0, 2.0):
        scipy.io.savemat(tmp_path / "a.mat", {"image": np.full((2, 2), value)})
        (block,) = open_source(tmp_path / "a.mat").blocks("image", 9)
        np.testing.assert_array_equal(block, value)


def test_the_reader_ends_with_its_process(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"image": np.ones((5, 3))})
    program = (
        "import sys; from srch_dist.ingest.sources import sandbox; "
        "from srch_dist.ingest.sources.formats import "
        "open_source; open_source(sys.argv[1]); print(sandbox._child._process.pid, flush=True); "
        "import os; os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.mat")], capture_output=True, text=True
    )
    pid = int(done.stdout)
    end = time.monotonic() + 20
    while _runs(pid):
        assert time.monotonic() < end, f"process {pid} is still there"
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # where no init takes it in


def test_the_child_does_not_get_the_ctrl_c_of_the_terminal(tmp_path):
    WRITERS["v5.mat"](tmp_path / "v5.mat", make_pairs())
    open_source(tmp_path / "v5.mat")
    assert os.getpgid(sandbox._child._process.pid) != os.getpgid(0)
