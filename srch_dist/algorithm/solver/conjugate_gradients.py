"""Preconditioned conjugate gradients over row blocks, several iterations in one task graph.

The method is single-reduction CG; the kernels are in `srch_dist.kernels.multigrid`. An iteration
has five tasks per block (receive scalars, update and precondition, pick halo rows, multiply, sum)
and one task for all blocks. That task holds a vector that the blocks share. An entry of this vector
is a slot; each block sends and receives only the slots that it contributes to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from dask.delayed import Delayed

from srch_dist.algorithm.solver.block_graph import BlockGraph
from srch_dist.algorithm.solver.preconditioner import Preconditioner
from srch_dist.config.options import SolverConfig
from srch_dist.errors import TrainingError
from srch_dist.kernels.graph.laplacian import SystemBlock
from srch_dist.kernels.multigrid import conjugate_gradients as kernels
from srch_dist.kernels.multigrid.conjugate_gradients import (
    BlockSums,
    Coefficients,
    SharedSums,
    Vectors,
)
from srch_dist.kernels.multigrid.preconditioner import MultilevelPreconditioner, SharedCoarseSpace
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import Array
from srch_dist.runtime import tasks

# A function and its arguments.
Call = tuple[Any, ...]
# Right-hand side β B and initial Z of a column group: per block, a call that returns the array.
# They are calls, not arrays, because the arrays of a lost block must be computed again.
Sides = tuple[Sequence[Call], Sequence[Call]]


@dataclass(frozen=True)
class _Step(Sized):
    """CG vectors of one block, and the block's preconditioned residual u (rows, l).

    If ``done``, all columns have converged, and the remaining tasks of the graph do nothing.
    """

    vectors: Vectors
    u: Array
    done: bool = False


@dataclass(frozen=True)
class _Scalars(Sized):
    """State of one iteration for all blocks: CG scalars, and vectors of the shared slots."""

    coefficients: Coefficients
    sums: SharedSums


@dataclass(frozen=True)
class _Share(Sized):
    """Input of one block for an iteration: CG scalars, and corrections (own, l).

    ``own`` counts the slots that the block contributes to.
    """

    coefficients: Coefficients
    correction: Array


def solve(
    graph: BlockGraph,
    systems: Sequence[Delayed],
    preconditioner: Preconditioner,
    sides: Sequence[Sides],
    options: SolverConfig,
) -> list[tuple[list[Delayed], Coefficients]]:
    """Solve (βI + λH) Z = βB (Eq. 14) for one or several groups of columns.

    With one block, the groups are solved at the same time, one per worker: columns are independent,
    so workers exchange nothing. With several blocks, groups are solved one after another.

    Parameters
    ----------
    systems : a `SystemBlock` per block.
    preconditioner : preconditioner of these systems.
    sides : right-hand side and initial Z of each group.

    Returns
    -------
    For each group, two results: the solution, an array (rows, columns) per block on the workers;
    and the last coefficients, with the residual of each column and the number of iterations.

    Raises
    ------
    TrainingError : a column is above the tolerance after ``options.max_iterations``, or not finite.
    """
    if len(systems) == 1:
        solved = _solve_columns(systems[0], preconditioner, sides, options)
    else:
        solved = [
            _solve_blocks(graph, systems, preconditioner, _made(right), _made(start), options)
            for right, start in sides
        ]
    for _, coefficients in solved:
        _check(coefficients, options)
    return solved


def _bound(call: Call) -> Callable[[], Array]:
    function, *arguments = call
    return partial(function, *arguments)


def _made(calls: Sequence[Call]) -> list[Delayed]:
    return [tasks.task(*call) for call in calls]


def _check(coefficients: Coefficients, options: SolverConfig) -> None:
    if not np.isfinite(coefficients.residual).all():
        raise TrainingError(
            "the Z-step diverged: its residual is not finite. Bring method.lam and method.beta "
            "closer together."
        )
    if coefficients.active.any():
        worst = float(np.max(coefficients.residual))
        raise TrainingError(
            f"the Z-step has a relative residual of {worst:.1e} after {coefficients.iterations} "
            f"iterations, above solver.tolerance {options.tolerance:.1e}. Raise "
            "solver.max_iterations, or lower the ratio of method.lam to method.beta."
        )


def _solve_columns(
    system: Delayed,
    preconditioner: Preconditioner,
    sides: Sequence[Sides],
    options: SolverConfig,
) -> list[tuple[list[Delayed], Coefficients]]:
    pairs = []
    for number, (right, start) in enumerate(sides):
        with tasks.on_worker(number):
            pair = tasks.task_pair(
                kernels.solve_single_block,
                system,
                preconditioner.levels[0],
                preconditioner.space,
                _bound(right[0]),
                _bound(start[0]),
                options.tolerance,
                options.max_iterations,
            )
        pairs.append(pair)
    kept = tasks.persist([x for x, _ in pairs] + [last for _, last in pairs])
    ends = tasks.run_all(kept[len(sides) :])
    return [([x], last) for x, last in zip(kept, ends, strict=False)]


def _solve_blocks(
    graph: BlockGraph,
    systems: Sequence[Delayed],
    preconditioner: Preconditioner,
    right: Sequence[Delayed],
    start: Sequence[Delayed],
    options: SolverConfig,
) -> tuple[list[Delayed], Coefficients]:
    levels, space = preconditioner.levels, preconditioner.space
    vectors = _each(kernels.initial_vectors, systems, right, start, graph.exchange(start))
    restricted = _each(_restrict_residual, levels, vectors)
    sums = tasks.task(_first_sums, space, *restricted)
    steps = _each(_first_step, levels, vectors, _shares(_correction, sums, preconditioner))
    products = _products(graph, systems, steps)
    parts = _each(_block_parts, levels, steps, products)
    norms = _each(kernels.squared_norms, right)
    current = tasks.task(_first, options.tolerance, space, sums, *parts, *norms)
    done = 0
    while True:
        for _ in range(min(options.fused, options.max_iterations - done)):
            shares = _shares(_share, current, preconditioner)
            steps = _each(_step, levels, steps, products, shares)
            products = _products(graph, systems, steps)
            parts = _each(_block_parts, levels, steps, products)
            current = tasks.task(_next, options.tolerance, space, current, *parts)
        kept = tasks.persist([*steps, *products, current])
        blocks = len(systems)
        steps, products, current = kept[:blocks], kept[blocks:-1], kept[-1]
        seen: Coefficients = tasks.run_one(tasks.field(current, "coefficients"))
        if not seen.active.any() or seen.iterations >= options.max_iterations:
            return tasks.persist([tasks.field(step, "vectors.x") for step in steps]), seen
        done = seen.iterations


def _products(
    graph: BlockGraph, systems: Sequence[Delayed], steps: Sequence[Delayed]
) -> list[Delayed]:
    """Create one task per block, which multiplies the block's rows of the system with u.

    u is the preconditioned residual in ``steps``. Other blocks send the halo rows of u.
    """
    return [
        tasks.task(_product, system, step, *graph.incoming(steps, taker, _pick))
        for taker, (system, step) in enumerate(zip(systems, steps, strict=True))
    ]


def _shares(function: Any, common: Delayed, preconditioner: Preconditioner) -> list[Delayed]:
    """Create one task per block that calls ``function(space, common, slots of the block)``.

    ``common`` is the state for all blocks.
    """
    space = preconditioner.space
    return [tasks.task(function, space, common, slots) for slots in preconditioner.slots]


def _each(function: Any, *columns: Sequence[Delayed]) -> list[Delayed]:
    return [tasks.task(function, *row) for row in zip(*columns, strict=True)]


def _restrict_residual(levels: MultilevelPreconditioner, vectors: Vectors) -> Array:
    return levels.restrict(vectors.r)


def _first_sums(space: SharedCoarseSpace, *restricted: Array) -> SharedSums:
    return kernels.first_sums(space, space.add_up(restricted))


def _correction(space: SharedCoarseSpace, sums: SharedSums, slots: Array) -> Array:
    return space.correct(sums.residual, sums.coarse, slots)


def _share(space: SharedCoarseSpace, current: _Scalars, slots: Array) -> _Share:
    if not current.coefficients.active.any():
        return _Share(current.coefficients, current.sums.residual[:0])
    return _Share(current.coefficients, _correction(space, current.sums, slots))


def _first_step(levels: MultilevelPreconditioner, vectors: Vectors, correction: Array) -> _Step:
    return _Step(vectors, levels.precondition(vectors.r, correction))


def _first(tolerance: float, space: SharedCoarseSpace, sums: SharedSums, *parts: Any) -> _Scalars:
    """Compute the scalars of the first iteration.

    ``parts`` holds all blocks' `BlockSums`, then all blocks' squared norms (l,) of the right-hand
    side.
    """
    blocks = len(parts) // 2
    dots, shared = _total(space, parts[:blocks])
    squared = np.sum(parts[blocks:], axis=0)
    coefficients = kernels.first_coefficients(dots, squared, tolerance)
    return _Scalars(coefficients, kernels.next_sums(space, sums, shared, coefficients))


def _next(
    tolerance: float, space: SharedCoarseSpace, previous: _Scalars, *parts: BlockSums
) -> _Scalars:
    if not previous.coefficients.active.any():
        return previous
    dots, shared = _total(space, parts)
    coefficients = kernels.next_coefficients(dots, previous.coefficients, tolerance)
    return _Scalars(coefficients, kernels.next_sums(space, previous.sums, shared, coefficients))


def _total(space: SharedCoarseSpace, parts: Sequence[BlockSums]) -> tuple[Array, Array]:
    """Add dot products and shared sums over all blocks, in block order.

    Returns (3, l), see `BlockSums`, and (width, l), which has a row for each slot.
    """
    dots: Array = np.sum([part.dots for part in parts], axis=0)
    return dots, space.add_up([part.shared for part in parts])


def _step(levels: MultilevelPreconditioner, step: _Step, product: Array, share: _Share) -> _Step:
    if not share.coefficients.active.any():
        return replace(step, done=True)
    vectors = kernels.advance(step.vectors, step.u, product, share.coefficients)
    return _Step(vectors, levels.precondition(vectors.r, share.correction))


def _pick(step: _Step, rows: Array) -> Array:
    picked: Array = step.u[:0] if step.done else step.u[rows]
    return picked


def _product(system: SystemBlock, step: _Step, *halo: Array) -> Array:
    # Once all columns are frozen, coefficients do not change, so the product is not used.
    return step.u if step.done else system.apply(step.u, *halo)


def _block_parts(levels: MultilevelPreconditioner, step: _Step, product: Array) -> BlockSums:
    if step.done:  # nothing uses the sums
        return BlockSums(np.empty((3, 0)), product[:0])
    return kernels.block_sums(levels, step.vectors, step.u, product)
