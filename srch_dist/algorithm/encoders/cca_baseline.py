"""The baseline of a run: CCA-ITQ fitted to the same training rows, as a model like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.algorithm.features.sample import sample_positions
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.config.options import TrainConfig
from srch_dist.encode.model import Model
from srch_dist.kernels import cca
from srch_dist.kernels.projections import polar_factor
from srch_dist.kernels.sampling import Stream
from srch_dist.kernels.types import Matrix
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import Progress
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory

NAME = "CCA-ITQ"
# As measured for the comparison of the README: share of the mean eigenvalue, and alternations.
_RIDGE, _ITERATIONS = 0.1, 50
# Rows that the rotation is learned on, at most: it has bits² entries, few next to these.
_ROWS = 16_384


def fit_baseline(
    run: RunDirectory, plan: Plan, statistics: Statistics, config: TrainConfig, progress: Progress
) -> Model:
    """CCA from the Gram matrices of all training rows, its rotation from a sample of them.

    The sample goes by hash of the row number. Codes have min(bits, d_g) bits; the rest of a code is
    constant.
    """
    first, second = statistics.means
    directions = cca.canonical_directions(statistics.grams, first, second, config.bits, _RIDGE)
    rows = arrays.read_rows(run.rows)[arrays.read_rows(run.order)]
    chosen = sample_positions(rows, _ROWS)
    shared = tasks.as_task_input(directions)
    parts = []
    for p in plan.partitions:
        low, high = plan.span(p)
        inside = chosen[(chosen >= low) & (chosen < high)]
        if len(inside):
            parts.append(tasks.task(_project, run, shared, inside))
    with progress.stage("baseline", len(parts)) as stage:
        embedding = np.concatenate(tasks.run_all(parts, stage))
    width = embedding.shape[1]
    generator = np.random.default_rng([config.seed, Stream.BASELINE_ROTATION])
    random = generator.standard_normal((width, width))
    rotation = cca.quantising_rotation(embedding, polar_factor(random), _ITERATIONS)
    encoders = cca.padded_encoders(directions, rotation, config.bits)
    metadata: dict[str, Any] = {"method": NAME, "effective_width": width}
    options = config.features
    return Model(
        statistics.means,
        encoders,
        encoders,
        {},
        config.bits,
        options.center,
        options.unit_norm,
        metadata,
    )


def _project(
    run: RunDirectory, directions: Mapping[str, Matrix], rows: NDArray[np.int64]
) -> Matrix:
    """The embedding of some rows, those of both modalities one below the other."""
    return np.concatenate(
        [arrays.read_selected(run.features(g), rows) @ w for g, w in directions.items()]
    ).astype(np.float64)
