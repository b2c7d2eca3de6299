"""Conjugate gradients on one block of rows: all columns at once, each frozen when it is done.

The single-reduction form of Chronopoulos and Gear (J. Comput. Appl. Math. 25, 1989): each
iteration needs one product with the matrix and one sum over all rows. The sums that the coarse
unknowns need follow the recurrences of the residual, so that they come with the same sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.graph.laplacian import SystemBlock
from srch_dist.kernels.multigrid.preconditioner import Cascade, SharedCoarseSpace
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.tiling import chunks
from srch_dist.kernels.types import Array, Matrix, Vector


@dataclass(frozen=True)
class Vectors(Sized):
    """One block's vectors, each (rows, l): solution, residual, and the two directions."""

    x: Array
    r: Array
    p: Array
    s: Array


@dataclass(frozen=True)
class Parts(Sized):
    """A block's share of the sums of an iteration.

    ``dots`` (3, l) are (r, u), (w, u) and (r, r); ``shared`` (own, l) is `Cascade.restrict` of w.
    """

    dots: Matrix
    shared: Array


@dataclass(frozen=True)
class Coefficients(Sized):
    """What all blocks share at an iteration, one value a column, (l,).

    Attributes
    ----------
    gamma, alpha, beta : the scalars of the method.
    norms : ‖b‖ of each right-hand side.
    active : columns that are not finished.
    residual : relative residual before the coming update, the last one seen while active.
    iterations : updates done so far to the slowest column.
    worst : the largest relative residual before each update.
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
    """P'r and P's over all blocks, (width, l), and corrections (m, l) of the coarse unknowns."""

    residual: Array
    direction: Array
    coarse: Array


def begin(system: SystemBlock, b: Array, x: Array, x_halo: Array) -> Vectors:
    """The first vectors, from a start ``x`` (rows, l) and its halo (h, l)."""
    r = b - system.apply(x, x_halo)
    return Vectors(x, r, np.zeros_like(r), np.zeros_like(r))


def block_parts(cascade: Cascade, vectors: Vectors, u: Array, w: Array) -> Parts:
    """The block's share of an iteration's sums."""
    return Parts(column_dots(vectors, u, w), cascade.restrict(w))


def column_dots(vectors: Vectors, u: Array, w: Array) -> Vector:
    """(3, l): this block's part of (r, u), (w, u) and (r, r), in float64."""
    total = np.zeros((3, u.shape[1]))
    for rows in chunks(u):
        r, v = vectors.r[rows].astype(np.float64), u[rows].astype(np.float64)
        total[0] += np.einsum("ij,ij->j", r, v)
        total[1] += np.einsum("ij,ij->j", w[rows].astype(np.float64), v)
        total[2] += np.einsum("ij,ij->j", r, r)
    return total


def squared_norms(right: Array) -> Vector:
    """‖b‖² of each column, (l,)."""
    norms: Vector = np.einsum("ij,ij->j", right, right, dtype=np.float64)
    return norms


def first_sums(space: SharedCoarseSpace, residual: Array) -> SharedSums:
    """The first corrections, from P'r (width, l) over all blocks."""
    return SharedSums(residual, np.zeros_like(residual), space.solve(residual))


def next_sums(
    space: SharedCoarseSpace, previous: SharedSums, image: Array, c: Coefficients
) -> SharedSums:
    """P'r after the coming update, from ``image`` = P'w (width, l), as `advance` does for r."""
    if not c.active.any() or len(image) == 0:
        return previous
    alpha, beta = c.alpha.astype(image.dtype), c.beta.astype(image.dtype)
    direction = image + beta * previous.direction
    residual = previous.residual - alpha * direction
    return SharedSums(residual, direction, space.solve(residual))


def first_coefficients(dots: Vector, squared: Vector, tolerance: float) -> Coefficients:
    """Coefficients of the first update, from the dots (3, l) and ‖b‖² (l,) over all blocks."""
    gamma, delta, residual = dots
    norms = np.sqrt(squared)
    residual = np.sqrt(residual) / norms
    active = residual > tolerance
    alpha = np.divide(gamma, delta, out=np.zeros_like(gamma), where=active)
    worst = (float(residual.max()),)
    return Coefficients(gamma, alpha, np.zeros_like(gamma), norms, active, residual, 0, worst)


def next_coefficients(dots: Vector, previous: Coefficients, tolerance: float) -> Coefficients:
    """Coefficients of the next update; a column whose residual is small enough is frozen."""
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
    """One update of this block's vectors. A frozen column keeps its solution: its α is zero.

    The result is written to ``into``, which may be ``vectors``; to new arrays where it is None.
    """
    if not c.active.any():
        return vectors
    new = into or Vectors(*(np.empty_like(vectors.x) for _ in range(4)))
    dtype = vectors.x.dtype
    alpha, beta = c.alpha.astype(dtype), c.beta.astype(dtype)
    # In runs of rows: five passes over vectors of millions of rows would go through memory.
    for rows in chunks(u):
        p, s = new.p[rows], new.s[rows]
        np.multiply(vectors.p[rows], beta, out=p)
        p += u[rows]
        np.multiply(vectors.s[rows], beta, out=s)
        s += w[rows]
        np.add(vectors.x[rows], alpha * p, out=new.x[rows])
        np.subtract(vectors.r[rows], alpha * s, out=new.r[rows])
    return new


def solve_whole(
    system: SystemBlock,
    cascade: Cascade,
    space: SharedCoarseSpace,
    right: Callable[[], Array],
    start: Callable[[], Array],
    tolerance: float,
    max_iterations: int,
) -> tuple[Array, Coefficients]:
    """Solve a system that is one block, with the same method as over several.

    Vectors are overwritten: ``right`` and ``start`` make b and the first x (rows, l) anew. Six of
    them are in memory at a time, and what the preconditioner takes.
    """
    r, x = right(), start()
    squared = squared_norms(r)
    r -= system.apply(x)
    vectors = Vectors(x, r, np.zeros_like(r), np.zeros_like(r))
    c: Coefficients | None = None
    while True:
        u = cascade.precondition_whole(r, space)
        w = system.apply(u)
        dots = column_dots(vectors, u, w)
        if c is None:
            c = first_coefficients(dots, squared, tolerance)
        else:
            c = next_coefficients(dots, c, tolerance)
        if not c.active.any() or c.iterations >= max_iterations:
            return x, c
        advance(vectors, u, w, c, into=vectors)
        # Not in memory while the next are made.
        del u, w
