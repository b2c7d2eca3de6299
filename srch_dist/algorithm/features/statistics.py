"""`Statistics`: means, Gram matrices and cross-covariances of the training features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from srch_dist.kernels import features as kernels
from srch_dist.kernels.features import GramMatrices
from srch_dist.kernels.types import Matrix
from srch_dist.storage.run.stages import StageLog, StageRecord


@dataclass(frozen=True)
class Statistics:
    """Results of the passes over X before the loop, in float64.

    Attributes
    ----------
    means : (d_g,) column means of the training rows, by modality.
    zero_rows : number of rows that are zero after centring, by modality.
    grams : X_g X_hᵀ as (d_g, d_h) of the normalised features, for each pair of modalities.
    cross_covariance : X_g Bᵀ as (d_g, l) by modality, with B the random first codes.
    """

    means: Mapping[str, Matrix]
    zero_rows: Mapping[str, int]
    grams: GramMatrices
    cross_covariance: Mapping[str, Matrix]

    def commit(self, stages: StageLog, name: str) -> None:
        """Record these statistics as the result of the stage ``name``."""
        arrays = {f"mean/{g}": mean for g, mean in self.means.items()}
        arrays |= {f"gram/{g}/{h}": gram for (g, h), gram in self.grams.items()}
        arrays |= {f"cross/{g}": matrix for g, matrix in self.cross_covariance.items()}
        stages.commit(name, {"zero_rows": dict(self.zero_rows)}, arrays)

    @classmethod
    def of_record(cls, record: StageRecord) -> Statistics:
        """Read the statistics that `commit` recorded."""
        zero_rows, arrays = record.values["zero_rows"], record.arrays
        return cls(
            {g: arrays[f"mean/{g}"] for g in zero_rows},
            zero_rows,
            {
                (g, h): arrays[f"gram/{g}/{h}"]
                for g in zero_rows
                for h in zero_rows
                if f"gram/{g}/{h}" in arrays
            },
            {g: arrays[f"cross/{g}"] for g in zero_rows},
        )


@dataclass(frozen=True)
class FeatureSums:
    """Sums over the normalised features of some rows; see `Statistics`."""

    zero_rows: Mapping[str, int]
    grams: GramMatrices
    cross_covariance: Mapping[str, Matrix]

    def __add__(self, other: FeatureSums) -> FeatureSums:
        return FeatureSums(
            {g: count + other.zero_rows[g] for g, count in self.zero_rows.items()},
            {pair: gram + other.grams[pair] for pair, gram in self.grams.items()},
            {g: part + other.cross_covariance[g] for g, part in self.cross_covariance.items()},
        )


class ColumnSums(dict[str, Matrix]):
    """Column sums by modality; ``+`` adds the sums of disjoint rows.

    Each value is (2, d_g): row 0 has the float64 sums, row 1 their rounding errors; see
    `column_sums`.
    """

    def __add__(self, other: ColumnSums) -> ColumnSums:
        return ColumnSums({g: kernels.add_sums(sums, other[g]) for g, sums in self.items()})
