"""The B-step as a Dask graph: the only pass over X of an iteration, reading ahead of its work.

Passes after the loop read their tiles here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.algorithm.features.normalise import create_codes
from srch_dist.kernels.code_update import CodeRule, CodeSums, update_codes
from srch_dist.kernels.rbf import TILE
from srch_dist.plan.planner import Plan
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory

Array = NDArray[Any]
# Of rows from a first one up to a last.
Reader = Callable[[int, int], Array]


def load_features(run: RunDirectory, plan: Plan, modalities: tuple[str, ...]) -> list[Delayed]:
    """Every partition's features on the workers, read again where a worker is lost."""
    return tasks.keep(
        [tasks.task(_read_features, run, modalities, plan.span(p)) for p in plan.partitions]
    )


def b_step(
    run: RunDirectory,
    plan: Plan,
    modalities: tuple[str, ...],
    rule: CodeRule,
    iteration: int,
    features: Sequence[Delayed] | None = None,
) -> tuple[CodeSums, list[int]]:
    """B by Eq. 17, with all sums over X that the next iteration needs: the only pass over X.

    Writes the codes of the iteration's checkpoint; returns the sums and each partition's crc32.
    ``features`` are those of `load_features`; without them they are read from the run.
    """
    bits = len(rule.z_mean)
    arrays.remove(run.checkpoint(iteration, "codes"))
    create_codes(run, plan, bits, iteration)
    shared = tasks.literal(rule)
    if features is None:
        parts = [
            tasks.task_pair(
                _update_stored, run, modalities, [plan.span(p) for p in some], shared, iteration
            )
            for some in plan.passes
        ]
    else:
        parts = [
            tasks.task_pair(_update_kept, run, features[p], plan.span(p), shared, iteration)
            for p in plan.partitions
        ]
    total = tasks.add_up([sums for sums, _ in parts])
    results = tasks.run_all([total, *(checksums for _, checksums in parts)])
    return results[0], [checksum for some in results[1:] for checksum in some]


def read_tiles(
    run: RunDirectory, modalities: tuple[str, ...], span: tuple[int, int], partition_rows: int
) -> Iterator[tuple[int, dict[str, Array]]]:
    """Features of rows by modality with the number of their first row, reading ahead.

    Whole tiles at a time, about as many rows as a partition has.
    """
    step = -(-partition_rows // TILE) * TILE
    parts = [(low, min(low + step, span[1])) for low in range(span[0], span[1], step)]

    def read(part: tuple[int, int]) -> tuple[int, dict[str, Array]]:
        return part[0], _read_features(run, modalities, part)

    return tasks.read_ahead(read, parts)


def _read_features(
    run: RunDirectory, modalities: tuple[str, ...], span: tuple[int, int]
) -> dict[str, Array]:
    return {g: arrays.read_rows(run.features(g), *span) for g in modalities}


def _update_stored(
    run: RunDirectory,
    modalities: tuple[str, ...],
    spans: list[tuple[int, int]],
    rule: CodeRule,
    iteration: int,
) -> tuple[CodeSums, list[int]]:
    """The B-step on consecutive partitions; each is read while the one before is worked on."""
    features = {g: arrays.reader(run.features(g)) for g in modalities}
    z, before = _code_readers(run, iteration)

    def read(span: tuple[int, int]) -> tuple[dict[str, Array], Array, Array]:
        return {g: rows(*span) for g, rows in features.items()}, z(*span), before(*span)

    found = [
        _update_partition(run, span, rule, iteration, *inputs)
        for span, inputs in zip(spans, tasks.read_ahead(read, spans), strict=True)
    ]
    total = found[0][0]
    for sums, _ in found[1:]:
        total = total + sums
    return total, [checksum for _, checksum in found]


def _update_kept(
    run: RunDirectory,
    features: dict[str, Array],
    span: tuple[int, int],
    rule: CodeRule,
    iteration: int,
) -> tuple[CodeSums, list[int]]:
    """The B-step on one partition whose features are in memory."""
    z, before = (rows(*span) for rows in _code_readers(run, iteration))
    sums, checksum = _update_partition(run, span, rule, iteration, features, z, before)
    return sums, [checksum]


def _code_readers(run: RunDirectory, iteration: int) -> tuple[Reader, Reader]:
    """Those of Z (rows, l) of an iteration and of the packed codes (rows, l / 8) before it."""
    z, before = run.checkpoint(iteration, "z"), run.checkpoint(iteration - 1, "codes")
    return arrays.reader(z), arrays.reader(before)


def _update_partition(
    run: RunDirectory,
    span: tuple[int, int],
    rule: CodeRule,
    iteration: int,
    features: dict[str, Array],
    z: Array,
    before: Array,
) -> tuple[CodeSums, int]:
    codes, sums = update_codes(rule, features, z, before)
    return sums, arrays.write_rows(run.checkpoint(iteration, "codes"), span[0], codes)
