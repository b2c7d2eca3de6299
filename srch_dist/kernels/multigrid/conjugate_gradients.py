"""Preconditioned conjugate gradients on one block of rows, all columns at once.

This is the single-reduction form of A. Chronopoulos and C. Gear, "s-step iterative methods for
symmetric linear systems", J. Comput. Appl. Math. 25, 1989. An iteration needs one product with A
and one sum over all rows. With u = M⁻¹r and w = Au, the recurrences are

    p ← u + βp,  s ← w + βs,  x ← x + αp,  r ← r - αs,
    γ = (r, u),  δ = (w, u),  β = γ / γ_previous,  α = γ / (δ - βγ / α_previous).

A slot is an entry of a vector that is summed over all blocks; see `preconditioner`. In shapes,
``width`` is the number of slots, and ``own`` the number of slots that one block contributes to. The
restriction P' of the rows to the slots is linear, so P'r follows the same recurrences. An iteration
therefore needs no second sum over the blocks.

Each column has its own scalars. A column is frozen once its relative residual ‖r‖ / ‖b‖ is at most
the tolerance. Columns solved in groups therefore have the same result as columns solved at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.graph.laplacian import SystemBlock
from srch_dist.kernels.multigrid.preconditioner import MultilevelPreconditioner, SharedCoarseSpace
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.tiling import cached_tiles
from srch_dist.kernels.types import Array, Matrix, Vector


@dataclass(frozen=True)
class Vectors(Sized):
    """CG vectors of one block, each (rows, l): solution x, residual r, directions p and s = Ap."""

    x: Array
    r: Array
    p: Array
    s: Array


@dataclass(frozen=True)
class BlockSums(Sized):
    """One block's part of the sums over all blocks in an iteration.

    Attributes
    ----------
    dots : (3, l) float64: rows are (r, u), (w, u) and (r, r); columns are those of the vectors.
    shared : (own, l) `MultilevelPreconditioner.restrict` of w, for the block's slots.
    """

    dots: Matrix
    shared: Array


@dataclass(frozen=True)
class Coefficients(Sized):
    """Scalars of an iteration, (l,) for the l columns; all blocks use the same scalars.

    Attributes
    ----------
    gamma, alpha, beta : scalars of the recurrences.
    norms : ‖b‖ of each column.
    active : true for columns that are not frozen.
    residual : relative residual before the next update; for a frozen column, the last value.
    iterations : number of updates of the slowest column so far.
    worst : (iterations + 1,) largest relative residual over all columns, before each update.
    """

    gamma: Vector
    alpha: Vector
    beta: Vector
    norms: Vector
    active: NDArray[np.bool_]
    residual: Vector
    iterations: int
    worst: tuple[float, ...]


@dataclass(frozen=True)
class SharedSums(Sized):
    """Vectors of the shared slots, summed over all blocks.

    Attributes
    ----------
    residual, direction : (width, l) restrictions of r and of s to the slots, P'r and P's.
    coarse : (m, l) corrections of the m coarse unknowns; see `SharedCoarseSpace.solve`.
    """

    residual: Array
    direction: Array
    coarse: Array


def initial_vectors(system: SystemBlock, b: Array, x: Array, x_halo: Array) -> Vectors:
    """Make the vectors before the first update: r = b - Ax, and zero directions.

    Parameters
    ----------
    b, x : (rows, l) right-hand sides and initial solution.
    x_halo : (h, l) the initial solution at the halo rows.
    """
    r = b - system.apply(x, x_halo)
    return Vectors(x, r, np.zeros_like(r), np.zeros_like(r))


def block_sums(
    preconditioner: MultilevelPreconditioner, vectors: Vectors, u: Array, w: Array
) -> BlockSums:
    """Compute the `BlockSums` of an iteration, from u and w (rows, l)."""
    return BlockSums(column_dots(vectors, u, w), preconditioner.restrict(w))


def column_dots(vectors: Vectors, u: Array, w: Array) -> Vector:
    """Compute the block's part of (r, u), (w, u) and (r, r), as rows of a (3, l) float64 array."""
    total = np.zeros((3, u.shape[1]))
    for rows in cached_tiles(u):
        r, v = vectors.r[rows].astype(np.float64), u[rows].astype(np.float64)
        total[0] += np.einsum("ij,ij->j", r, v)
        total[1] += np.einsum("ij,ij->j", w[rows].astype(np.float64), v)
        total[2] += np.einsum("ij,ij->j", r, r)
    return total


def squared_norms(right: Array) -> Vector:
    """Compute the block's part of ‖b‖² by column, (l,) float64, from b (rows, l)."""
    norms: Vector = np.einsum("ij,ij->j", right, right, dtype=np.float64)
    return norms


def first_sums(space: SharedCoarseSpace, residual: Array) -> SharedSums:
    """Make the shared vectors before the first update; ``residual`` is P'r (width, l)."""
    return SharedSums(residual, np.zeros_like(residual), space.solve(residual))


