"""The order that rows are trained in: by coarse cluster over all modalities together.

A shuffle in two passes: each partition of the store's order sets its rows aside sorted by
cluster, then each partition of the training order gathers its runs of rows from every file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.config.options import TrainConfig
from srch_dist.kernels.clusters import PROJECTED, gaussian_projection, slice_bounds
from srch_dist.kernels.packed_codes import pack_codes, random_codes
from srch_dist.kernels.types import Matrix
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.resumable import Work
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.scratch import gather_spill, read_spill, write_spill


def joint_points(blocks: Mapping[str, NDArray[np.floating]], seed: int) -> Matrix:
    """A random projection (n, w) of all modalities side by side, from features (n, d_g) of each."""
    points: Matrix = np.sum(
        [
            block.astype(np.float64)
            @ gaussian_projection(seed + position, block.shape[1], PROJECTED)
            for position, block in enumerate(blocks.values())
        ],
        axis=0,
    )
    return points


def spill_rows(
    run: RunDirectory,
    partition: int,
    first: int,
    rows: NDArray[np.int64],
    clusters: NDArray[np.int64],
    blocks: Mapping[str, NDArray[np.floating]],
) -> None:
    """Set a partition of the store's order aside, sorted by cluster.

    Parameters
    ----------
    first : place of its first row in ``run.rows``. rows : (n,), their numbers in the store.
    clusters : (n,). blocks : normalised features (n, d_g) by modality.
    """
    sorting = np.argsort(clusters, kind="stable")
    spilled = {"places": first + sorting, "rows": rows[sorting], "clusters": clusters[sorting]}
    features = {f"features.{g}": block[sorting] for g, block in blocks.items()}
    write_spill(run.scratch("order", partition), {**spilled, **features})


def gather_works(
    run: RunDirectory, plan: Plan, dims: Mapping[str, int], clusters: int, config: TrainConfig
) -> list[Work]:
    """Units that bring the rows set aside into training order: features, order, first codes.

    Every partition takes its runs of rows of each file. The array of the codes has been made.
    """
    arrays.ensure_array(run.order, (plan.rows,), plan.partition_rows, np.int64)
    for g, width in dims.items():
        arrays.ensure_array(run.features(g), (plan.rows, width), plan.partition_rows, plan.dtype)
    modalities = tuple(dims)
    if run.scratch("order").exists():  # else every unit has been done
        tasks.run_one(tasks.task(_write_bounds, run, plan, clusters))
    return [
        (_gather_partition, run, modalities, plan, p, config.seed, config.loop_bits)
        for p in plan.partitions
    ]


def _write_bounds(run: RunDirectory, plan: Plan, clusters: int) -> None:
    """Cut every spilled file at the partitions of the training order, one file at a time."""

    def counted() -> Iterator[NDArray[np.int64]]:
        for p in plan.partitions:
            found = read_spill(run.scratch("order", p), "clusters")
            yield np.bincount(found, minlength=clusters)

    sizes = np.zeros(clusters, dtype=np.int64)
    for counts in counted():
        sizes += counts
    bounds = slice_bounds(counted(), sizes, np.array(plan.starts))
    for p, own in zip(plan.partitions, bounds, strict=True):
        write_spill(run.scratch("order", p), {"bounds": own})


def _gather_partition(
    run: RunDirectory,
    modalities: tuple[str, ...],
    plan: Plan,
    partition: int,
    seed: int,
    bits: int,
) -> dict[str, NDArray[Any]]:
    """Write one partition of the features, the order and the first codes; their checksums."""
    folders = [run.scratch("order", p) for p in plan.partitions]
    cuts = [read_spill(folder, "bounds", partition, partition + 2).tolist() for folder in folders]

    def gather(name: str) -> NDArray[Any]:
        return gather_spill(folders, name, cuts)

    places = gather("places")
    sorting = np.lexsort((places, gather("clusters")))
    start = plan.starts[partition]
    found = {}
    for g in modalities:
        values = gather(f"features.{g}")[sorting]
        found[f"features.{g}"] = arrays.write_rows(run.features(g), start, values)
    found["order"] = arrays.write_rows(run.order, start, places[sorting])
    first = pack_codes(random_codes(seed, gather("rows")[sorting], bits))
    found["codes"] = arrays.write_rows(run.checkpoint(0, "codes"), start, first)
    return {name: np.array([value]) for name, value in found.items()}
