"""Row order of training: sort rows by coarse cluster, so that neighbours are near each other.

This is an out-of-core shuffle in two passes. First, each partition of the store writes its rows
sorted by cluster to a scratch file (spill). Then each partition of the training order reads its
rows, which are consecutive in every scratch file (gather).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.algorithm.job import Job
from srch_dist.kernels.clusters import PROJECTED, gaussian_projection, slice_bounds
from srch_dist.kernels.packed_codes import pack_codes, random_codes
from srch_dist.kernels.types import Matrix
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.resumable import Work
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.scratch import each_spill, gather_spill, write_spill


def create_codes(run: RunDirectory, plan: Plan, bits: int, number: int) -> None:
    """Create the empty array of packed codes (n, bits / 8) of iteration ``number``."""
    path = run.checkpoint(number, "codes")
    arrays.ensure_array(path, (plan.rows, bits // 8), plan.partition_rows, np.uint8)


def joint_points(blocks: Mapping[str, NDArray[np.floating]], seed: int) -> Matrix:
    """Concatenate the features (n, d_g) of all modalities, and project them randomly to (n, w)."""
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
    """Write the rows of one partition of the store to scratch files, sorted by cluster.

    Parameters
    ----------
    first : position of the partition's first row in ``run.rows``.
    rows : (n,) row numbers in the store.
    clusters : (n,) cluster of each row.
    blocks : normalised features (n, d_g) by modality.
    """
    sorting = np.argsort(clusters, kind="stable")
    columns = {"places": first + sorting, "rows": rows[sorting], "clusters": clusters[sorting]}
    features = {f"features.{g}": block[sorting] for g, block in blocks.items()}
    write_spill(run.scratch("order", partition), {**columns, **features})


def gather_units(job: Job, dims: Mapping[str, int], clusters: int) -> list[Work]:
    """Create one `Work` per partition, to write the partition in training order.

    A `Work` writes the features, the row order and the first codes of one partition.

    Parameters
    ----------
    dims : number of dimensions d_g, by modality.
    clusters : number of clusters; the spilled rows are sorted by cluster.
    """
    run, plan, config = job.run, job.plan, job.config
    create_codes(run, plan, config.loop_bits, 0)
    arrays.ensure_array(run.order, (plan.rows,), plan.partition_rows, np.int64)
    for g, width in dims.items():
        arrays.ensure_array(run.features(g), (plan.rows, width), plan.partition_rows, plan.dtype)
    modalities = tuple(dims)
    if run.scratch("order").exists():  # removed when every unit is finished
        tasks.run_one(tasks.task(_write_bounds, run, plan, clusters))
    return [
        (_gather_partition, run, modalities, plan, p, config.seed, config.loop_bits)
        for p in plan.partitions
    ]


def _write_bounds(run: RunDirectory, plan: Plan, clusters: int) -> None:
    """Record in each scratch file the row at which each partition of the training order starts."""

    def cluster_counts() -> Iterator[NDArray[np.int64]]:
        folders = [run.scratch("order", p) for p in plan.partitions]
        spans = [(0, high - low) for low, high in map(plan.span, plan.partitions)]
        for spilled in each_spill(folders, "clusters", spans):
            yield np.bincount(spilled, minlength=clusters)

    sizes = np.zeros(clusters, dtype=np.int64)
    for counts in cluster_counts():
        sizes += counts
    bounds = slice_bounds(cluster_counts(), sizes, np.array(plan.starts))
    for p, file_bounds in zip(plan.partitions, bounds, strict=True):
        write_spill(run.scratch("order", p), {"bounds": file_bounds})


def _gather_partition(
    run: RunDirectory,
    modalities: tuple[str, ...],
    plan: Plan,
    partition: int,
    seed: int,
    bits: int,
) -> dict[str, NDArray[Any]]:
    """Write one partition of the features, the row order and the first codes, in training order.

    Returns the crc32 (1,) of each written part, by name: "features.MODALITY", "order" or "codes".
    """
    folders = [run.scratch("order", p) for p in plan.partitions]
    bounds = each_spill(folders, "bounds", [(partition, partition + 2)] * len(folders))
    spans = [part.tolist() for part in bounds]

    def gather(name: str) -> NDArray[Any]:
        return gather_spill(folders, name, spans)

    places = gather("places")
    sorting = np.lexsort((places, gather("clusters")))
    start = plan.starts[partition]
    checksums = {}
    for g in modalities:
        values = gather(f"features.{g}")[sorting]
        checksums[f"features.{g}"] = arrays.write_rows(run.features(g), start, values)
    checksums["order"] = arrays.write_rows(run.order, start, places[sorting])
    codes = pack_codes(random_codes(seed, gather("rows")[sorting], bits))
    checksums["codes"] = arrays.write_rows(run.checkpoint(0, "codes"), start, codes)
    return {name: np.array([checksum]) for name, checksum in checksums.items()}
