"""Ctrl-C at a command: one line, exit code 75, also when it is pressed again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from srch_dist.cli import interrupts
from srch_dist.cli.command import resume_line
from srch_dist.errors import ClusterLostError
from srch_dist.runtime.interruptions import resume_note
from tests.helpers.commands import LIMIT, run_command
from tests.helpers.runs import make_pairs

SCRIPT = """
import sys, time
from srch_dist.cli import interrupts
interrupts.GRACE_SECONDS = {grace}
interrupts.{install}()
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("closing", flush=True)
    end = time.monotonic() + {close}
    while time.monotonic() < end:
        time.sleep(0.05)
    sys.exit(75)
"""


def press(times: int, install="catch_interrupts", grace=10.0, close=0.5):
    """Start the script, send SIGINT so many times, and return its exit code and output."""
    text = SCRIPT.format(install=install, grace=grace, close=close)
    process = subprocess.Popen(
        [sys.executable, "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    rest, _ = process.communicate(timeout=60)
    return process.returncode, rest


def test_repeats_do_not_interrupt_the_way_out():
    assert press(4, close=1.5) == (75, "closing\n")


def test_a_late_repeat_ends_a_command_that_hangs():
    code, text = press(3, grace=0.1, close=60)
    assert code == 75
    assert text == "closing\ninterrupted again: ended without closing the cluster\n"


def test_while_modules_are_imported_one_line_is_printed():
    assert press(1, install="end_at_interrupt") == (75, "interrupted\n")


def test_an_ignored_signal_stays_ignored(monkeypatch):
    installed = {}
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    monkeypatch.setattr(signal, "signal", installed.__setitem__)
    interrupts.catch_interrupts()
    interrupts.end_at_interrupt()
    assert installed == {}


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("/usr/bin/srch-dist", "srch-dist train --out 'a b' --resume"),
        ("/lib/srch_dist/__main__.py", "python -m srch_dist train --out 'a b' --resume"),
        ("/lib/srch_dist/train/__main__.py", "python -m srch_dist.train --out 'a b' --resume"),
        ("script.py", "python -m srch_dist.train --out 'a b' --resume"),
    ],
)
def test_the_resume_line_names_the_program_that_was_called(monkeypatch, program, expected):
    monkeypatch.setattr(sys, "argv", [program])
    assert resume_line("train", [], "a b") == expected


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ClusterLostError])
def test_an_interrupted_call_of_python_says_what_to_call(kind):
    with pytest.raises(kind) as error, resume_note("train_model again with resume=True"):
        raise kind
    assert error.value.__notes__ == [
        "resume: finished work is kept. Call train_model again with resume=True"
    ]


def test_the_outer_call_replaces_the_note_of_an_inner_one():
    for call, notes in ((None, []), ("fit", ["resume: finished work is kept. Call fit"])):
        with pytest.raises(KeyboardInterrupt) as error, resume_note(call), resume_note("inner"):
            raise KeyboardInterrupt
        assert error.value.__notes__ == notes


@pytest.mark.cluster
def test_workers_of_a_local_cluster_never_see_the_signal(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import distributed, signal\n"
        "from srch_dist.runtime.cluster import start_local\n"
        "def blocked():\n"
        "    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
        "if __name__ == '__main__':\n"
        "    with start_local(2, '1GiB'):\n"
        "        print(distributed.get_client().run(blocked).values(), blocked())\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=240, check=True,
        env=dict(os.environ),
    )  # fmt: skip
    assert done.stdout == "dict_values([True, True]) False\n"
    assert done.stderr == ""


@pytest.mark.cluster
def test_interrupted_training_ends_with_75_and_prints_the_line_that_resumes(tmp_path):
    np.savez(tmp_path / "pairs.npz", **make_pairs(split=None))
    run_command("ingest", "pairs.npz", "pairs.zarr", folder=tmp_path)
    arguments = ["--data", "pairs.zarr", "--out", "run", "--workers", "1"]
    arguments += ["--method.threshold", "0", "--method.iterations", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "srch_dist.train", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test run started in the background ignores SIGINT, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "iteration  2" in line:
                break
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 75
    *_, interrupted, line = rest.splitlines()
    assert interrupted == "interrupted"
    command = f"python -m srch_dist.train {' '.join(arguments)} --resume"
    assert line == f"resume: finished work is kept. Run: {command}"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"] is False
