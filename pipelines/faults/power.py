"""Simulate power loss: an ext4 file system in an image file, shut down without a flush.

Needs Linux, root, util-linux and e2fsprogs. The file system is mounted in a private mount
namespace, so nothing else on the machine sees it. It is stricter than a default ext4: the journal
is committed by itself every 300 s only, and a replaced file is not written early.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# EXT4_IOC_SHUTDOWN, and EXT4_GOING_FLAGS_NOLOGFLUSH: drop what is neither in the journal on disk
# nor in its place.
_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2
_OPTIONS = "loop,commit=300,noauto_da_alloc"
_SIZE = 256 << 20  # bytes; the image file is sparse
_SECONDS = 20  # retries of mount, unmount and kill


@dataclass(frozen=True)
class PowerDisk:
    """A file system that can lose power; see `power_disk`.

    Attributes
    ----------
    path : Path
        Mount point, in the namespace of the file system only.
    image : Path
        Image file that holds the file system.
    holder : subprocess.Popen
        Process that keeps the namespace; it ends with its standard input.
    """

    path: Path
    image: Path
    holder: subprocess.Popen[bytes]

    @property
    def prefix(self) -> list[str]:
        """Command prefix that runs a command where the file system is mounted.

        The command dies with the process that starts it, so that nothing outlives a killed test.
        """
        enter = ["nsenter", "--target", str(self.holder.pid), "--mount"]
        return [*enter, "setpriv", "--pdeathsig", "KILL"]

    @property
    def outside(self) -> Path:
        """The mount point for processes of other namespaces. Do not resolve it."""
        return Path(f"/proc/{self.holder.pid}/root{self.path}")

    def lose_power(self) -> None:
        """Drop everything that is not on the disk, kill every process, and mount the disk again.

        Raises
        ------
        OSError : the file system cannot be shut down, unmounted or mounted.
        """
        self._shut_down()
        self.unmount()
        self.mount()

    def mount(self) -> None:
        """Mount the file system, which replays its journal; repair it if that fails."""
        mount = [*self.prefix, "mount", "-o", _OPTIONS, str(self.image), str(self.path)]
        try:
            _run(*mount)
        except OSError:
            subprocess.run(["e2fsck", "-p", str(self.image)], capture_output=True, check=False)
            _retry(*mount)

    def unmount(self) -> None:
        """Kill every process in the namespace and unmount the file system."""
        self._kill()
        try:
            _retry(*self.prefix, "umount", str(self.path))
        except OSError:
            _run(*self.prefix, "umount", "--lazy", str(self.path))

    def _shut_down(self) -> None:
        folder = os.open(self.outside, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(folder)

    def _kill(self) -> None:
        """Kill every process in the namespace, except its holder."""
        end = time.monotonic() + _SECONDS
        while found := list(self._inhabitants()):
            if time.monotonic() > end:
                raise TimeoutError(f"processes {found} did not end within {_SECONDS} s")
            for process in found:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.01)

    def _inhabitants(self) -> Iterator[int]:
        space = Path(f"/proc/{self.holder.pid}/ns/mnt").readlink()
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == self.holder.pid:
                continue
            with suppress(OSError):  # ended meanwhile; a zombie has no namespace
                if (folder / "ns/mnt").readlink() == space:
                    yield int(folder.name)


@contextmanager
def power_disk(folder: Path) -> Iterator[PowerDisk]:
    """Make and mount a file system at ``folder``/disk; remove it and its processes at the end.

    Raises
    ------
    OSError : the machine does not permit it, or a program is missing.
    """
    image, path = folder / "disk.img", folder / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(_SIZE)
    _run("mkfs.ext4", "-q", "-F", "-N", "16384", str(image))
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready && exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    disk = PowerDisk(path, image, holder)
    try:
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            raise OSError("mount namespaces are not permitted")
        disk.mount()
        try:
            yield disk
        finally:
            disk.unmount()
    finally:
        holder.communicate()  # closes its standard input
        image.unlink()
        path.rmdir()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def _retry(*command: str) -> None:
    """Run a command until it succeeds: a loop device or a killed process needs a moment to go."""
    end = time.monotonic() + _SECONDS
    while True:
        try:
            return _run(*command)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
