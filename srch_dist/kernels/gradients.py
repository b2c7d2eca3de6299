"""Conjugate gradients on one block of rows: all columns at once, each frozen when it is done.

The single-reduction form of Chronopoulos and Gear (J. Comput. Appl. Math. 25, 1989): each
iteration needs one product with the matrix and one sum over all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.kernels.laplacian import SystemBlock
from srch_dist.kernels.sizes import Sized

Array = NDArray[Any]
Row = NDArray[np.float64]


@dataclass(frozen=True)
class Vectors(Sized):
    """One block's vectors, each (rows, l): solution, residual, and the two directions."""

    x: Array
    r: Array
    p: Array
    s: Array


@dataclass(frozen=True)
class Coefficients:
    """What all blocks share at an iteration, one value a column, (l,).

    Attributes
    ----------
    gamma, alpha, beta : the scalars of the method.
    norms : ‖b‖ of each right-hand side.
    active : columns that are not finished.
    residual : relative residual before the coming update, the last one seen while active.
    iterations : updates done so far to the slowest column.
    """

    gamma: Row
    alpha: Row
    beta: Row
    norms: Row
    active: NDArray[np.bool_]
    residual: Row
    iterations: int


def begin(system: SystemBlock, b: Array, x: Array, x_halo: Array) -> Vectors:
    """The first vectors, from a start ``x`` (rows, l) and its halo (h, l)."""
    r = b - system.apply(x, x_halo)
    return Vectors(x, r, np.zeros_like(r), np.zeros_like(r))


def precondition(system: SystemBlock, vectors: Vectors) -> Array:
    """U = M⁻¹ r (rows, l), with M the diagonal."""
    u: Array = vectors.r / system.diagonal[:, None]
    return u


def column_dots(vectors: Vectors, u: Array, w: Array) -> Row:
    """(3, l): this block's part of (r, u), (w, u) and (r, r), in float64."""
    pairs = ((vectors.r, u), (w, u), (vectors.r, vectors.r))
    return np.stack([np.einsum("ij,ij->j", a, b, dtype=np.float64) for a, b in pairs])


def first_coefficients(
    dots: Sequence[Row], squared_norms: Sequence[Row], tolerance: float
) -> Coefficients:
    """Coefficients of the first update; ``squared_norms`` are the blocks' parts of ‖b‖², (l,)."""
    gamma, delta, squared = np.sum(dots, axis=0)
    norms = np.sqrt(np.sum(squared_norms, axis=0))
    residual = np.sqrt(squared) / norms
    active = residual > tolerance
    alpha = np.divide(gamma, delta, out=np.zeros_like(gamma), where=active)
    return Coefficients(gamma, alpha, np.zeros_like(gamma), norms, active, residual, 0)


def next_coefficients(
    dots: Sequence[Row], previous: Coefficients, tolerance: float
) -> Coefficients:
    """Coefficients of the next update; a column whose residual is small enough is frozen."""
    if not previous.active.any():
        return previous
    gamma, delta, squared = np.sum(dots, axis=0)
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
    )


def advance(vectors: Vectors, u: Array, w: Array, c: Coefficients) -> Vectors:
    """One update of this block's vectors. A frozen column keeps its solution: its α is zero."""
    if not c.active.any():
        return vectors
    dtype = vectors.x.dtype
    alpha, beta = c.alpha.astype(dtype), c.beta.astype(dtype)
    p = u + beta * vectors.p
    s = w + beta * vectors.s
    x = vectors.x + alpha * p
    r = vectors.r - alpha * s
    return Vectors(x, r, p, s)


def solve_whole(
    system: SystemBlock, b: Array, x: Array, tolerance: float, max_iterations: int
) -> tuple[Array, Coefficients]:
    """Solve a system that is one block, with the same operations as over several."""
    none = np.empty((0, b.shape[1]), dtype=b.dtype)
    vectors = begin(system, b, x, none)
    u = precondition(system, vectors)
    w = system.apply(u, none)
    squared = np.einsum("ij,ij->j", b, b, dtype=np.float64)
    c = first_coefficients([column_dots(vectors, u, w)], [squared], tolerance)
    while c.active.any() and c.iterations < max_iterations:
        vectors = advance(vectors, u, w, c)
        u = precondition(system, vectors)
        w = system.apply(u, none)
        c = next_coefficients([column_dots(vectors, u, w)], c, tolerance)
    return vectors.x, c
