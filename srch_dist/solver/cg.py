"""Preconditioned conjugate gradients over blocks: several iterations in one task graph.

An iteration is four tasks a block (update and precondition, pick what others need, multiply,
sum) and one for all, in four layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist import execution
from srch_dist.config import SolverConfig
from srch_dist.errors import TrainingError
from srch_dist.kernels import gradients as kernels
from srch_dist.kernels.cascade import Cascade, SharedSpace
from srch_dist.kernels.gradients import Coefficients, Parts, SharedSums, Vectors
from srch_dist.kernels.laplacian import SystemBlock
from srch_dist.kernels.sizes import Sized
from srch_dist.solver.blocks import BlockGraph
from srch_dist.solver.coarse import Preconditioner

Array = NDArray[Any]


@dataclass(frozen=True)
class _Step(Sized):
    """A block's vectors and its preconditioned residual u (rows, l)."""

    vectors: Vectors
    u: Array


@dataclass(frozen=True)
class _Scalars(Sized):
    """What the blocks need of each other at an iteration, beyond the rows of their halos."""

    coefficients: Coefficients
    sums: SharedSums


def solve(
    graph: BlockGraph,
    systems: Sequence[Delayed],
    preconditioner: Preconditioner,
    right: Sequence[Delayed],
    start: Sequence[Delayed],
    options: SolverConfig,
) -> tuple[list[Delayed], Coefficients]:
    """Solve (βI + λH) Z = βB (Eq. 14) for all columns.

    Parameters
    ----------
    systems : a `SystemBlock` a block. preconditioner : of those systems.
    right : β B and start : the first Z, (rows, l) a block.

    Returns
    -------
    The solution, (rows, l) a block on the workers, and the last coefficients: residual by
    column and the number of iterations.

    Raises
    ------
    TrainingError : a column is not below the tolerance after ``options.max_iterations``.
    """
    if len(systems) == 1:
        whole = execution.task_pair(
            kernels.solve_whole,
            systems[0],
            preconditioner.cascades[0],
            preconditioner.space,
            right[0],
            start[0],
            options.tolerance,
            options.max_iterations,
        )
        x, last = execution.keep(whole)
        coefficients = execution.run_one(last)
        solution = [x]
    else:
        solution, coefficients = _solve_blocks(
            graph, systems, preconditioner, right, start, options
        )
    if not np.isfinite(coefficients.residual).all():
        raise TrainingError(
            "the Z-step does not stay finite; bring method.lam and method.beta closer together"
        )
    if coefficients.active.any():
        worst = float(np.max(coefficients.residual))
        raise TrainingError(
            f"the Z-step stands at a relative residual of {worst:.1e} after "
            f"{coefficients.iterations} iterations, above solver.tolerance "
            f"{options.tolerance:.1e}; raise solver.max_iterations, or lower method.lam / "
            "method.beta"
        )
    return solution, coefficients


def _solve_blocks(
    graph: BlockGraph,
    systems: Sequence[Delayed],
    preconditioner: Preconditioner,
    right: Sequence[Delayed],
    start: Sequence[Delayed],
    options: SolverConfig,
) -> tuple[list[Delayed], Coefficients]:
    cascades, space = preconditioner.cascades, preconditioner.space
    vectors = _each(kernels.begin, systems, right, start, graph.exchange(start))
    restricted = execution.add_up(_each(_restrict_residual, cascades, vectors))
    sums = execution.task(kernels.first_sums, space, restricted)
    steps = _each(_first_step, cascades, vectors, [sums] * len(cascades))
    products = _products(graph, systems, steps, None)
    parts = _each(_block_parts, cascades, steps, products)
    norms = _each(kernels.squared_norms, right)
    current = execution.task(_first, options.tolerance, space, sums, *parts, *norms)
    done = 0
    while True:
        for _ in range(min(options.fused, options.max_iterations - done)):
            steps = [
                execution.task(_step, *block, current)
                for block in zip(cascades, steps, products, strict=True)
            ]
            products = _products(graph, systems, steps, current)
            parts = _each(_block_parts, cascades, steps, products)
            current = execution.task(_next, options.tolerance, space, current, *parts)
        kept = execution.keep([*steps, *products, current])
        blocks = len(systems)
        steps, products, current = kept[:blocks], kept[blocks:-1], kept[-1]
        seen: Coefficients = execution.run_one(execution.task(_coefficients, current))
        if not seen.active.any() or seen.iterations >= options.max_iterations:
            return execution.keep(_each(_solution, steps)), seen
        done = seen.iterations


def _products(
    graph: BlockGraph,
    systems: Sequence[Delayed],
    steps: Sequence[Delayed],
    current: Delayed | None,
) -> list[Delayed]:
    """The matrix times u, block by block."""
    return [
        execution.task(_product, system, step, current, *graph.incoming(steps, taker, _pick))
        for taker, (system, step) in enumerate(zip(systems, steps, strict=True))
    ]


def _each(function: Any, *columns: Sequence[Delayed]) -> list[Delayed]:
    return [execution.task(function, *row) for row in zip(*columns, strict=True)]


def _restrict_residual(cascade: Cascade, vectors: Vectors) -> Array:
    return cascade.restrict(vectors.r)


def _first_step(cascade: Cascade, vectors: Vectors, sums: SharedSums) -> _Step:
    return _Step(vectors, cascade.precondition(vectors.r, sums.correction))


def _first(tolerance: float, space: SharedSpace, sums: SharedSums, *parts: Any) -> _Scalars:
    """The first scalars, from the `Parts` of the blocks, then their squared norms."""
    blocks = len(parts) // 2
    total, squared = _total(parts[:blocks]), np.sum(parts[blocks:], axis=0)
    coefficients = kernels.first_coefficients(total.dots, squared, tolerance)
    return _Scalars(coefficients, kernels.next_sums(space, sums, total.shared, coefficients))


def _next(tolerance: float, space: SharedSpace, previous: _Scalars, *parts: Parts) -> _Scalars:
    if not previous.coefficients.active.any():
        return previous
    total = _total(parts)
    coefficients = kernels.next_coefficients(total.dots, previous.coefficients, tolerance)
    sums = kernels.next_sums(space, previous.sums, total.shared, coefficients)
    return _Scalars(coefficients, sums)


def _total(parts: Any) -> Parts:
    total: Parts = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _step(cascade: Cascade, step: _Step, product: Array, current: _Scalars) -> _Step:
    if not current.coefficients.active.any():
        return step
    vectors = kernels.advance(step.vectors, step.u, product, current.coefficients)
    return _Step(vectors, cascade.precondition(vectors.r, current.sums.correction))


def _pick(step: _Step, rows: Array) -> Array:
    picked: Array = step.u[rows]
    return picked


def _product(system: SystemBlock, step: _Step, current: _Scalars | None, *halo: Array) -> Array:
    # Once every column is frozen the coefficients no longer change, whatever the product is.
    if current is not None and not current.coefficients.active.any():
        return step.u
    return system.apply(step.u, *halo)


def _block_parts(cascade: Cascade, step: _Step, product: Array) -> Parts:
    return kernels.block_parts(cascade, step.vectors, step.u, product)


def _coefficients(scalars: _Scalars) -> Coefficients:
    return scalars.coefficients


def _solution(step: _Step) -> Array:
    return step.vectors.x
