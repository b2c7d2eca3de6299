"""The Z-step of Algorithm 1 as Dask graphs: the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist import execution
from srch_dist.config import TrainConfig
from srch_dist.kernels.bits import unpack_codes
from srch_dist.kernels.laplacian import SystemRule
from srch_dist.planning import Plan
from srch_dist.rebasing import Rebased
from srch_dist.sizes import vector_dtype
from srch_dist.solver.blocks import BlockGraph
from srch_dist.solver.cg import solve
from srch_dist.solver.coarse import build_preconditioner
from srch_dist.solver.systems import make_system
from srch_dist.storage import arrays
from srch_dist.storage.run import RunDirectory

Array = NDArray[Any]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Embedding:
    """Z on the workers and what the client knows of it.

    Attributes
    ----------
    groups : for each group of columns, float32 (rows, columns) a block. With one group and the
        graph in memory they stay there; else they are read from the checkpoint where they are used.
    checksums : crc32 of each partition as stored.
    mean : (l,) over all rows. rms : of the entries about their column's mean.
    cg_iterations, cg_residual : of the slowest column.
    """

    groups: Sequence[Sequence[Delayed]]
    checksums: Sequence[int]
    mean: Matrix
    rms: float
    cg_iterations: int
    cg_residual: float


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


def z_step(
    graph: BlockGraph,
    run: RunDirectory,
    rebased: Rebased | None,
    warm: Embedding | None,
    iteration: int,
    config: TrainConfig,
    modalities: int,
) -> Embedding:
    """Z = β B (βI + λH)⁻¹ (Eq. 14) by conjugate gradients, stored in the iteration's checkpoint.

    ``rebased`` None is S = 1; ``warm`` None starts from zero. B is that of the iteration before.
    Columns are solved group by group; each is frozen on its own account, so groups change nothing.
    """
    plan, bits = graph.plan, config.loop_bits
    dtype = vector_dtype(config)
    beta = embedding_weight(config, modalities)
    systems = _make_systems(graph, rebased, beta, config)
    preconditioner = build_preconditioner(graph, systems, beta, config.solver)
    path = run.checkpoint(iteration, "z")
    arrays.remove(path)
    arrays.create_array(
        path, (plan.rows, bits), plan.partition_rows, np.float32, chunk_columns=plan.columns
    )
    groups, stored, ends = [], [], []
    for number, columns in enumerate(plan.column_groups(bits)):
        right, start = [], []
        for b in plan.blocks:
            span = plan.block_span(b)
            side = execution.task(_right_side, run, iteration - 1, span, columns, beta, dtype)
            first = side if warm is None else warm.groups[number][b]
            right.append(side)
            start.append(execution.task(_start, first, warm is None, dtype))
        solution, last = solve(graph, systems, preconditioner, right, start, config.solver)
        ends.append(last)
        blocks, sums = _store_columns(run, iteration, plan, columns, solution, bits)
        groups.append(blocks)
        stored.append(sums)
    graph.discard("system")
    mean = np.concatenate([part.sums for part in stored]) / plan.rows
    squares = np.concatenate([part.squares for part in stored])
    variance = float(np.mean(squares / plan.rows - mean**2))
    return Embedding(
        groups,
        _checksums(run, iteration, plan),
        mean,
        float(np.sqrt(max(variance, 0.0))),
        max(last.iterations for last in ends),
        float(max(np.max(last.residual) for last in ends)),
    )


def _make_systems(
    graph: BlockGraph, rebased: Rebased | None, beta: float, config: TrainConfig
) -> list[Delayed]:
    """βI + λH of each block, in the folder "system" where the graph is on disk."""
    plan, folder = graph.plan, graph.scratch("system")
    alpha = np.inf if rebased is None else rebased.alpha
    lengths: Sequence[Any] = rebased.distances if rebased else [None] * len(plan.blocks)
    method = config.method
    rule = SystemRule(beta, method.lam, vector_dtype(config), method.drop)
    return execution.keep(
        [
            execution.task(
                make_system,
                graph.blocks[b],
                lengths[b],
                alpha,
                rule,
                folder and folder / f"{b:06d}",
            )
            for b in plan.blocks
        ]
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


def _start(values: Array, cold: bool, dtype: np.dtype[Any]) -> Array:
    start: Array = np.zeros_like(values) if cold else values.astype(dtype)
    return start


def _as_stored(values: Array) -> Array:
    """As float32, as every later step and a resumed run sees it."""
    return values.astype(np.float32)


def _store_columns(
    run: RunDirectory,
    iteration: int,
    plan: Plan,
    columns: slice,
    solution: Sequence[Delayed],
    bits: int,
) -> tuple[list[Delayed], _StoredPart]:
    """Store a group of columns; see `Embedding` for what is returned with their sums."""
    blocks = execution.keep([execution.task(_as_stored, x) for x in solution])
    parts = [
        execution.task(_store_block, run, iteration, plan, b, columns, blocks[b])
        for b in plan.blocks
    ]
    sums: _StoredPart = execution.run_one(execution.add_up(parts))
    # Whatever is computed again has to do without the files of this step.
    if columns != slice(0, bits) or plan.spilled:
        path = run.checkpoint(iteration, "z")
        spans = [plan.block_span(b) for b in plan.blocks]
        blocks = [execution.task(arrays.read_rows, path, *span, columns) for span in spans]
    return blocks, sums


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
    return execution.run_all(
        [execution.task(_stored_checksum, path, *plan.span(p)) for p in plan.partitions]
    )


def _stored_checksum(path: Path, start: int, stop: int) -> int:
    return arrays.checksum(arrays.read_rows(path, start, stop))
