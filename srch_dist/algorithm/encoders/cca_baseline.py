"""CCA-ITQ baseline, fitted to the training rows of a run and stored as a model.

The method is canonical correlation analysis from the Gram matrices, then a rotation by iterative
quantisation (Gong et al., TPAMI 2013).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.algorithm.features.sample import sample_positions
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.job import Job
from srch_dist.encode.model import Model
from srch_dist.kernels import cca
from srch_dist.kernels.projections import polar_factor
from srch_dist.kernels.sampling import Stream
from srch_dist.kernels.types import Matrix
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory

NAME = "CCA-ITQ"
# Ridge as a share of the mean eigenvalue, and ITQ iterations, as in the published comparison.
_RIDGE, _ITERATIONS = 0.1, 50
# Maximum number of rows to learn the rotation from: enough for its bits² entries.
_ROWS = 16_384


def fit_baseline(job: Job, statistics: Statistics) -> Model:
    """Fit CCA to all training rows, and the ITQ rotation to a fixed sample of these rows.

    If a modality has fewer dimensions d_g than the code has bits, only the first d_g bits vary.
    """
    run, plan, config = job.run, job.plan, job.config
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
    with job.progress.stage("baseline", len(parts)) as stage:
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
    """Project the m ``rows`` of each modality on its canonical directions.

    Returns (2 m, directions): all rows of the first modality, then all rows of the second.
    """
    return np.concatenate(
        [arrays.read_selected(run.features(g), rows) @ w for g, w in directions.items()]
    ).astype(np.float64)
