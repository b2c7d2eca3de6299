"""Common out-of-sample encoders, fitted to a method's own training codes."""

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

# The engine's own default, for every method alike.
RIDGE = MethodConfig().ridge


@dataclass(frozen=True)
class _Modality:
    """What an anchor encoder needs of one modality, whatever the codes.

    Attributes
    ----------
    anchors : (m, d) features, and bandwidth : δ² of their similarities.
    near : by side, similarities (rows, m) to the anchors.
    gram : (d, d), X'X. sums : over the training rows.
    """

    anchors: FloatArray
    bandwidth: float

    near: dict[str, FloatArray]
    gram: FloatArray
    sums: AnchorSums


class CommonEncoders:
    """The ridge encoder and SRCH's anchor encoder on one task."""

    def __init__(self, task: RetrievalTask) -> None:
        self._task = task
        self._prepared: dict[str, _Modality] = {}

    def scores(self, train_codes: CodeArray) -> dict[str, Measures]:
        """Scores by encoder, both fitted to training codes (n, l)."""
        ridge = ridge_encoder(self._task.train, train_codes, RIDGE)
        return {
            "ridge": score_model(self._task, ridge),
            "anchors": score_codes(self._task, self.anchor_codes(train_codes)),
        }

    def anchor_codes(self, train_codes: CodeArray) -> dict[str, dict[str, Packed]]:
        """Packed codes by side and modality from the anchor encoder of ``train_codes`` (n, l)."""
        coded: dict[str, dict[str, Packed]] = {side: {} for side in self._task.features}
        for g, X in self._task.train.items():
            known = self._prepare(g)
            targets = anchor_targets(X, known.anchors, known.bandwidth, train_codes)
            cross = product_sum(X, train_codes)
            linear, on_anchors, offset = anchor_encoder(
                known.sums, targets, known.gram, cross, len(X), RIDGE
            )
            for side, near in known.near.items():
                scores = self._task.features[side][g] @ linear.T + near @ on_anchors.T + offset
                coded[side][g] = pack_codes(sign_codes(scores))
        return coded

    def _prepare(self, g: str) -> _Modality:
        """Everything about a modality that does not depend on the codes, worked out once."""
        if g not in self._prepared:
            X = self._task.train[g]
            anchors = X[self._task.anchors]
            width = anchor_bandwidth(anchors)
            near = {
                side: similarities(blocks[g], anchors, width)
                for side, blocks in self._task.features.items()
            }
            sums = anchor_sums(X, anchors, width)
            self._prepared[g] = _Modality(anchors, width, near, product_sum(X, X), sums)
        return self._prepared[g]
