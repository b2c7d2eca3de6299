"""Runs prepared up to the loop, and parts of them read back dense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from srch_dist.algorithm.b_step import code_rule
from srch_dist.algorithm.encoders.model_stage import finish_codes
from srch_dist.algorithm.features.sample import write_sample
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.graph import GraphReport
from srch_dist.algorithm.loop import Learned, learn_codes
from srch_dist.algorithm.solver.block_graph import BlockGraph, load_graph
from srch_dist.config.options import TrainConfig
from srch_dist.encode.model import Model
from srch_dist.kernels.code_update import CodeRule
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime.progress import silent
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.train.pipeline import choose_weights, uses_sample

# The loop of `balanced` without what stands around it; tests of these turn them on.
PLAIN = {"weights": "equal", "rotate": False, "directions": 0, "encoder": "ridge"}


@dataclass(frozen=True)
class PreparedRun:
    """A run up to the loop: normalised features, first codes and the graph are written."""

    directory: RunDirectory
    plan: Plan
    config: TrainConfig
    modalities: tuple[str, ...]
    statistics: Statistics
    report: GraphReport
    first_codes: np.ndarray
    store: FeatureStore

    def finish(self, learned: Learned) -> tuple[Model, dict[str, Any]]:
        """Final codes and model; see `finish_codes`."""
        weights = choose_weights(self.report, self.config)
        return finish_codes(
            self.directory,
            self.plan,
            learned,
            self.statistics,
            weights,
            self.store,
            self.config,
            silent(),
        )

    def learn(self) -> Learned:
        """Run the loop."""
        weights = choose_weights(self.report, self.config)
        if uses_sample(self.config):
            write_sample(self.directory, self.modalities, self.config.method.anchors)
        return learn_codes(
            self.directory, self.plan, self.statistics, weights, self.config, silent()
        )

    def graph(self) -> BlockGraph:
        """The graph's blocks, all modalities trusted alike."""
        return load_graph(self.directory, self.plan, np.ones(len(self.modalities)))

    def rule(self, w, z) -> CodeRule:
        """How the B-step goes, all modalities trusted alike."""
        alike = dict.fromkeys(self.modalities, 1.0)
        return code_rule(w, z, self.statistics.grams, self.plan.rows, alike, self.config)

    def codes(self, iteration: int) -> np.ndarray:
        """±1 codes (n, l) of an iteration's checkpoint."""
        return read_codes(self.directory, iteration)

    def embedding(self, iteration: int) -> np.ndarray:
        """Z (n, l) of an iteration's checkpoint."""
        return read_array(self.directory.checkpoint(iteration, "z"))

    def features(self) -> dict[str, np.ndarray]:
        """Normalised features by modality."""
        return {g: read_array(self.directory.features(g)) for g in self.modalities}

    def weights(self) -> np.ndarray:
        """C of every modality as (modalities, n, n), zero where there is no edge."""
        n = self.plan.rows
        dense = np.zeros((len(self.modalities), n, n))
        for p in self.plan.partitions:
            low, high = self.plan.span(p)
            indptr, indices, weights = (
                read_array(self.directory.edges(p, kind))
                for kind in ("indptr", "indices", "weights")
            )
            owners = np.repeat(np.arange(low, high), np.diff(indptr))
            dense[:, owners, indices] = weights.T
        return dense


def read_array(path) -> np.ndarray:
    return zarr.open_array(str(path), mode="r")[:]


def read_codes(directory: RunDirectory, iteration: int) -> np.ndarray:
    packed = read_array(directory.checkpoint(iteration, "codes"))
    return np.unpackbits(packed, axis=1, bitorder="little").astype(np.int8) * 2 - 1
