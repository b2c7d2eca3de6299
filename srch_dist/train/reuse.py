"""Reuse features, graph and loop of other runs with the same options.

Features and graph come from a base run, which ends after the graph. A run that reuses features and
graph has its own stage records, with the checksums of the base run. The reused arrays are relative
links to the arrays of the base run, so a folder with all runs can be moved. The loop may come from
any finished run, whose last checkpoint is copied.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

from srch_dist.config.identity import differing_options, fingerprint, up_to_graph, up_to_loop
from srch_dist.config.loading import load_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import ConfigError, StorageError
from srch_dist.storage import arrays
from srch_dist.storage.locations import Location, entries
from srch_dist.storage.run.directory import RunDirectory

# Stages in the order in which they finish. The last stage of the graph marks a complete reuse.
_FEATURES = ("means", "order", "spilled", "features")
_GRAPH = ("edges", "graph")


def reused_partition_rows(base: RunDirectory) -> int:
    """Return the number of rows per partition of ``base``.

    Runs that reuse ``base`` must have the same number.
    """
    rows: int = base.stages(_options(base)).read("rows").values["partition_rows"]
    return rows


def reusable_folders(base: RunDirectory, config: TrainConfig) -> list[Location]:
    """List the paths of ``base`` that a run with ``config`` links to and does not write itself."""
    if _options(base).bits == config.loop_bits:
        return [base.work]
    return [path for path in entries(base.work) if path.name != "features"]


def reuse_stages(base: RunDirectory, run: RunDirectory, config: TrainConfig) -> None:
    """Link the graph of ``base`` into ``run``; also the features if ``loop_bits`` are equal.

    A run with a different number of bits in the loop prepares its own features, because the first
    codes and their sums depend on that number. Does nothing if the run already reuses the stages.

    Raises
    ------
    ConfigError : an option that the graph depends on differs.
    StorageError : ``base`` has no finished graph, or its partitions have a different length.
    """
    recorded = _options(base)
    alike = dataclasses.replace(up_to_graph(config), bits=recorded.bits)
    changed = differing_options(recorded, alike)
    if changed:
        raise ConfigError(f"{base.path} has other options than this run: {'; '.join(changed)}")
    stages = run.stages(config)
    if stages.find(_GRAPH[-1]) is not None:
        return
    if reused_partition_rows(base) != config.partition_rows:
        raise StorageError(
            f"{run.path} has partitions of {config.partition_rows} rows, but {base.path} has "
            f"partitions of {reused_partition_rows(base)} rows; remove one of the two folders"
        )
    places, names = [run.degrees, run.graph], list(_GRAPH)
    if recorded.bits == config.loop_bits:
        places += [run.work / "features", run.order, run.checkpoint(0, "codes")]
        names = [*_FEATURES, *_GRAPH]
    for place in places:
        _link(_on_disk(base.path) / _on_disk(place).relative_to(_on_disk(run.path)), place)
    base_stages = base.stages(recorded)
    for name in names:
        record = base_stages.read(name)
        stages.commit(name, record.values, record.arrays)


def reuse_loop(source: RunDirectory, run: RunDirectory, config: TrainConfig) -> None:
    """Copy the last checkpoint of the finished run ``source``, so that ``run`` skips its loop.

    ``run`` must not have a committed checkpoint. A copy that is interrupted has no manifest, so the
    next attempt copies again.

    Raises
    ------
    ConfigError : an option that the loop depends on differs.
    StorageError : ``source`` has no finished loop.
    """
    changed = differing_options(up_to_loop(_options(source)), up_to_loop(config))
    if changed:
        raise ConfigError(f"{source.path} has other options than this run: {'; '.join(changed)}")
    manifest = source.latest()
    if manifest is None or not manifest["reason"]:
        raise StorageError(f"{source.path} has no finished loop; train this run again")
    number = manifest["iteration"]
    target = _on_disk(run.checkpoint(number))
    arrays.remove(target)
    shutil.copytree(
        _on_disk(source.checkpoint(number)), target, ignore=shutil.ignore_patterns("manifest.json")
    )
    run.commit(number, {**manifest, "config": fingerprint(config)})


def _options(base: RunDirectory) -> TrainConfig:
    return load_config(_on_disk(base.path) / "config.yaml")


def _on_disk(path: Location) -> Path:
    assert isinstance(path, Path)  # a sweep is in a folder, and other runs reuse nothing
    return path


def _link(target: Path, location: Location) -> None:
    """Make ``location`` a relative link to ``target``."""
    place = _on_disk(location)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(os.path.relpath(target, place.parent))
