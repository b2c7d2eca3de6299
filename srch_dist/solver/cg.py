"""Preconditioned conjugate gradients over blocks: several iterations in one task graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist import execution
from srch_dist.config import SolverConfig
from srch_dist.errors import SrchError
from srch_dist.kernels import gradients as kernels
from srch_dist.kernels.gradients import Coefficients, Row, Vectors
from srch_dist.kernels.laplacian import SystemBlock
from srch_dist.solver.blocks import BlockGraph

Array = NDArray[Any]


def solve(
    graph: BlockGraph,
    systems: Sequence[Delayed],
    right: Sequence[Delayed],
    start: Sequence[Delayed],
    options: SolverConfig,
) -> tuple[list[Delayed], Coefficients]:
    """Solve (βI + λH) Z = βB (Eq. 14) for all columns.

    Parameters
    ----------
    systems : a `SystemBlock` a block. right : β B and start : the first Z, (rows, l) a block.

    Returns
    -------
    The solution, (rows, l) a block on the workers, and the last coefficients: residual by
    column and the number of iterations.

    Raises
    ------
    SrchError : a column is not below the tolerance after ``options.max_iterations``.
    """
    if len(systems) == 1:
        limit = options.max_iterations
        whole = execution.task_pair(
            kernels.solve_whole, systems[0], right[0], start[0], options.tolerance, limit
        )
        x, last = execution.keep(whole)
        coefficients = execution.run_one(last)
        solution = [x]
    else:
        solution, coefficients = _solve_blocks(graph, systems, right, start, options)
    if not np.isfinite(coefficients.residual).all():
        raise SrchError(
            "the Z-step does not stay finite; bring method.lam and method.beta closer together"
        )
    if coefficients.active.any():
        worst = float(np.max(coefficients.residual))
        raise SrchError(
            f"the Z-step stands at a relative residual of {worst:.1e} after "
            f"{coefficients.iterations} iterations, above solver.tolerance "
            f"{options.tolerance:.1e}; raise solver.max_iterations, or lower method.lam / "
            "method.beta"
        )
    return solution, coefficients


def _solve_blocks(
    graph: BlockGraph,
    systems: Sequence[Delayed],
    right: Sequence[Delayed],
    start: Sequence[Delayed],
    options: SolverConfig,
) -> tuple[list[Delayed], Coefficients]:
    halos = graph.exchange(start)
    vectors = _each(kernels.begin, systems, right, start, halos)
    u, w = _products(graph, systems, vectors, None)
    dots = _each(kernels.column_dots, vectors, u, w)
    norms = _each(_squared_norms, right)
    current = execution.task(_first, options.tolerance, *dots, *norms)
    done = 0
    while True:
        for _ in range(min(options.fused, options.max_iterations - done)):
            vectors = [
                execution.task(kernels.advance, *block, current)
                for block in zip(vectors, u, w, strict=True)
            ]
            u, w = _products(graph, systems, vectors, current)
            dots = _each(kernels.column_dots, vectors, u, w)
            current = execution.task(_next, options.tolerance, current, *dots)
        kept = execution.keep([*vectors, *u, *w, current])
        blocks = len(systems)
        vectors, u, w = kept[:blocks], kept[blocks : 2 * blocks], kept[2 * blocks : -1]
        current = kept[-1]
        seen: Coefficients = execution.run_one(current)
        if not seen.active.any() or seen.iterations >= options.max_iterations:
            return execution.keep(_each(_solution, vectors)), seen
        done = seen.iterations


def _products(
    graph: BlockGraph,
    systems: Sequence[Delayed],
    vectors: Sequence[Delayed],
    current: Delayed | None,
) -> tuple[list[Delayed], list[Delayed]]:
    """The preconditioned residual u and the matrix times u, block by block."""
    own = _each(kernels.precondition, systems, vectors)
    products = [
        execution.task(_product, system, values, halo, current)
        for system, values, halo in zip(systems, own, graph.exchange(own), strict=True)
    ]
    return own, products


def _each(function: Any, *columns: Sequence[Delayed]) -> list[Delayed]:
    return [execution.task(function, *row) for row in zip(*columns, strict=True)]


def _first(tolerance: float, *parts: Row) -> Coefficients:
    """`first_coefficients` of the blocks' dots, then their squared norms."""
    blocks = len(parts) // 2
    return kernels.first_coefficients(parts[:blocks], parts[blocks:], tolerance)


def _next(tolerance: float, previous: Coefficients, *dots: Row) -> Coefficients:
    return kernels.next_coefficients(dots, previous, tolerance)


def _solution(vectors: Vectors) -> Array:
    return vectors.x


def _product(system: SystemBlock, own: Array, halo: Array, current: Coefficients | None) -> Array:
    # Once every column is frozen the coefficients no longer change, whatever the product is.
    if current is not None and not current.active.any():
        return own
    return system.apply(own, halo)


def _squared_norms(right: Array) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.einsum("ij,ij->j", right, right, dtype=np.float64)
    return norms