def next_sums(
    space: SharedCoarseSpace, previous: SharedSums, image: Array, c: Coefficients
) -> SharedSums:
    """Update the shared vectors once, by the recurrences of r and s.

    Parameters
    ----------
    image : (width, l) P'w, summed over all blocks.
    """
    if not c.active.any() or len(image) == 0:
        return previous
    alpha, beta = c.alpha.astype(image.dtype), c.beta.astype(image.dtype)
    direction = image + beta * previous.direction
    residual = previous.residual - alpha * direction
    return SharedSums(residual, direction, space.solve(residual))


def first_coefficients(dots: Vector, squared: Vector, tolerance: float) -> Coefficients:
    """Compute the scalars of the first update.

    Parameters
    ----------
    dots : (3, l) `column_dots`, summed over all blocks.
    squared : (l,) ‖b‖² of each column, summed over all blocks.
    tolerance : relative residual at which a column is frozen.
    """
    gamma, delta, residual = dots
    norms = np.sqrt(squared)
    residual = np.sqrt(residual) / norms
    active = residual > tolerance
    alpha = np.divide(gamma, delta, out=np.zeros_like(gamma), where=active)
    worst = (float(residual.max()),)
    return Coefficients(gamma, alpha, np.zeros_like(gamma), norms, active, residual, 0, worst)


def next_coefficients(dots: Vector, previous: Coefficients, tolerance: float) -> Coefficients:
    """Compute the scalars of the next update, and freeze columns that reach the tolerance.

    Parameters
    ----------
    dots : (3, l) `column_dots`, summed over all blocks.
    """
    if not previous.active.any():
        return previous
    gamma, delta, squared = dots
    residual = np.where(previous.active, np.sqrt(squared) / previous.norms, previous.residual)
    active = previous.active & (residual > tolerance)
    beta = np.divide(gamma, previous.gamma, out=np.zeros_like(gamma), where=active)
    before = np.where(active, previous.alpha, 1.0)
    denominator = np.where(active, delta - beta * gamma / before, 1.0)
    return replace(
        previous,
        gamma=np.where(active, gamma, previous.gamma),
        alpha=np.where(active, gamma / denominator, 0.0),
        beta=beta,
        active=active,
        residual=residual,
        iterations=previous.iterations + 1,
        worst=(*previous.worst, float(residual.max())),
    )


def advance(
    vectors: Vectors, u: Array, w: Array, c: Coefficients, into: Vectors | None = None
) -> Vectors:
    """Update the block's vectors once. A frozen column has α = 0, so the column does not change.

    Parameters
    ----------
    u, w : u = M⁻¹r and w = Au, each (rows, l).
    into : arrays to write the result to, possibly ``vectors``; None allocates new arrays.
    """
    if not c.active.any():
        return vectors
    new = into or Vectors(*(np.empty_like(vectors.x) for _ in range(4)))
    dtype = vectors.x.dtype
    alpha, beta = c.alpha.astype(dtype), c.beta.astype(dtype)
    # Tiles stay in the cache. On whole vectors, each of the five operations would read from memory.
    for rows in cached_tiles(u):
        p, s = new.p[rows], new.s[rows]
        np.multiply(vectors.p[rows], beta, out=p)
        p += u[rows]
        np.multiply(vectors.s[rows], beta, out=s)
        s += w[rows]
        np.add(vectors.x[rows], alpha * p, out=new.x[rows])
        np.subtract(vectors.r[rows], alpha * s, out=new.r[rows])
    return new


def solve_single_block(
    system: SystemBlock,
    preconditioner: MultilevelPreconditioner,
    space: SharedCoarseSpace,
    right: Callable[[], Array],
    start: Callable[[], Array],
    tolerance: float,
    max_iterations: int,
) -> tuple[Array, Coefficients]:
    """Solve a system of one block, with the same rounding as with several blocks.

    Besides the preconditioner's vectors, six vectors (rows, l) are in memory at once.

    Parameters
    ----------
    right, start : functions that return b and the initial x, each (rows, l). The solver overwrites
        both arrays.
    tolerance : relative residual at which a column is frozen.

    Returns
    -------
    x (rows, l) and the last scalars. Columns above the tolerance after ``max_iterations`` are
    ``active``.
    """
    r, x = right(), start()
    squared = squared_norms(r)
    r -= system.apply(x)
    vectors = Vectors(x, r, np.zeros_like(r), np.zeros_like(r))
    c: Coefficients | None = None
    while True:
        u = preconditioner.precondition_single_block(r, space)
        w = system.apply(u)
        dots = column_dots(vectors, u, w)
        if c is None:
            c = first_coefficients(dots, squared, tolerance)
        else:
            c = next_coefficients(dots, c, tolerance)
        if not c.active.any() or c.iterations >= max_iterations:
            return x, c
        advance(vectors, u, w, c, into=vectors)
        # Free both before the next iteration allocates them.
        del u, w
