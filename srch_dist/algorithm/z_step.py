"""The Z-step of Algorithm 1 as Dask graphs: the embedding."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dask.delayed import Delayed

from srch_dist.algorithm.s_step import EdgeReweighting
from srch_dist.algorithm.solver.assembly import make_systems
from srch_dist.algorithm.solver.block_graph import BlockGraph
from srch_dist.algorithm.solver.conjugate_gradients import Sides, solve
from srch_dist.algorithm.solver.preconditioner import build_preconditioner
from srch_dist.config.derived import vector_dtype
from srch_dist.config.options import TrainConfig
from srch_dist.kernels.graph.laplacian import SystemRule
from srch_dist.kernels.multigrid.conjugate_gradients import Coefficients
from srch_dist.kernels.packed_codes import unpack_codes
from srch_dist.kernels.types import Array, Matrix
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory

# Residual that is never allowed to be larger, however many bits change.
_LOOSEST = 0.1


@dataclass(frozen=True)
class Embedding:
    """Z on the workers and what the client knows of it.

    Attributes
    ----------
    path : of the checkpoint that holds it.
    groups : for each group of columns of the S-step, float32 (rows, columns) a block. Solved as
        one, with the graph in memory, they are too; else they are read from the checkpoint where
        they are used. What is lost with a worker is read again, not solved again from checkpoints
        that are gone.
    checksums : crc32 of each partition as stored.
    mean : (l,) over all rows. rms : of the entries about their column's mean.
    cg_iterations, cg_residual : of the slowest column.
    cg_residuals : the largest relative residual of a column before each update.
    cg_iteration_seconds : of an iteration over all columns: for each group, its solve's seconds
        over its iterations, added up. Groups that are solved at once share their seconds.
    """

    path: Path
    groups: Sequence[Sequence[Delayed]]
    checksums: Sequence[int]
    mean: Matrix
    rms: float
    cg_iterations: int
    cg_residual: float
    cg_residuals: Matrix
    cg_iteration_seconds: float


@dataclass(frozen=True)
class _StoredPart:
    """Column sums and sums of squares (columns,) of rows of Z."""

    sums: Matrix
    squares: Matrix

    def __add__(self, other: _StoredPart) -> _StoredPart:
        return _StoredPart(self.sums + other.sums, self.squares + other.squares)


def embedding_weight(config: TrainConfig, modalities: int) -> float:
    """β of Eqs. 14 and 17 for G modalities: Eq. 9 holds G copies of Eq. 5, hence G β / 2."""
    return config.method.beta * modalities / 2


def allowed_residual(config: TrainConfig, changed: float) -> float:
    """Relative residual at which Z is good enough where the last B-step ``changed`` so many bits.

    Z is solved for codes that are about to change themselves: a residual far below that change
    says nothing about the next ones (an inexact step, as of Eisenstat and Walker, SIAM J. Sci.
    Comput. 1996). The fewer bits change, the further Z is solved, to ``solver.tolerance`` at most.
    """
    exact = config.solver.tolerance
    return max(exact, min(_LOOSEST, config.method.forcing * changed))


def z_step(
    graph: BlockGraph,
    run: RunDirectory,
    rebased: EdgeReweighting | None,
    warm: Embedding | None,
    iteration: int,
    config: TrainConfig,
    modalities: int,
    resumed: bool = False,
) -> Embedding:
    """Z = β B (βI + λH)⁻¹ (Eq. 14) by conjugate gradients, stored in the iteration's checkpoint.

    ``rebased`` None is S = 1; ``warm`` None starts from zero. B is that of the iteration before.
    Columns are solved group by group; each is frozen on its own account, so groups change nothing.
    A group is committed once it is stored, and not solved again where the iteration is ``resumed``.
    """
    plan, bits = graph.plan, config.loop_bits
    path = run.checkpoint(iteration, "z")
    if not resumed:
        arrays.remove(path)
    shape = (plan.rows, bits)
    if not arrays.ensure_array(path, shape, plan.partition_rows, np.float32, plan.columns):
        run.forget_column_groups(iteration)
    solved = run.column_groups(iteration)
    missing = [
        number
        for number, columns in enumerate(plan.column_groups(bits))
        if (columns.start, columns.stop) not in solved
    ]
    if missing:
        warm = warm if config.solver.warm else None
        _solve_groups(graph, run, rebased, warm, iteration, config, modalities, missing)
    return stored_embedding(run, plan, iteration, bits)


def stored_embedding(run: RunDirectory, plan: Plan, iteration: int, bits: int) -> Embedding:
    """The embedding of ``bits`` columns that `z_step` has stored in an iteration's checkpoint."""
    path = run.checkpoint(iteration, "z")
    spans = [plan.block_span(b) for b in plan.blocks]
    groups = []
    in_memory = plan.columns >= bits and not plan.spilled
    for columns in plan.length_groups(bits):
        blocks = [tasks.task(arrays.read_rows, path, *span, columns) for span in spans]
        groups.append(tasks.persist(blocks) if in_memory else blocks)
    ends = run.column_groups(iteration).values()
    mean = np.concatenate([end["sums"] for end in ends]) / plan.rows
    squares = np.concatenate([end["squares"] for end in ends])
    variance = float(np.mean(squares / plan.rows - mean**2))
    return Embedding(
        path,
        groups,
        _checksums(run, iteration, plan),
        mean,
        float(np.sqrt(max(variance, 0.0))),
        max(int(end["iterations"]) for end in ends),
        float(max(np.max(end["residual"]) for end in ends)),
        _largest([end["worst"] for end in ends]),
        float(sum(end["seconds"] / max(1, end["iterations"]) for end in ends)),
    )


