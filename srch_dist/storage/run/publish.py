"""Publish a finished run: upload its results from the run directory to an object store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from srch_dist.config.identity import differing_options
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ConfigError
from srch_dist.storage.locations import S3Path, check_access
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.head import read_head
from srch_dist.storage.run.open import occupied
from srch_dist.storage.run.results import RunResults

# Files that are no results, and run.json, which is uploaded last.
_WORK = ("checkpoints", "work", "lock.json", "run.json", "emoji.zarr")


def find_published(out: S3Path, config: TrainConfig) -> bool:
    """Whether ``out`` already holds all results of a finished run with these options.

    A run that is trained in ``out`` itself keeps its checkpoints until its results are scored.

    Raises
    ------
    StorageError : ``out`` cannot be written, or is not empty while ``config.resume`` is False.
    ConfigError : ``out`` holds the results of a run with other options.
    """
    check_access(out, write=True)
    if (out / "run.json").size() is None:
        if out.exists() and not config.resume:
            raise occupied(out)
        return False
    if not config.resume:
        raise occupied(out)
    if read_head(out)["finished"] is not True or (out / "checkpoints").exists():
        if config.work is not None:
            raise ConfigError(
                f"{out} holds a run that was started without 'work'; resume it without --work, or "
                "choose another location with --out"
            )
        return False
    if changed := differing_options(RunResults(out).config(), config):
        raise ConfigError(
            f"{out} has the results of a run with other options: {'; '.join(changed)}; pass the "
            "options of that run, or choose another location with --out"
        )
    return True


def publish_run(run: RunDirectory, out: S3Path, check: Callable[[], None]) -> None:
    """Upload the results of a finished run to ``out``; ``run.json`` is last and is the commit.

    ``check`` is called before each upload. It raises StorageError if another process has taken over
    the lock of ``out``.
    """
    folder = Path(str(run.path))
    for file in _results(folder):
        check()
        target = out
        for part in file.relative_to(folder).parts:
            target = target / part
        target.write_bytes(file)
    check()
    (out / "run.json").write_bytes(folder / "run.json")


def _results(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name not in _WORK:
            yield from [entry] if entry.is_file() else filter(Path.is_file, entry.rglob("*"))
