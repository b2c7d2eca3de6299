"""Runs prepared up to the loop, and their arrays as dense matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from srch_dist.algorithm.b_step import code_rule
from srch_dist.algorithm.checkpoints import LoopState
from srch_dist.algorithm.encoders.model_stage import fit_final_model
from srch_dist.algorithm.features.sample import write_sample
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.job import Job
from srch_dist.algorithm.loop import learn_codes
from srch_dist.algorithm.neighbour_graph import GraphReport
from srch_dist.algorithm.solver.block_graph import BlockGraph, load_graph
from srch_dist.config.options import TrainConfig
from srch_dist.encode.model import Model
from srch_dist.kernels.code_update import CodeRule
from srch_dist.plan.run_plan import Plan
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.train.pipeline import choose_weights, uses_sample

# Method options of a plain loop, without the additions of `balanced`; tests of an addition set it.
PLAIN = {"weights": "equal", "rotate": False, "directions": 0, "encoder": "ridge"}


@dataclass(frozen=True)
class PreparedRun:
    """A run up to the loop: normalised features, first codes and the graph are written."""

    job: Job
    store: FeatureStore
    statistics: Statistics
    report: GraphReport
    first_codes: np.ndarray

    @property
    def directory(self) -> RunDirectory:
        return self.job.run

    @property
    def plan(self) -> Plan:
        return self.job.plan

    @property
    def config(self) -> TrainConfig:
        return self.job.config

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.job.modalities

    def finish(self, learned: LoopState) -> tuple[Model, dict[str, Any]]:
        """Final codes and model; see `fit_final_model`."""
        weights = choose_weights(self.report, self.config.method)
        return fit_final_model(self.job, self.store, learned, self.statistics, weights)

    def learn(self) -> LoopState:
        """Run the loop."""
        weights = choose_weights(self.report, self.config.method)
        if uses_sample(self.config.method):
            write_sample(self.job)
        return learn_codes(self.job, self.statistics, weights)

    def graph(self) -> BlockGraph:
        """The blocks of the graph, with equal trust in all modalities."""
        return load_graph(self.directory, self.plan, np.ones(len(self.modalities)))

    def rule(self, w, z) -> CodeRule:
        """The rule of the B-step, with equal trust in all modalities."""
        return code_rule(self.job, self.statistics, dict.fromkeys(self.modalities, 1.0), w, z)

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
        """C of every modality as (modalities, n, n), zero for pairs without an edge."""
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