def _largest(residuals: Sequence[Matrix]) -> Matrix:
    """The largest of the groups at each iteration; a group that is done stays at its last one."""
    length = max(map(len, residuals))
    padded = [np.pad(one, (0, length - len(one)), mode="edge") for one in residuals]
    return np.asarray(np.max(padded, axis=0))


def _solve_groups(
    graph: BlockGraph,
    run: RunDirectory,
    rebased: EdgeReweighting | None,
    warm: Embedding | None,
    iteration: int,
    config: TrainConfig,
    modalities: int,
    missing: Sequence[int],
) -> None:
    """Solve and commit the groups of columns with the numbers ``missing``."""
    plan, bits = graph.plan, config.loop_bits
    dtype = vector_dtype(config)
    beta = embedding_weight(config, modalities)
    method = config.method
    alpha = np.inf if rebased is None else rebased.alpha
    lengths: Sequence[Any] = rebased.distances if rebased else [None] * len(plan.blocks)
    systems = make_systems(graph, lengths, alpha, SystemRule(beta, method.lam, dtype, method.drop))
    preconditioner = build_preconditioner(graph, systems, beta, config.solver)
    columns = plan.column_groups(bits)
    before = warm.path if warm else None
    for first in range(0, len(missing), plan.groups_at_once):
        wave = [columns[number] for number in missing[first : first + plan.groups_at_once]]
        sides = [_sides(plan, run, group, before, iteration, beta, dtype) for group in wave]
        started = time.perf_counter()
        # Not named here: the workers would hold it until the next is there.
        _store_wave(
            run,
            iteration,
            plan,
            wave,
            solve(graph, systems, preconditioner, sides, config.solver),
            started,
        )
    graph.discard("system")


def _store_wave(
    run: RunDirectory,
    iteration: int,
    plan: Plan,
    wave: Sequence[slice],
    solved: Sequence[tuple[list[Delayed], Coefficients]],
    started: float,
) -> None:
    """Store and commit groups of columns whose solves ``started`` then and are done now."""
    seconds = (time.perf_counter() - started) / len(wave)
    for columns, (solution, last) in zip(wave, solved, strict=True):
        sums = _store_columns(run, iteration, plan, columns, solution)
        found = {
            **vars(sums),
            "iterations": np.array(last.iterations),
            "residual": last.residual,
            "worst": np.array(last.worst),
            "seconds": np.array(seconds),
        }
        run.commit_column_group(iteration, columns, found)


def _sides(
    plan: Plan,
    run: RunDirectory,
    columns: slice,
    before: Path | None,
    iteration: int,
    beta: float,
    dtype: np.dtype[Any],
) -> Sides:
    """β B and the first Z of a group of columns; ``before`` is where the last Z is stored."""
    spans = [plan.block_span(b) for b in plan.blocks]
    return (
        [(_right_side, run, iteration - 1, span, columns, beta, dtype) for span in spans],
        [(_start, before, span, columns, dtype) for span in spans],
    )


def _right_side(
    run: RunDirectory,
    iteration: int,
    span: tuple[int, int],
    columns: slice,
    beta: float,
    dtype: np.dtype[Any],
) -> Array:
    codes = unpack_codes(arrays.read_rows(run.checkpoint(iteration, "codes"), *span))
    side: Array = codes[:, columns].astype(dtype) * dtype.type(beta)
    return side


def _start(
    before: Path | None, span: tuple[int, int], columns: slice, dtype: np.dtype[Any]
) -> Array:
    if before is None:
        return np.zeros((span[1] - span[0], columns.stop - columns.start), dtype=dtype)
    return arrays.read_rows(before, *span, columns).astype(dtype, copy=False)


def _as_stored(values: Array) -> Array:
    """As float32, as every later step and a resumed run sees it."""
    return values.astype(np.float32)


def _store_columns(
    run: RunDirectory,
    iteration: int,
    plan: Plan,
    columns: slice,
    solution: Sequence[Delayed],
) -> _StoredPart:
    """Store a group of columns; returns their sums."""
    parts = [
        tasks.task(_store_block, run, iteration, plan, b, columns, tasks.task(_as_stored, x))
        for b, x in zip(plan.blocks, solution, strict=True)
    ]
    sums: _StoredPart = tasks.run_one(tasks.add_up(parts))
    return sums


def _store_block(
    run: RunDirectory, iteration: int, plan: Plan, block: int, columns: slice, values: Array
) -> _StoredPart:
    start = plan.block_span(block)[0]
    path = run.checkpoint(iteration, "z")
    sums, squares = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for p in plan.block_partitions(block):
        low, high = plan.span(p)
        part = values[low - start : high - start]
        arrays.write_rows(path, low, part, columns)
        wide = part.astype(np.float64)
        sums += wide.sum(axis=0)
        squares += np.einsum("ij,ij->j", wide, wide)
    return _StoredPart(sums, squares)


def _checksums(run: RunDirectory, iteration: int, plan: Plan) -> list[int]:
    path = run.checkpoint(iteration, "z")
    return tasks.run_all(
        [tasks.task(_stored_checksum, path, *plan.span(p)) for p in plan.partitions]
    )


def _stored_checksum(path: Path, start: int, stop: int) -> int:
    return arrays.checksum(arrays.read_rows(path, start, stop))
