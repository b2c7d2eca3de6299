"""Paths of a run directory.

```
run.json          format, whether the run is finished, summary of its stages
config.yaml       every option, resolved
plan.json         partitions, blocks and the expected memory, disk and time
history.jsonl     one line per iteration
model.npz         projections, encoder, means
codes.zarr        learned codes; rows.zarr: their row numbers in the feature store
queries.zarr      row numbers of held-out queries, if the run chose them
bits.npz          mean and correlations of the learned bits
evaluation.json   scores of the model and of the baseline, if evaluated
baseline.npz      model of the baseline
examples.json     example queries and what they retrieved
report.html       the report
checkpoints/0007  codes, z and cross-covariance of an iteration; committed by its manifest.json
work/             features, neighbours, graph and stage records; removed after the run
lock.json         holder of the run's lock, while a process trains (see `storage.locks`)
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, cast

from srch_dist.storage.locations import Location

# A run is written on a disk (Path); its results may lie in an object store (S3Path).
P = TypeVar("P", bound=Location, covariant=True)


@dataclass(frozen=True)
class ResultPaths(Generic[P]):
    """Paths of what a finished run keeps.

    Attributes
    ----------
    path : folder of the run, or its place in an object store.
    """

    path: P

    @property
    def model(self) -> P:
        """The model file."""
        return self._at("model.npz")

    @property
    def codes(self) -> P:
        """Array of learned codes, uint8 (n, bits / 8), in the order of ``rows``."""
        return self._at("codes.zarr")

    @property
    def rows(self) -> P:
        """Array of the training rows' numbers (n,) in the feature store, ascending."""
        return self._at("rows.zarr")

    @property
    def queries(self) -> P:
        """Array of the row numbers held out as queries."""
        return self._at("queries.zarr")

    @property
    def baseline(self) -> P:
        """The model file of the baseline."""
        return self._at("baseline.npz")

    @property
    def page(self) -> P:
        """The HTML report."""
        return self._at("report.html")

    @property
    def bit_figures(self) -> P:
        """The file of `RunReader.bits`."""
        return self._at("bits.npz")

    def _at(self, name: str) -> P:
        # `/` of either type returns the same type, which the union's `/` does not express.
        return cast(P, self.path / name)


@dataclass(frozen=True)
class RunPaths(ResultPaths[Path]):
    """Paths of a run on a disk, with its checkpoints and the arrays under ``work``."""

    @property
    def work(self) -> Path:
        """The folder of all that can be computed again from the data."""
        return self.path / "work"

    @property
    def loop_model(self) -> Path:
        """The model of the loop's codes, while the final codes are derived from them."""
        return self.work / "loop_model.npz"

    @property
    def final_codes(self) -> Path:
        """Array of final packed codes (n, bits / 8), in training order."""
        return self.work / "final_codes"

    def features(self, modality: str) -> Path:
        """Array of normalised features (n, d_g), in training order."""
        return self.work / "features" / modality

    @property
    def order(self) -> Path:
        """Array (n,): position in ``rows`` of each row in training order."""
        return self.work / "order"

    def routes(self, modality: str) -> Path:
        """Array (n, overlap_max): clusters that each row is searched in, nearest first; -1: none.

        Rows are in training order.
        """
        return self.work / "routes" / modality

    def points(self, space: str) -> Path:
        """Array of the sampled points (m, w) that k-means clusters; ``space`` names the sample."""
        return self.work / "points" / space

    def scratch(self, name: str, part: int | None = None) -> Path:
        """A folder of scratch files, or the folder of one part in it."""
        folder = self.work / "scratch" / name
        return folder if part is None else folder / f"{part:06d}"

    def sample(self, name: str) -> Path:
        """Array of a fixed sample: normalised features (m, d_g), or its ``rows`` (m,)."""
        return self.work / "sample" / name

    def neighbours(self, modality: str, kind: str) -> Path:
        """Array (n, k) of neighbours' ``rows`` or ``distances``, in training order.

        A neighbour is its position in the run's ``rows``, which the training order does not change.
        """
        return self.work / "neighbours" / modality / kind

    @property
    def degrees(self) -> Path:
        """Array of degrees (n, modalities)."""
        return self.work / "degrees"

    @property
    def graph(self) -> Path:
        """The folder of all partitions' edges."""
        return self.work / "graph"

    def edges(self, partition: int, kind: str) -> Path:
        """Array ``indptr``, ``indices``, ``members`` or ``weights`` of a partition's rows."""
        return self.graph / f"{partition:06d}" / kind

    def checkpoint(self, iteration: int, kind: str = "") -> Path:
        """The folder of an iteration, or a file or array in it (``codes``, ``z``)."""
        return self.path / "checkpoints" / f"{iteration:04d}" / kind
