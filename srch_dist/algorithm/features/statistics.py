"""Sums over the training features that every later step uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from srch_dist.kernels import features as kernels
from srch_dist.kernels.features import GramMatrices
from srch_dist.kernels.types import Matrix
from srch_dist.storage.run.stages import StageLog, StageRecord


@dataclass(frozen=True)
class Statistics:
    """What the passes before the loop learn.

    Attributes
    ----------
    means : (d_g,) of the training rows. zero_rows : rows that are zero once centred.
    grams : X_g' X_h for each pair of modalities. cross_covariance : X_g B' (d_g, l) of the
        random first codes.
    """

    means: Mapping[str, Matrix]
    zero_rows: Mapping[str, int]
    grams: GramMatrices
    cross_covariance: Mapping[str, Matrix]

    def commit(self, stages: StageLog, name: str) -> None:
        """Record these as what a stage passes on."""
        arrays = {f"mean/{g}": mean for g, mean in self.means.items()}
        arrays |= {f"gram/{g}/{h}": gram for (g, h), gram in self.grams.items()}
        arrays |= {f"cross/{g}": matrix for g, matrix in self.cross_covariance.items()}
        stages.commit(name, {"zero_rows": dict(self.zero_rows)}, arrays)

    @classmethod
    def of_record(cls, record: StageRecord) -> Statistics:
        """What `commit` recorded."""
        zero_rows, found = record.values["zero_rows"], record.arrays
        return cls(
            {g: found[f"mean/{g}"] for g in zero_rows},
            zero_rows,
            {
                (g, h): found[f"gram/{g}/{h}"]
                for g in zero_rows
                for h in zero_rows
                if f"gram/{g}/{h}" in found
            },
            {g: found[f"cross/{g}"] for g in zero_rows},
        )


@dataclass(frozen=True)
class _Sums:
    """Partial results of the second pass; see `Statistics`."""

    zero_rows: Mapping[str, int]
    grams: GramMatrices
    cross_covariance: Mapping[str, Matrix]

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            {g: count + other.zero_rows[g] for g, count in self.zero_rows.items()},
            {pair: gram + other.grams[pair] for pair, gram in self.grams.items()},
            {g: part + other.cross_covariance[g] for g, part in self.cross_covariance.items()},
        )


class _ColumnSums(dict[str, Matrix]):
    """Column sums by modality, as of `column_sums`, which add up."""

    def __add__(self, other: _ColumnSums) -> _ColumnSums:
        return _ColumnSums({g: kernels.add_sums(sums, other[g]) for g, sums in self.items()})
