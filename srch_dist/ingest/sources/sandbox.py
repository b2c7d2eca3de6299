"""Files whose library can crash or hang on damage, read in a process of their own.

HDF5, SciPy's MATLAB reader and Arrow are C code that trusts what a file says: a flipped bit ends
the process with a signal, or never ends; Zarr's codecs take the memory that a chunk says it needs.
There, that is the end of a child, which has little memory, and an `InputError` here.
One child serves all such files; it ends with this process, and is started anew where it died.
"""

from __future__ import annotations

import atexit
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from srch_dist import errors
from srch_dist.errors import InputError, SrchError
from srch_dist.ingest.sources import base as sources
from srch_dist.ingest.sources.base import Source, Specs
from srch_dist.kernels.types import Array

# An answer is a block of rows at most, or a whole variable of 1 GiB.
ANSWER_SECONDS = 120
# What the child may map beyond its start: libraries, a variable, and copies of it.
MEMORY_BYTES = 5 << 30
# Arrays that are read at once, as two columns of ids are.
_MOST_READ = 8


class SandboxedSource:
    """A file, or shards of a table, that the child reads; see `sources.base.Source`.

    Attributes
    ----------
    rows : of each shard of a table.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = tuple(path.absolute() for path in paths)
        self._specs: Specs
        self.left_out: Mapping[str, str]
        self.rows: Sequence[int]
        self._specs, self.left_out, self.rows = _child.ask(self._paths, "describe")

    def specs(self) -> Specs:
        """(shape, dtype) of every array by name."""
        return dict(self._specs)

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """The array from row ``start`` in runs of ``rows`` rows."""
        shape, _ = self._specs[name]
        first = start
        while (block := _child.ask(self._paths, "block", name, rows, first)) is not None:
            yield block
            if not shape:
                return
            first += len(block)


class _Child:
    """The process that reads, from this one's side."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def ask(self, paths: tuple[Path, ...], *request: Any) -> Any:
        """The child's answer about a file, or shards.

        Raises
        ------
        SrchError : the file is refused, or ends the child, or takes too long.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            assert self._connection is not None
            try:
                self._connection.send((paths, *request))
                kind, answer = self._connection.recv()
            except (EOFError, ConnectionError):
                raise InputError(f"{_shown(paths)} is damaged: {self._ending()}") from None
            except BaseException:  # interrupted: the answer would be taken for the next one
                self._stop()
                raise
        if kind == "refused":
            raise getattr(errors, answer[0])(answer[1])
        if kind == "failed":
            raise RuntimeError(f"reading {_shown(paths)}:\n{answer}")
        return answer

    def stop(self) -> None:
        """End the process; the next question starts another."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _start(self) -> None:
        self._stop()
        here, there = socket.socketpair()
        with there:
            arguments = map(str, (there.fileno(), ANSWER_SECONDS, MEMORY_BYTES))
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, *arguments],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._connection = Connection(here.detach())

    def _ending(self) -> str:
        """How the child ended, in words."""
        assert self._process is not None
        code = self._process.wait()
        self._stop()
        if code == -signal.SIGALRM:
            return f"reading it does not end (given up after {ANSWER_SECONDS} s)"
        if code < 0:
            return f"its reader ended with {signal.Signals(-code).name}"
        return f"its reader ended with exit code {code}"


_PROGRAM = (
    "import sys; from srch_dist.ingest.sources.sandbox import serve; serve(*map(int, sys.argv[1:]))"
)
_child = _Child()
atexit.register(_child.stop)


def serve(descriptor: int, seconds: int, most_bytes: int) -> None:
    """Answer questions until the other end is closed.

    The alarm ends this process also within a library that does not come back.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, whose end ends this one
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # Linux alone says and limits it
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + most_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    opened = _Opened()
    connection = Connection(descriptor)
    with suppress(EOFError, ConnectionError):
        while True:
            request = connection.recv()
            signal.alarm(seconds)
            answer = pickle.dumps(_answer(opened, *request), protocol=5)
            signal.alarm(0)
            connection.send_bytes(answer)


def _shown(paths: tuple[Path, ...]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"one of {paths[0]} and its shards"


def _answer(
    opened: _Opened, paths: tuple[Path, ...], kind: str, *arguments: Any
) -> tuple[str, Any]:
    try:
        if kind == "block":
            return "done", opened.block(paths, *arguments)
        source = opened.anew(paths)
        rows = getattr(source, "rows", [])
        return "done", (dict(source.specs()), dict(source.left_out), list(rows))
    except SrchError as error:
        return "refused", (type(error).__name__, str(error))
    except OSError as error:
        return "refused", ("InputError", f"cannot read {_shown(paths)}: {error.strerror or error}")
    except Exception:
        return "failed", traceback.format_exc()


class _Opened:
    """The file that was asked about last, and its arrays that are being read."""

    def __init__(self) -> None:
        self._paths: tuple[Path, ...] = ()
        self._source: Source
        self._reading: dict[Any, Iterator[Array]] = {}

    def anew(self, paths: tuple[Path, ...]) -> Source:
        """The file as it is now."""
        self._paths = ()
        self._reading.clear()
        self._source = sources.open_here(*paths)
        self._paths = paths
        return self._source

    def block(self, paths: tuple[Path, ...], name: str, rows: int, first: int) -> Array | None:
        """Rows from ``first`` on; None where there are no more."""
        source = self._source if paths == self._paths else self.anew(paths)
        blocks = self._reading.pop((name, rows, first), None)
        if blocks is None:
            blocks = iter(source.blocks(name, rows, first))
        block = next(blocks, None)
        if block is not None and block.shape:
            while len(self._reading) >= _MOST_READ:
                self._reading.pop(next(iter(self._reading)))
            self._reading[name, rows, first + len(block)] = blocks
        return block
