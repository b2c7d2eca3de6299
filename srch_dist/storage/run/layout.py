"""Paths of a run directory.

```
run.json          format, whether the run is finished, summary of the stages, checksums
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
report.html       the report page
checkpoints/0007  codes, z and cross-covariance of an iteration; committed by its manifest.json
work/             features, neighbours, graph and stage records; removed after the run
lock.json         holder of the run's lock, while a process trains (see `storage.locks`)
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from srch_dist.storage.locations import Location

# A run is on a disk (Path) or in an object store (S3Path), and so are its results.
P = TypeVar("P", bound=Location, covariant=True)


@dataclass(frozen=True)
class ResultPaths(Generic[P]):
    """Paths of the files and arrays that a finished run keeps.

    Attributes
    ----------
    path : folder of the run, or location of its results in an object store.
    """

    path: P

    @property
    def model(self) -> P:
        """The model file."""
        return self._at("model.npz")

    @property
    def codes(self) -> P:
        """Array of the n training rows' codes, uint8 (n, bits / 8), in the order of ``rows``."""
        return self._at("codes.zarr")

    @property
    def rows(self) -> P:
        """Array (n,) of the training rows' numbers in the feature store, ascending int64."""
        return self._at("rows.zarr")

    @property
    def queries(self) -> P:
        """Array of the row numbers of held-out queries in the feature store."""
        return self._at("queries.zarr")

    @property
    def baseline(self) -> P:
        """The model file of the baseline CCA-ITQ."""
        return self._at("baseline.npz")

    @property
    def page(self) -> P:
        """The HTML report."""
        return self._at("report.html")

    @property
    def bit_figures(self) -> P:
        """The .npz file with the means and correlations of the bits; `RunReader.bits` reads it."""
        return self._at("bits.npz")

    def _at(self, name: str) -> P:
        # `/` of either type returns the same type, which the union's `/` does not express.
        return cast(P, self.path / name)


@dataclass(frozen=True)
class RunPaths(ResultPaths[Location]):
    """Paths of a run directory: results, checkpoints, and the arrays under ``work``."""

    @property
    def work(self) -> Location:
        """The folder of intermediate arrays and stage records, removed after the run."""
        return self.path / "work"

    @property
    def loop_model(self) -> Location:
        """File of the model fitted to the training loop's codes; the final codes need it."""
        return self.work / "loop_model.npz"

    @property
    def final_codes(self) -> Location:
        """Array of the n rows' final packed codes, uint8 (n, bits / 8), in training order."""
        return self.work / "final_codes"

    def features(self, modality: str) -> Location:
        """Array of a modality's normalised features (n, d_g), in training order."""
        return self.work / "features" / modality

    @property
    def order(self) -> Location:
        """Array (n,) that defines the training order: each row's position in the array ``rows``."""
        return self.work / "order"

    def points(self, space: str) -> Location:
        """Array (m, w) of m sampled points with w dimensions, to which k-means is applied.

        ``space`` is a modality, or "order" for a random projection of all modalities.
        """
        return self.work / "points" / space

    def scratch(self, name: str, part: int | None = None) -> Location:
        """The folder ``name`` of scratch files, or its subfolder number ``part``."""
        folder = self.work / "scratch" / name
        return folder if part is None else folder / f"{part:06d}"

    def sample(self, name: str) -> Location:
        """Array of m sampled training rows: the encoders' anchors, also used to learn rotations.

        If ``name`` is a modality, the array has the rows' features (m, d_g). If ``name`` is "rows",
        the array has the positions (m,) of the sampled rows in training order.
        """
        return self.work / "sample" / name

    def neighbours(self, modality: str, kind: str) -> Location:
        """Array (n, k) of the k neighbours of each of the n rows, which are in training order.

        Kind ``rows`` has the neighbours' positions in the run's array ``rows``. Kind ``distances``
        has the neighbours' distances.
        """
        return self.work / "neighbours" / modality / kind

    @property
    def degrees(self) -> Location:
        """Array (n, modalities): number of edges of each row in each modality's graph."""
        return self.work / "degrees"

    @property
    def graph(self) -> Location:
        """The folder of the edges of all partitions."""
        return self.work / "graph"

    def edges(self, partition: int, kind: str) -> Location:
        """Array ``kind`` of a partition's edges; see `kernels.graph.adjacency.Adjacency`.

        ``kind`` is "indptr" or "indices" of the CSR matrix, "members" or "weights".
        """
        return self.graph / f"{partition:06d}" / kind

    def checkpoint(self, iteration: int, kind: str = "") -> Location:
        """The checkpoint folder of an iteration, or the entry ``kind`` in it, such as ``codes``."""
        folder = self.path / "checkpoints" / f"{iteration:04d}"
        return folder / kind if kind else folder
