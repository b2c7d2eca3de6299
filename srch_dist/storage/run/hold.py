"""A run directory that one process trains in: made new, or taken up where an earlier one ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from srch_dist.config.identity import differing_options, dump_config
from srch_dist.config.loading import load_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ConfigError
from srch_dist.storage.atomic_files import write_text
from srch_dist.storage.locations import local_path
from srch_dist.storage.locks.lease import Lease
from srch_dist.storage.locks.run_lock import hold_lock
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.open import check_unused, create_run, make_folder
from srch_dist.storage.run.results import read_head, run_head


@dataclass(frozen=True)
class LockedRun:
    """A run directory that this process alone writes to.

    Attributes
    ----------
    run : the directory. lock : that it is held by.
    new : whether it was made here, and may be removed again where the run is refused.
    finished : whether there is nothing left to train.
    """

    run: RunDirectory
    lock: Lease
    new: bool
    finished: bool


@contextmanager
def hold_run(path: str | Path, config: TrainConfig) -> Iterator[LockedRun]:
    """Make a run directory or, with ``config.resume``, take up the one that is there.

    Raises
    ------
    StorageError : something else is there, another run trains in it, or it cannot be written.
    ConfigError : the run that is there has other options.
    """
    folder = local_path(path)
    if not (config.resume and (folder / "run.json").exists()):
        check_unused(folder)  # before the lock is written into somebody's folder
    make_folder(folder)
    with hold_lock(folder.resolve()) as lock:
        begun = config.resume and _is_begun(folder)
        run = RunDirectory(folder.resolve()) if begun else create_run(folder, config)
        finished = begun and _take_up(run, config)
        yield LockedRun(run, lock, not begun, finished)


def _is_begun(folder: Path) -> bool:
    """Whether a run has begun here; what it left before it did is removed."""
    names = {entry.name for entry in folder.iterdir()}
    if "run.json" in names and not _is_cut(folder / "run.json"):
        return True
    if names <= {"run.json", "lock.json"}:
        (folder / "run.json").unlink(missing_ok=True)
    return False


def _is_cut(path: Path) -> bool:
    return path.stat().st_size < len(json.dumps(run_head(False)))


def _take_up(run: RunDirectory, config: TrainConfig) -> bool:
    """Hold a run's options against those asked for; whether it is finished."""
    head = read_head(run.path)
    recorded = run.path / "config.yaml"
    if not recorded.exists():  # killed before it was written, so before anything else
        write_text(recorded, dump_config(config))
    changed = differing_options(load_config(recorded), config)
    if changed:
        raise ConfigError(
            f"{run.path} was begun with other options: {'; '.join(changed)}; give those again, or "
            "name another run directory with --out"
        )
    run.sweep()
    return head["finished"] is True
