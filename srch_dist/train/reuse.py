"""Runs that share what comes before the loop: one makes features and graph, the others read them.

A run that shares has records of its own of these stages, with the checksums of the one that made
them; in place of the arrays stand links to that one's, relative, so that a folder of runs may be
moved as a whole.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from srch_dist.config.identity import differing_options, up_to_graph
from srch_dist.config.loading import load_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ConfigError, StorageError
from srch_dist.storage.run.directory import RunDirectory

# Stages in the order in which they are finished; the last one of all says that all are shared.
_FEATURES = ("verified", "means", "order", "spilled", "features")
_GRAPH = ("edges", "graph")


def shared_partition_rows(base: RunDirectory) -> int:
    """Rows a partition of the run that is shared, and so of those that share it."""
    rows: int = base.stages(_options(base)).read("rows").values["partition_rows"]
    return rows


def shared_folders(base: RunDirectory, config: TrainConfig) -> list[Path]:
    """What ``base`` has on disk that a run with ``config`` need not write; see `share_stages`."""
    if _options(base).bits == config.loop_bits:
        return [base.work]
    return [path for path in base.work.iterdir() if path.name != "features"]


def share_stages(base: RunDirectory, run: RunDirectory, config: TrainConfig) -> None:
    """Give a run the graph of ``base`` and, where both learn as many bits, its features.

    Does nothing where that is done. First codes are as wide as the loop's, and with them go the
    sums that the features' stages leave; a run of another width makes its features itself.

    Raises
    ------
    ConfigError : an option that the graph depends on differs. StorageError : ``base`` is not
        finished up to its graph, or cut otherwise.
    """
    recorded = _options(base)
    alike = dataclasses.replace(up_to_graph(config), bits=recorded.bits)
    changed = differing_options(recorded, alike)
    if changed:
        raise ConfigError(f"{base.path} was made with other options: {'; '.join(changed)}")
    stages = run.stages(config)
    if stages.find(_GRAPH[-1]) is not None:
        return
    if shared_partition_rows(base) != config.partition_rows:
        raise StorageError(
            f"{run.path} is cut into partitions of {config.partition_rows} rows, {base.path} into "
            f"those of {shared_partition_rows(base)}; remove one of the two"
        )
    places, names = [run.degrees, run.graph], list(_GRAPH)
    if recorded.bits == config.loop_bits:
        places += [run.work / "features", run.order, run.checkpoint(0, "codes")]
        names = [*_FEATURES, *_GRAPH]
    for place in places:
        _link(base.path / place.relative_to(run.path), place)
    made = base.stages(recorded)
    for name in names:
        record = made.read(name)
        stages.commit(name, record.values, record.arrays)


def _options(base: RunDirectory) -> TrainConfig:
    return load_config(base.path / "config.yaml")


def _link(target: Path, place: Path) -> None:
    """Make ``place`` a link to ``target``, relative to where it lies."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(os.path.relpath(target, place.parent))
