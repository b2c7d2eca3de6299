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

from srch_dist.config.identity import fingerprint
from srch_dist.config.options import TrainConfig
from srch_dist.errors import StorageError
from srch_dist.kernels.types import Arrays
from srch_dist.storage import arrays
from srch_dist.storage.atomic_files import (
    read_manifest,
    write_json,
    write_manifest,
    write_text,
)
from srch_dist.storage.run.results import RunResults, run_head
from srch_dist.storage.run.stages import StageLog
from srch_dist.storage.safe_npz import read_npz, write_npz


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

    def write_matrices(self, folder: Path, matrices: Arrays) -> dict[str, int]:
        """Write small arrays, one chunk each, and return the crc32 of each."""
        for name, values in matrices.items():
            arrays.create_chunk(folder / name, values)
        return {name: arrays.checksum(values) for name, values in matrices.items()}

    def read_matrices(self, folder: Path, checksums: Mapping[str, int]) -> dict[str, NDArray[Any]]:
        """What `write_matrices` wrote, held against its checksums."""
        for name, expected in checksums.items():
            arrays.verify_rows(folder / name, 0, None, expected)
        return {name: arrays.read_rows(folder / name) for name in checksums}

    def commit_column_group(self, iteration: int, columns: slice, found: Arrays) -> None:
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

    def stages(self, config: TrainConfig) -> StageLog:
        """The stages before and after the loop, as far as they are finished with ``config``."""
        return StageLog(self.work / "stages", fingerprint(config))

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
