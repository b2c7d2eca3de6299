"""Create a run directory, or open a finished one."""

from __future__ import annotations

import json
from pathlib import Path

from srch_dist.config.identity import dump_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import StorageError
from srch_dist.storage import durable
from srch_dist.storage.atomic_files import write_text
from srch_dist.storage.failures import storage_error
from srch_dist.storage.locations import Location, S3Path, check_access, locate
from srch_dist.storage.locks.file_lock import live_holder
from srch_dist.storage.outputs import check_folder
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.head import read_head, run_head
from srch_dist.storage.run.results import RunResults


def create_run(path: str | Location, config: TrainConfig) -> RunDirectory:
    """Create a run directory.

    Raises
    ------
    StorageError : the folder holds other files, or cannot be written.
    """
    folder = locate(path)
    check_unused(folder)
    if isinstance(folder, S3Path):
        if (folder / "run.json").put_if(_dump_head(), None) is None:
            raise occupied(folder)
        write_text(folder / "config.yaml", dump_config(config))
        return RunDirectory(folder)
    make_folder(folder)
    try:
        # Of two runs that start at once, one creates the file and the other is refused.
        with (folder / "run.json").open("xb") as file:
            file.write(_dump_head())
        durable.flush_file(folder / "run.json")
        write_text(folder / "config.yaml", dump_config(config))
    except FileExistsError:
        raise occupied(folder) from None
    except OSError as error:
        raise _unwritable(folder, error) from None
    return RunDirectory(folder.resolve())


def check_unused(folder: Location) -> None:
    """Raise StorageError if the folder for a new run holds anything but a lock file."""
    if isinstance(folder, S3Path):
        check_access(folder, write=True)
        if folder.exists():
            raise occupied(folder)
        return
    check_folder(folder)
    if folder.exists() and any(entry.name != "lock.json" for entry in folder.iterdir()):
        raise occupied(folder)


def make_folder(folder: Path) -> None:
    """Create the folder of a run if it is absent; raise StorageError if that fails."""
    try:
        durable.make_folder(folder)
    except OSError as error:
        raise _unwritable(folder, error) from None


def _dump_head() -> bytes:
    return json.dumps(run_head(False)).encode()


def _unwritable(folder: Path, error: OSError) -> StorageError:
    return storage_error("write the run directory", folder, error, first=True)


def occupied(folder: Location) -> StorageError:
    """Build the error for a new run in a folder that already holds a run or other files."""
    another = "choose another run directory with --out"
    if not (folder / "run.json").exists():
        return StorageError(f"{folder} holds files that are no run; {another}")
    try:
        finished = read_head(folder)["finished"] is True
    except StorageError:  # damaged, or cut while it was written
        finished = False
    if finished:
        return StorageError(
            f"{folder} holds a finished run; {another}. With --resume, its results are shown again"
        )
    if holder := live_holder(folder):
        return StorageError(f"{folder} is in use by another run ({holder}); {another}")
    return StorageError(
        f"{folder} holds a run that is not finished; resume it with --resume, or {another}"
    )


def open_run(path: str | Location) -> RunResults:
    """Open a finished run.

    Raises
    ------
    StorageError : the path does not exist, or holds no run, or its run is not finished.
    """
    folder = locate(path)
    check_access(folder)
    if not (folder / "run.json").exists():
        if not folder.exists():
            raise StorageError(f"{folder} does not exist; name the directory of a finished run")
        raise StorageError(f"{folder} is not a run directory; make one with srch_dist.train")
    if read_head(folder).get("finished") is not True:
        raise StorageError(
            f"the run {folder} is not finished; repeat its training command with --resume"
        )
    return RunResults(folder.resolve() if isinstance(folder, Path) else folder)
