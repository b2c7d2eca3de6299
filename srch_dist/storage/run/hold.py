"""Open a run directory for writing, under its lock: a new run, or a resumed run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from srch_dist.config.identity import differing_options, dump_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ConfigError
from srch_dist.storage.atomic_files import write_text
from srch_dist.storage.locations import Location, is_file, locate
from srch_dist.storage.locks.file_lock import hold_lock
from srch_dist.storage.locks.output_lock import hold_output
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.head import read_head, run_head
from srch_dist.storage.run.open import check_unused, create_run, make_folder


@dataclass(frozen=True)
class LockedRun:
    """A run directory whose lock this process holds, so that no other process writes to it.

    Attributes
    ----------
    run : the run directory.
    check_lock : function that raises StorageError if another process has taken over the lock.
    new : whether this process created the run. A new run is removed if its input is refused.
    finished : whether the run is finished.
    """

    run: RunDirectory
    check_lock: Callable[[], None]
    new: bool
    finished: bool


@contextmanager
def hold_run(path: str | Location, config: TrainConfig) -> Iterator[LockedRun]:
    """Create a run directory, or open it if ``config.resume`` is set; hold the directory's lock.

    Raises
    ------
    StorageError : the folder holds other files, another process trains in it, or the folder
        cannot be written.
    ConfigError : the existing run has other options.
    """
    folder = locate(path)
    if not (config.resume and (folder / "run.json").exists()):
        check_unused(folder)  # before the lock file is written into a folder of other files
    if isinstance(folder, Path):
        make_folder(folder)
        folder = folder.resolve()
    with _hold_lock(folder) as check:
        started = config.resume and _is_started(folder)
        run = RunDirectory(folder) if started else create_run(folder, config)
        finished = started and _resume(run, config)
        yield LockedRun(run, check, not started, finished)


@contextmanager
def _hold_lock(folder: Location) -> Iterator[Callable[[], None]]:
    """Lock a run directory in this context; the lock of an object store is beside the run."""
    if isinstance(folder, Path):
        with hold_lock(folder) as lock:
            yield lock.check
        return
    with hold_output(folder) as check:
        yield check


def _is_started(folder: Location) -> bool:
    """Whether the folder holds a run; remove a ``run.json`` that was only partly written."""
    if not isinstance(folder, Path):
        return is_file(folder / "run.json")
    names = {entry.name for entry in folder.iterdir()}
    if "run.json" in names and not _is_truncated(folder / "run.json"):
        return True
    if names <= {"run.json", "lock.json"}:
        (folder / "run.json").unlink(missing_ok=True)
    return False


def _is_truncated(path: Path) -> bool:
    return path.stat().st_size < len(json.dumps(run_head(False)))


def _resume(run: RunDirectory, config: TrainConfig) -> bool:
    """Refuse a run with other options; remove partial files; return whether the run is finished."""
    head = read_head(run.path)
    recorded = run.path / "config.yaml"
    if not recorded.exists():  # killed before config.yaml was written; the run has nothing else
        write_text(recorded, dump_config(config))
    changed = differing_options(run.config(), config)
    if changed:
        raise ConfigError(
            f"{run.path} was started with other options: {'; '.join(changed)}; pass the options of "
            "the run, or choose another run directory with --out"
        )
    run.sweep()
    return head["finished"] is True
