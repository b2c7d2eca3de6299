"""Common out-of-sample encoders (ridge, anchors), fitted to a method's training codes."""

from __future__ import annotations

from dataclasses import dataclass

from srch_dist.config.options import MethodConfig
from srch_dist.kernels.anchors import (
    AnchorSums,
    anchor_bandwidth,
    anchor_encoder,
    anchor_sums,
    anchor_targets,
    similarities,
)
from srch_dist.kernels.features import product_sum
from srch_dist.kernels.packed_codes import pack_codes, sign_codes
from srch_dist.kernels.types import Packed

from .baselines.protocol import CodeArray, FloatArray
from .baselines.ridge_encoder import ridge_encoder
from .data import RetrievalTask
from .scoring import Measures, score_codes, score_model

# The engine's default, for every method.
RIDGE = MethodConfig().ridge


@dataclass(frozen=True)
class _AnchorStatistics:
    """The part of an anchor encoder that depends on one modality, but not on codes.

    Attributes
    ----------
    anchors : array (m, d)
        Features of the anchors.
    bandwidth : float
        δ² of the Gaussian similarities.
    near : dict
        Similarities (rows, m) to the anchors, by side.
    gram : array (d, d)
        XᵀX of the training rows.
    sums : AnchorSums
        Sums over the training rows.
    """

    anchors: FloatArray
    bandwidth: float
    near: dict[str, FloatArray]
    gram: FloatArray
    sums: AnchorSums


class CommonEncoders:
    """The ridge encoder and SRCH's anchor encoder for one task."""

    def __init__(self, task: RetrievalTask) -> None:
        self._task = task
        self._cache: dict[str, _AnchorStatistics] = {}

    def scores(self, train_codes: CodeArray) -> dict[str, Measures]:
        """Fit both encoders to training codes (n, l) and return the MAP of each."""
        ridge = ridge_encoder(self._task.train, train_codes, RIDGE)
        return {
            "ridge": score_model(self._task, ridge),
            "anchors": score_codes(self._task, self.anchor_codes(train_codes)),
        }

    def anchor_codes(self, train_codes: CodeArray) -> dict[str, dict[str, Packed]]:
        """Fit the anchor encoder to ``train_codes`` (n, l); packed codes by side and modality."""
        codes: dict[str, dict[str, Packed]] = {side: {} for side in self._task.features}
        for g, X in self._task.train.items():
            statistics = self._statistics(g)
            targets = anchor_targets(X, statistics.anchors, statistics.bandwidth, train_codes)
            cross = product_sum(X, train_codes)
            linear, on_anchors, offset = anchor_encoder(
                statistics.sums, targets, statistics.gram, cross, len(X), RIDGE
            )
            for side, near in statistics.near.items():
                scores = self._task.features[side][g] @ linear.T + near @ on_anchors.T + offset
                codes[side][g] = pack_codes(sign_codes(scores))
        return codes

    def _statistics(self, g: str) -> _AnchorStatistics:
        """Statistics of a modality, computed on first use."""
        if g not in self._cache:
            X = self._task.train[g]
            anchors = X[self._task.anchors]
            width = anchor_bandwidth(anchors)
            near = {
                side: similarities(blocks[g], anchors, width)
                for side, blocks in self._task.features.items()
            }
            sums = anchor_sums(X, anchors, width)
            self._cache[g] = _AnchorStatistics(anchors, width, near, product_sum(X, X), sums)
        return self._cache[g]
