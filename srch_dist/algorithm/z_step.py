"""Z-step, line 6 of Algorithm 1: Z = β B (β I + λ H)⁻¹ (Eq. 14) by conjugate gradients.

H = Σ_g Σ_{(i,j) ∈ ε_g} C_g,ij S_ij² (e_i - e_j)(e_i - e_j)ᵀ (Eq. 13). The paper inverts the matrix;
here each column z of Z solves (β I + λ H) z = β b, where b is the same column of B. With G
modalities, this β is G / 2 times the option ``method.beta``; see `embedding_weight`.

With ``method.embedding_rank`` r, Z is replaced by Z V Vᵀ, where V (l, r) are the leading principal
directions of the codes. Only the coordinates Z V (n, r) are solved, stored and read; see
`srch_dist.kernels.code_basis`. Below, columns are those of Z V; without a rank, V is the identity.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from dask.delayed import Delayed

from srch_dist.algorithm.iteration import Iteration
from srch_dist.algorithm.job import Job
from srch_dist.algorithm.s_step import EdgeReweighting
from srch_dist.algorithm.solver.assembly import make_systems
from srch_dist.algorithm.solver.block_graph import BlockGraph
from srch_dist.algorithm.solver.conjugate_gradients import Sides, solve
from srch_dist.algorithm.solver.preconditioner import build_preconditioner
from srch_dist.config.derived import vector_dtype
from srch_dist.config.options import TrainConfig
from srch_dist.kernels.code_basis import code_coordinates
from srch_dist.kernels.graph.laplacian import SystemRule
from srch_dist.kernels.multigrid.conjugate_gradients import Coefficients
from srch_dist.kernels.types import Array, Matrix
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.storage import arrays
from srch_dist.storage.locations import Location

# Upper bound of the allowed relative residual, whatever the share of changed bits.
_MAX_RESIDUAL = 0.1


@dataclass(frozen=True)
class Embedding:
    """Z on the workers, and its statistics on the client.

    Attributes
    ----------
    path : Z V (n, r) float32 in the checkpoint of its iteration.
    basis : V (l, r); None means the identity.
    groups : for each column group of the S-step, one lazy float32 array (rows, columns) per block.
        The arrays are in memory if Z is one group and the graph is in memory; else each use reads
        them. A lost array is read from the checkpoint, never solved again.
    checksums : crc32 of each stored partition.
    mean : (l,) column means of Z V Vᵀ.
    rms : root mean square of all entries of Z V Vᵀ, after subtracting the column means.
    cg_iterations : number of CG iterations of the slowest column.
    cg_residual : largest relative residual of a column at the end.
    cg_residuals : (cg_iterations + 1,) largest relative residual of a column before each update.
    cg_iteration_seconds : seconds of one CG iteration over all columns: the sum over the column
        groups of (seconds of the solve / number of iterations). Groups that are solved at the same
        time share the seconds equally.
    """

    path: Location
    basis: Matrix | None
    groups: Sequence[Sequence[Delayed]]
    checksums: Sequence[int]
    mean: Matrix
    rms: float
    cg_iterations: int
    cg_residual: float
    cg_residuals: Matrix
    cg_iteration_seconds: float


@dataclass(frozen=True)
class _ColumnMoments:
    """Column sums and sums of squares (columns,) over rows of Z."""

    sums: Matrix
    squares: Matrix

    def __add__(self, other: _ColumnMoments) -> _ColumnMoments:
        return _ColumnMoments(self.sums + other.sums, self.squares + other.squares)


def embedding_weight(job: Job) -> float:
    """Compute β of Eqs. 14 and 17 for G modalities: β G / 2, as Eq. 9 contains Eq. 5 G times."""
    return job.config.method.beta * len(job.modalities) / 2


def allowed_residual(config: TrainConfig, changed: float) -> float:
    """Compute the relative residual at which CG stops: ``method.forcing`` × ``changed``, bounded.

    The next B-step changes the codes B. A residual far below that change does not improve the next
    codes. This is the inexact Newton rule of Eisenstat and Walker, SIAM J. Sci. Comput. 17 (1996).

    Parameters
    ----------
    changed : share of bits that the last B-step changed.

    Returns
    -------
    A value in [``solver.tolerance``, 0.1].
    """
    exact = config.solver.tolerance
    return max(exact, min(_MAX_RESIDUAL, config.method.forcing * changed))


def z_step(
    job: Job,
    graph: BlockGraph,
    iteration: Iteration,
    s: EdgeReweighting | None,
    warm: Embedding | None,
) -> Embedding:
    """Solve (β I + λ H) Z = β B (Eqs. 13 and 14) and store Z in the iteration's checkpoint.

    Columns are solved group by group, and each stored group is committed. A resumed iteration
    solves the missing groups only. Z does not depend on the groups: every column stops by its own
    residual.

    Parameters
    ----------
    iteration : number and tolerance; the codes B are those of the previous iteration.
    s : S of the previous iteration; None means S = 1.
    warm : initial Z if ``solver.warm`` is on; None starts from zero.

    Raises
    ------
    TrainingError : a column is above the tolerance after ``solver.max_iterations``.
    """
    run, plan, number = job.run, job.plan, iteration.number
    path, width = run.checkpoint(number, "z"), job.config.embedding_columns
    if not iteration.resumed:
        arrays.remove(path)
    shape = (plan.rows, width)
    if not arrays.ensure_array(path, shape, plan.partition_rows, np.float32, plan.columns):
        run.forget_column_groups(number)
    solved = run.column_groups(number)
    missing = [
        columns
        for columns in plan.column_groups(width)
        if (columns.start, columns.stop) not in solved
    ]
    if missing:
        before = warm.path if warm and job.config.solver.warm else None
        _solve_groups(job, graph, iteration, s, before, missing)
    return stored_embedding(job, number)


def stored_embedding(job: Job, number: int) -> Embedding:
    """Read the embedding that `z_step` stored in the checkpoint of iteration ``number``."""
    run, plan, width = job.run, job.plan, job.config.embedding_columns
    path = run.checkpoint(number, "z")
    spans = [plan.block_span(b) for b in plan.blocks]
    groups = []
    in_memory = plan.columns >= width and not plan.spilled
    for columns in plan.length_groups(width):
        blocks = [tasks.task(arrays.read_rows, path, *span, columns) for span in spans]
        groups.append(tasks.persist(blocks) if in_memory else blocks)
    solves = run.column_groups(number).values()
    mean = np.concatenate([solve["sums"] for solve in solves]) / plan.rows
    squares = np.concatenate([solve["squares"] for solve in solves])
    variance = float(np.sum(squares / plan.rows - mean**2)) / job.config.loop_bits
    basis = None
    if width < job.config.loop_bits:
        basis = np.concatenate([solve["basis"] for solve in solves], axis=1)
        mean = basis @ mean
    return Embedding(
        path,
        basis,
        groups,
        _checksums(path, plan),
        mean,
        float(np.sqrt(max(variance, 0.0))),
        max(int(solve["iterations"]) for solve in solves),
        float(max(np.max(solve["residual"]) for solve in solves)),
        _largest_residuals([solve["worst"] for solve in solves]),
        float(sum(solve["seconds"] / max(1, solve["iterations"]) for solve in solves)),
    )


def _largest_residuals(residuals: Sequence[Matrix]) -> Matrix:
    """Return the largest residual of all column groups before each CG update.

    ``residuals`` has one array (updates + 1,) per group. A group with fewer updates than another
    counts with its last residual.
    """
    length = max(map(len, residuals))
    padded = [np.pad(group, (0, length - len(group)), mode="edge") for group in residuals]
    return np.asarray(np.max(padded, axis=0))


def _solve_groups(
    job: Job,
    graph: BlockGraph,
    iteration: Iteration,
    s: EdgeReweighting | None,
    before: Location | None,
    groups: Sequence[slice],
) -> None:
    """Solve groups of columns, and commit each group.

    CG starts from the Z stored at ``before``; None starts from zero.
    """
    plan, method, dtype = job.plan, job.config.method, vector_dtype(job.config)
    options = replace(job.config.solver, tolerance=iteration.tolerance)
    beta = embedding_weight(job)
    alpha = np.inf if s is None else s.alpha
    lengths: Sequence[Any] = s.distances if s else [None] * len(plan.blocks)
    systems = make_systems(graph, lengths, alpha, SystemRule(beta, method.lam, dtype, method.drop))
    preconditioner = build_preconditioner(graph, systems, beta, options)
    codes = job.run.checkpoint(iteration.number - 1, "codes")
    for first in range(0, len(groups), plan.groups_at_once):
        wave = groups[first : first + plan.groups_at_once]
        sides = [
            _sides(plan, columns, codes, iteration.basis, before, beta, dtype) for columns in wave
        ]
        started = time.perf_counter()
        # Pass the solution on without a name: a reference would keep it on the workers during the
        # next solve.
        _store_wave(
            job,
            iteration,
            wave,
            solve(graph, systems, preconditioner, sides, options),
            started,
        )
    graph.discard("system")


def _store_wave(
    job: Job,
    iteration: Iteration,
    wave: Sequence[slice],
    solved: Sequence[tuple[list[Delayed], Coefficients]],
    started: float,
) -> None:
    """Store and commit the column groups ``wave``, which were solved together.

    ``started`` is the value of `time.perf_counter` before the solve.
    """
    seconds = (time.perf_counter() - started) / len(wave)
    for columns, (solution, last) in zip(wave, solved, strict=True):
        basis = iteration.basis
        record = {
            **vars(_store_columns(job, iteration.number, columns, solution)),
            "iterations": np.array(last.iterations),
            "residual": last.residual,
            "worst": np.array(last.worst),
            "seconds": np.array(seconds),
            **({} if basis is None else {"basis": basis[:, columns]}),
        }
        job.run.commit_column_group(iteration.number, columns, record)


def _sides(
    plan: Plan,
    columns: slice,
    codes: Location,
    basis: Matrix | None,
    before: Location | None,
    beta: float,
    dtype: np.dtype[Any],
) -> Sides:
    """Return two lists, each with one call per block: the first reads β B V, the second Z V.

    A call is (function, *arguments). It returns an array (rows, columns) for the column group
    ``columns``.
    """
    spans = [plan.block_span(b) for b in plan.blocks]
    return (
        [(_right_side, codes, span, basis, columns, beta, dtype) for span in spans],
        [(_initial_guess, before, span, columns, dtype) for span in spans],
    )


def _right_side(
    codes: Location,
    span: tuple[int, int],
    basis: Matrix | None,
    columns: slice,
    beta: float,
    dtype: np.dtype[Any],
) -> Array:
    side = code_coordinates(arrays.read_rows(codes, *span), basis, columns, dtype)
    side *= dtype.type(beta)
    return side


def _initial_guess(
    before: Location | None, span: tuple[int, int], columns: slice, dtype: np.dtype[Any]
) -> Array:
    if before is None:
        return np.zeros((span[1] - span[0], columns.stop - columns.start), dtype=dtype)
    return arrays.read_rows(before, *span, columns).astype(dtype, copy=False)


def _as_stored(values: Array) -> Array:
    """Round to float32, the precision that later steps and a resumed run read."""
    return values.astype(np.float32)


def _store_columns(
    job: Job, number: int, columns: slice, solution: Sequence[Delayed]
) -> _ColumnMoments:
    path, plan = job.run.checkpoint(number, "z"), job.plan
    parts = []
    for b, values in zip(plan.blocks, solution, strict=True):
        spans = [plan.span(p) for p in plan.block_partitions(b)]
        parts.append(tasks.task(_store_block, path, spans, columns, tasks.task(_as_stored, values)))
    moments: _ColumnMoments = tasks.run_one(tasks.add_up(parts))
    return moments


def _store_block(
    path: Location, spans: Sequence[tuple[int, int]], columns: slice, values: Array
) -> _ColumnMoments:
    """Write ``values`` (rows, columns) of one block to ``columns`` of the array Z at ``path``.

    ``spans`` are the row ranges (first, end) of the block's partitions. Returns the moments of the
    columns.
    """
    sums, squares = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for low, high in spans:
        part = values[low - spans[0][0] : high - spans[0][0]]
        arrays.write_rows(path, low, part, columns)
        wide = part.astype(np.float64)
        sums += wide.sum(axis=0)
        squares += np.einsum("ij,ij->j", wide, wide)
    return _ColumnMoments(sums, squares)


def _checksums(path: Location, plan: Plan) -> list[int]:
    return tasks.run_all(
        [tasks.task(_stored_checksum, path, *plan.span(p)) for p in plan.partitions]
    )


def _stored_checksum(path: Location, start: int, stop: int) -> int:
    return arrays.checksum(arrays.read_rows(path, start, stop))
