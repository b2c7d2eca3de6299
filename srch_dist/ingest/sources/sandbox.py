"""Read HDF5, MATLAB, Arrow, Parquet and Zarr files in a child process; readers can crash.

HDF5, SciPy's MATLAB reader and Arrow are C code that trusts a file's content: one flipped bit can
crash the process or make it hang. Zarr's codecs allocate the memory that a chunk claims. The child
has a memory limit and a deadline, so each of these failures becomes an `InputError`. One child
reads all files. The child ends with its parent, and the parent restarts the child after a crash.
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
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from srch_dist import errors
from srch_dist.errors import InputError, SrchError, refusal
from srch_dist.ingest.sources import formats
from srch_dist.ingest.sources.contents import ListedSource
from srch_dist.kernels.types import Array

# Maximum seconds for one answer: a block of rows, or a whole MATLAB variable of up to 1 GiB.
ANSWER_SECONDS = 120
# Bytes of address space that the child may use beyond its size when it starts: for libraries, and
# for a variable and copies of the variable.
MEMORY_BYTES = 5 << 30
# Maximum number of arrays with an open iterator: the check of ids alternates between two columns.
_MAX_OPEN_READERS = 8


class SandboxedSource(ListedSource):
    """A `Source` that the child process reads: one file, or the shards of a table.

    Attributes
    ----------
    shard_rows : number of rows of each shard of a table; empty for other formats.
    """

    def __init__(self, *paths: Path) -> None:
        super().__init__()
        self._paths = tuple(path.absolute() for path in paths)
        self.shard_rows: Sequence[int]
        self.contents, self.shard_rows = _child.ask(self._paths, "describe")

    def blocks(self, name: str, rows: int, start: int = 0) -> Iterator[Array]:
        """Yield the array ``name`` from row ``start`` on, in blocks of ``rows`` rows."""
        shape, _ = self.contents.specs[name]
        first = start
        while (block := _child.ask(self._paths, "block", name, rows, first)) is not None:
            yield block
            if not shape:
                return
            first += len(block)


class _Child:
    """The parent's handle of the child process that reads files."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def ask(self, paths: tuple[Path, ...], *request: Any) -> Any:
        """Send the child a request about a file or the shards of a table; return the answer.

        Raises
        ------
        SrchError : the reader refuses the file, crashes on it, or misses the deadline.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            assert self._connection is not None
            try:
                self._connection.send((paths, *request))
                kind, answer = self._connection.recv()
            except (EOFError, ConnectionError):
                raise InputError(f"{_listing(paths)} is damaged: {self._reap()}") from None
            except BaseException:  # interrupted: the next request would receive this answer
                self._stop()
                raise
        if kind == "refused":
            raise getattr(errors, answer[0])(answer[1])
        if kind == "failed":
            raise RuntimeError(f"the sandboxed reader failed on {_listing(paths)}:\n{answer}")
        return answer

    def stop(self) -> None:
        """End the child process; the next request starts a new one."""
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
        parent_end, child_end = socket.socketpair()
        with child_end:
            arguments = map(str, (child_end.fileno(), ANSWER_SECONDS, MEMORY_BYTES))
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, *arguments],
                pass_fds=[child_end.fileno()],
                stdin=subprocess.DEVNULL,
                # Ctrl-C in a terminal goes to a group, and would end the child during its imports.
                process_group=0,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._connection = Connection(parent_end.detach())

    def _reap(self) -> str:
        """Wait for the end of the child process; return a text that says how it ended."""
        assert self._process is not None
        code = self._process.wait()
        self._stop()
        if code == -signal.SIGALRM:
            return f"its reader gave no answer within {ANSWER_SECONDS} s"
        if code < 0:
            return f"its reader crashed with {signal.Signals(-code).name}"
        return f"its reader exited with code {code}"


_PROGRAM = (
    "import sys; from srch_dist.ingest.sources.sandbox import serve; serve(*map(int, sys.argv[1:]))"
)
_child = _Child()
atexit.register(_child.stop)


def serve(descriptor: int, seconds: int, most_bytes: int) -> None:
    """Run in the child process: answer requests until the parent closes the socket.

    SIGALRM ends the child even inside a library call that never returns.

    Parameters
    ----------
    descriptor : file descriptor of the child's end of the socket pair.
    seconds : maximum time to answer one request.
    most_bytes : bytes of address space that the process may use beyond its current size.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which ends the child
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # only Linux has /proc, and enforces RLIMIT_AS
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + most_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    reader = _Reader()
    connection = Connection(descriptor)
    with suppress(EOFError, ConnectionError):
        while True:
            request = connection.recv()
            signal.alarm(seconds)
            answer = pickle.dumps(_answer(reader, *request), protocol=5)
            signal.alarm(0)
            connection.send_bytes(answer)


def _listing(paths: tuple[Path, ...]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"one of {paths[0]} … {paths[-1]}"


def _answer(
    reader: _Reader, paths: tuple[Path, ...], kind: str, *arguments: Any
) -> tuple[str, Any]:
    try:
        if kind == "block":
            return "done", reader.block(paths, *arguments)
        source = reader.reopen(paths)
        return "done", (source.contents, list(getattr(source, "shard_rows", [])))
    except SrchError as error:
        return "refused", (type(error).__name__, str(error))
    except OSError as error:
        text = f"cannot read {_listing(paths)}: {error.strerror or error}"
        return "refused", (type(refusal(InputError, text, error)).__name__, text)
    except Exception:
        return "failed", traceback.format_exc()


class _Reader:
    """State of the child: the source opened last, and an iterator for each array being read."""

    def __init__(self) -> None:
        self._paths: tuple[Path, ...] = ()
        self._source: ListedSource
        self._iterators: dict[Any, Iterator[Array]] = {}

    def reopen(self, paths: tuple[Path, ...]) -> ListedSource:
        """Open the files ``paths`` again, since their content may have changed."""
        self._paths = ()
        self._iterators.clear()
        self._source = formats.open_in_process(*paths)
        self._paths = paths
        return self._source

    def block(self, paths: tuple[Path, ...], name: str, rows: int, first: int) -> Array | None:
        """Return at most ``rows`` rows of an array from row ``first`` on; None after the end."""
        source = self._source if paths == self._paths else self.reopen(paths)
        blocks = self._iterators.pop((name, rows, first), None)
        if blocks is None:
            blocks = iter(source.blocks(name, rows, first))
        block = next(blocks, None)
        if block is not None and block.shape:
            while len(self._iterators) >= _MAX_OPEN_READERS:
                self._iterators.pop(next(iter(self._iterators)))
            self._iterators[name, rows, first + len(block)] = blocks
        return block
