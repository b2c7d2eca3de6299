"""Preconditioned conjugate gradients over blocks: several iterations in one task graph.

An iteration is five tasks a block (take its share of the scalars, update and precondition, pick
what others need, multiply, sum) and one for all. What that one holds of aggregates that blocks
share stays where it is: a block sends and gets the slots that it has a part in.
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
# Of a group of columns β B and the first Z: the calls that make (rows, columns) of each block anew.
Sides = tuple[Sequence[Call], Sequence[Call]]


@dataclass(frozen=True)
class _Step(Sized):
    """A block's vectors and its preconditioned residual u (rows, l).

    ``done`` says that every column is frozen: what is left of the graph has nothing to do.
    """

    vectors: Vectors
    u: Array
    done: bool = False


@dataclass(frozen=True)
class _Scalars(Sized):
    """What the blocks have in common at an iteration, beyond the rows of their halos."""

    coefficients: Coefficients
    sums: SharedSums


@dataclass(frozen=True)
class _Share(Sized):
    """What a block needs of `_Scalars`: the corrections (own, l) are those of its own slots."""

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

    In one block each group is solved in a worker of its own, all at once: columns have nothing in
    common, so nothing is exchanged. In several blocks it is one group after the other.

    Parameters
    ----------
    systems : a `SystemBlock` a block. preconditioner : of those systems.
    sides : of each group, as of `Sides`.

    Returns
    -------
    Of each group the solution, (rows, columns) a block on the workers, and the last coefficients:
    residual by column and the number of iterations.

    Raises
    ------
    TrainingError : a column is not below the tolerance after ``options.max_iterations``.
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
                preconditioner.cascades[0],
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
    cascades, space = preconditioner.cascades, preconditioner.space
    vectors = _each(kernels.initial_vectors, systems, right, start, graph.exchange(start))
    restricted = _each(_restrict_residual, cascades, vectors)
    sums = tasks.task(_first_sums, space, *restricted)
    steps = _each(_first_step, cascades, vectors, _shares(_correction, sums, preconditioner))
    products = _products(graph, systems, steps)
    parts = _each(_block_parts, cascades, steps, products)
    norms = _each(kernels.squared_norms, right)
    current = tasks.task(_first, options.tolerance, space, sums, *parts, *norms)
    done = 0
    while True:
        for _ in range(min(options.fused, options.max_iterations - done)):
            shares = _shares(_share, current, preconditioner)
            steps = _each(_step, cascades, steps, products, shares)
            products = _products(graph, systems, steps)
            parts = _each(_block_parts, cascades, steps, products)
            current = tasks.task(_next, options.tolerance, space, current, *parts)
        kept = tasks.persist([*steps, *products, current])
        blocks = len(systems)
        steps, products, current = kept[:blocks], kept[blocks:-1], kept[-1]
        seen: Coefficients = tasks.run_one(tasks.task(_coefficients, current))
        if not seen.active.any() or seen.iterations >= options.max_iterations:
            return tasks.persist(_each(_solution, steps)), seen
        done = seen.iterations


def _products(
    graph: BlockGraph, systems: Sequence[Delayed], steps: Sequence[Delayed]
) -> list[Delayed]:
    """The matrix times u, block by block."""
    return [
        tasks.task(_product, system, step, *graph.incoming(steps, taker, _pick))
        for taker, (system, step) in enumerate(zip(systems, steps, strict=True))
    ]


def _shares(function: Any, common: Delayed, preconditioner: Preconditioner) -> list[Delayed]:
    """What ``function`` takes for each block, of what all have in common and the block's slots."""
    space = preconditioner.space
    return [tasks.task(function, space, common, slots) for slots in preconditioner.slots]


def _each(function: Any, *columns: Sequence[Delayed]) -> list[Delayed]:
    return [tasks.task(function, *row) for row in zip(*columns, strict=True)]


def _restrict_residual(cascade: MultilevelPreconditioner, vectors: Vectors) -> Array:
    return cascade.restrict(vectors.r)


def _first_sums(space: SharedCoarseSpace, *restricted: Array) -> SharedSums:
    return kernels.first_sums(space, space.add_up(restricted))


def _correction(space: SharedCoarseSpace, sums: SharedSums, slots: Array) -> Array:
    return space.correct(sums.residual, sums.coarse, slots)


def _share(space: SharedCoarseSpace, current: _Scalars, slots: Array) -> _Share:
    if not current.coefficients.active.any():
        return _Share(current.coefficients, current.sums.residual[:0])
    return _Share(current.coefficients, _correction(space, current.sums, slots))


def _first_step(cascade: MultilevelPreconditioner, vectors: Vectors, correction: Array) -> _Step:
    return _Step(vectors, cascade.precondition(vectors.r, correction))


def _first(tolerance: float, space: SharedCoarseSpace, sums: SharedSums, *parts: Any) -> _Scalars:
    """The first scalars, from the `BlockSums` of the blocks, then their squared norms."""
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
    """Dots (3, l) and shared sums (width, l) over all blocks, added in their order."""
    dots: Array = np.sum([part.dots for part in parts], axis=0)
    return dots, space.add_up([part.shared for part in parts])


def _step(cascade: MultilevelPreconditioner, step: _Step, product: Array, share: _Share) -> _Step:
    if not share.coefficients.active.any():
        return replace(step, done=True)
    vectors = kernels.advance(step.vectors, step.u, product, share.coefficients)
    return _Step(vectors, cascade.precondition(vectors.r, share.correction))


def _pick(step: _Step, rows: Array) -> Array:
    picked: Array = step.u[:0] if step.done else step.u[rows]
    return picked


def _product(system: SystemBlock, step: _Step, *halo: Array) -> Array:
    # Once every column is frozen the coefficients no longer change, whatever the product is.
    return step.u if step.done else system.apply(step.u, *halo)


def _block_parts(cascade: MultilevelPreconditioner, step: _Step, product: Array) -> BlockSums:
    if step.done:  # nobody looks at these
        return BlockSums(np.empty((3, 0)), product[:0])
    return kernels.block_sums(cascade, step.vectors, step.u, product)


def _coefficients(scalars: _Scalars) -> Coefficients:
    return scalars.coefficients


def _solution(step: _Step) -> Array:
    return step.vectors.x
