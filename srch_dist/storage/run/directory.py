"""The run directory: where everything of a run lies, and when it counts as done.

```
run.json          format, finished or not, summary of the stages
config.yaml       every option, resolved
plan.json         how the run was cut, and what it was expected to take
history.jsonl     one line an iteration
model.npz         projections, encoder, means; codes.zarr and rows.zarr: the learned codes
queries.zarr      rows held out by seed, where there are any
bits.npz          of the learned codes: mean of each bit, correlations of the bits
evaluation.json   scores of the model and of the baseline, where it was evaluated
baseline.npz      the model of the baseline; examples.json: queries and what they found
report.html       all of this as a page
checkpoints/0007  codes, z, sums; committed by its manifest.json
work/             normalised features, neighbours, graph, and which stages are finished
                  (see `storage.stages`); removed when the run is finished
lock.json         who trains in it just now (see `storage.lock`)
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.config.loading import TrainConfig, dump_config, fingerprint, parse_config
from srch_dist.errors import StorageError
from srch_dist.storage import arrays
from srch_dist.storage.atomic_files import (
    read_bytes,
    read_json,
    read_manifest,
    write_json,
    write_manifest,
    write_text,
)
from srch_dist.storage.locations import Location, check_access, local_path, locate
from srch_dist.storage.run.stages import Stages
from srch_dist.storage.safe_npz import read_npz, write_npz

FORMAT = 1
Matrices = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class RunResults:
    """What a finished run is read for, on disk or in an object store."""

    path: Location

    @property
    def model(self) -> Location:
        """The model file."""
        return self.path / "model.npz"

    @property
    def codes(self) -> Location:
        """Learned codes, uint8 (n, bits / 8), in the order of ``rows``; an array at the root."""
        return self.path / "codes.zarr"

    @property
    def rows(self) -> Location:
        """Row numbers (n,) in the feature store of the rows trained on, ascending."""
        return self.path / "rows.zarr"

    @property
    def queries(self) -> Location:
        """Row numbers held out as queries."""
        return self.path / "queries.zarr"

    @property
    def baseline(self) -> Location:
        """The model file of the baseline."""
        return self.path / "baseline.npz"

    @property
    def page(self) -> Location:
        """The report as a page."""
        return self.path / "report.html"

    @property
    def bit_figures(self) -> Location:
        """The file of `bits`."""
        return self.path / "bits.npz"

    def bits(self) -> dict[str, NDArray[Any]] | None:
        """Mean (l,) and correlations (l, l) of the learned bits; None in runs of before."""
        return read_npz(self.bit_figures) if self.bit_figures.exists() else None

    def record(self, name: str) -> Any:
        """What `RunDirectory.write_record` saved; None where nothing was."""
        path = self.path / f"{name}.json"
        return read_json(path) if path.exists() else None

    def config(self) -> TrainConfig:
        """Every option, as the run resolved it."""
        path = self.path / "config.yaml"
        return parse_config(read_bytes(path).decode(), str(path))

    def plan(self) -> dict[str, Any]:
        """What `RunDirectory.write_plan` saved."""
        return dict(read_json(self.path / "plan.json"))

    def history(self) -> list[dict[str, Any]]:
        """The records of all iterations."""
        text = read_bytes(self.path / "history.jsonl").decode()
        return [json.loads(line) for line in text.splitlines()]

    def summary(self) -> dict[str, Any]:
        """What `RunDirectory.finish` recorded."""
        return dict(read_json(self.path / "run.json")["summary"])


@dataclass(frozen=True)
class RunDirectory(RunResults):
    """Paths and commits of one run; holds its path alone, so it travels to any worker."""

    path: Path

    @property
    def model(self) -> Path:
        """The model file."""
        return self.path / "model.npz"

    @property
    def baseline(self) -> Path:
        """The model file of the baseline."""
        return self.path / "baseline.npz"

    @property
    def loop_model(self) -> Path:
        """The model of the loop's codes, while others are spread from them."""
        return self.work / "loop_model.npz"

    @property
    def final_codes(self) -> Path:
        """Packed codes (n, bits / 8) spread from directions, in training order."""
        return self.work / "final_codes"

    @property
    def work(self) -> Path:
        """Everything that can be made again from the data."""
        return self.path / "work"

    def features(self, modality: str) -> Path:
        """Normalised features (n, d_g) in training order."""
        return self.work / "features" / modality

    @property
    def order(self) -> Path:
        """Place (n,) in ``rows`` of each row in training order: by cluster, then ascending."""
        return self.work / "order"

    def routes(self, modality: str) -> Path:
        """The clusters (n, overlap_max) that rows are searched in, nearest first; -1 is none."""
        return self.work / "routes" / modality

    def points(self, space: str) -> Path:
        """Sampled rows (m, w) as they are clustered in a space."""
        return self.work / "points" / space

    def scratch(self, name: str, part: int | None = None) -> Path:
        """A folder of files that live for one shuffle, or one part's folder in it."""
        folder = self.work / "scratch" / name
        return folder if part is None else folder / f"{part:06d}"

    def sample(self, name: str) -> Path:
        """Normalised features (m, d_g) of a fixed sample, or its ``rows`` in training order."""
        return self.work / "sample" / name

    def neighbours(self, modality: str, kind: str) -> Path:
        """``rows`` or ``distances`` (n, k) of the nearest neighbours, in training order.

        A neighbour is given by its place in the run's ``rows``, which no order changes.
        """
        return self.work / "neighbours" / modality / kind

    @property
    def degrees(self) -> Path:
        """Degrees (n, modalities)."""
        return self.work / "degrees"

    @property
    def graph(self) -> Path:
        """The folder of the edges of all partitions."""
        return self.work / "graph"

    def edges(self, partition: int, kind: str) -> Path:
        """``indptr``, ``indices``, ``members`` or ``weights`` of a partition's rows."""
        return self.graph / f"{partition:06d}" / kind

    def checkpoint(self, iteration: int, kind: str = "") -> Path:
        """The folder of an iteration, or an array (``codes``, ``z``) in it."""
        return self.path / "checkpoints" / f"{iteration:04d}" / kind

    def write_matrices(self, folder: Path, matrices: Matrices) -> dict[str, int]:
        """Write small arrays, one chunk each, and return the crc32 of each."""
        for name, values in matrices.items():
            arrays.create_chunk(folder / name, values)
        return {name: arrays.checksum(values) for name, values in matrices.items()}

    def read_matrices(self, folder: Path, checksums: Mapping[str, int]) -> dict[str, NDArray[Any]]:
        """What `write_matrices` wrote, held against its checksums."""
        for name, expected in checksums.items():
            arrays.verify_rows(folder / name, 0, None, expected)
        return {name: arrays.read_rows(folder / name) for name in checksums}

    def commit_column_group(self, iteration: int, columns: slice, found: Matrices) -> None:
        """Make a group of columns of an iteration's ``z`` count as stored, with what is known."""
        write_npz(self._column_group(iteration, columns), found)

    def column_groups(self, iteration: int) -> dict[tuple[int, int], dict[str, NDArray[Any]]]:
        """What `commit_column_group` was given, by first and end of the columns, in order."""
        found = {}
        for path in sorted(self.checkpoint(iteration).glob("z.*-*.npz")):
            start, stop = path.name.split(".")[1].split("-")
            found[int(start), int(stop)] = read_npz(path)
        return found

    def forget_column_groups(self, iteration: int) -> None:
        """Take back every `commit_column_group` of an iteration."""
        for path in self.checkpoint(iteration).glob("z.*-*.npz"):
            path.unlink()

    def _column_group(self, iteration: int, columns: slice) -> Path:
        return self.checkpoint(iteration, f"z.{columns.start:04d}-{columns.stop:04d}.npz")

    def commit(self, iteration: int, manifest: Mapping[str, Any]) -> None:
        """Make a checkpoint count, and drop those before the previous one."""
        write_manifest(self.checkpoint(iteration, "manifest.json"), manifest)
        for folder in self.checkpoint(0).parent.iterdir():
            if folder.name.isdigit() and int(folder.name) < iteration - 1:
                arrays.remove(folder)

    def latest(self) -> dict[str, Any] | None:
        """The manifest of the last committed iteration; None before the first.

        Raises
        ------
        StorageError : it is damaged.
        """
        folders = self.checkpoint(0).parent
        committed = [path for path in folders.glob("*/manifest.json") if path.parent.name.isdigit()]
        if not committed:
            return None
        path = max(committed, key=lambda path: int(path.parent.name))
        try:
            return read_manifest(path)
        except StorageError as error:
            raise StorageError(
                f"{error}; remove {path.parent} to go on from the iteration before it"
            ) from None

    def restart_history(self, records: list[Any]) -> None:
        """Replace the history by that of a checkpoint."""
        write_text(self.path / "history.jsonl", "".join(json.dumps(one) + "\n" for one in records))

    def sweep(self) -> None:
        """Remove files that a killed process was in the middle of writing."""
        for pattern in ("*.partial", "*.part"):
            for path in self.path.rglob(pattern):
                path.unlink(missing_ok=True)

    def stages(self, config: TrainConfig) -> Stages:
        """The stages before and after the loop, as far as they are finished with ``config``."""
        return Stages(self.work / "stages", fingerprint(config))

    def write_plan(self, record: Mapping[str, Any]) -> None:
        """Save the plan; see `plan_report.plan_record`."""
        write_json(self.path / "plan.json", record)

    def append_history(self, record: Mapping[str, Any]) -> None:
        """Add one line to the history."""
        path = self.path / "history.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from None

    def write_bits(self, means: NDArray[Any], correlations: NDArray[Any]) -> None:
        """Save the mean (l,) of each bit of the learned codes, and their correlations (l, l)."""
        values = {"means": means, "correlations": correlations.astype(np.float32)}
        write_npz(self.bit_figures, values)

    def write_record(self, name: str, record: Any) -> None:
        """Save what is known beside the run itself: ``evaluation`` or ``examples``."""
        write_json(self.path / f"{name}.json", record)

    def discard(self) -> None:
        """Remove a run that was refused: it would be in the way of the next try."""
        arrays.remove(self.path)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Make the run count as finished."""
        write_json(self.path / "run.json", {**run_head(True), "summary": dict(summary)})


def create_run(path: str | Path, config: TrainConfig) -> RunDirectory:
    """Make a new run directory.

    Raises
    ------
    StorageError : something is there already, or the place cannot be written.
    """
    folder = local_path(path)
    check_unused(folder)
    make_folder(folder)
    try:
        # Of two runs that start at once, one makes the file and the other is refused.
        with (folder / "run.json").open("x", encoding="utf-8") as file:
            json.dump(run_head(False), file)
        write_text(folder / "config.yaml", dump_config(config))
    except FileExistsError:
        raise _in_use(folder) from None
    except OSError as error:
        raise _unwritable(folder, error) from None
    return RunDirectory(folder.resolve())


def check_unused(folder: Path) -> None:
    """Raise StorageError where anything but a lock is at the place of a new run."""
    if not folder.exists():
        return
    if not folder.is_dir() or any(entry.name != "lock.json" for entry in folder.iterdir()):
        raise _in_use(folder)


def make_folder(folder: Path) -> None:
    """Make a run's folder where it is not there, or raise StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write the run directory {folder}: {error}")


def _in_use(folder: Path) -> StorageError:
    return StorageError(
        f"{folder} is in use; name another run directory with --out, or go on with the run in it "
        "with --resume"
    )


def open_run(path: str | Location) -> RunResults:
    """Open a finished run.

    Raises
    ------
    StorageError : no run there, or one that is not finished.
    """
    folder = locate(path)
    check_access(folder)
    if not (folder / "run.json").exists():
        raise StorageError(f"{folder} is not a run directory; make one with srch_dist.train")
    if read_head(folder).get("finished") is not True:
        raise StorageError(f"the run {folder} is not finished; train it again, with --resume")
    return RunResults(folder.resolve() if isinstance(folder, Path) else folder)


def read_head(folder: Location) -> dict[str, Any]:
    """What ``run.json`` says; raises StorageError where it is none of this format."""
    head = read_json(folder / "run.json")
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise StorageError(f"{folder}/run.json is not of format {FORMAT}")
    return {"finished": False, **head}


def run_head(finished: bool) -> dict[str, Any]:
    """What ``run.json`` begins with."""
    return {"format": FORMAT, "finished": finished}
