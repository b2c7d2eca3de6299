"""Parameter grid of each baseline; the first point is the default.

The table shows a baseline at its best TEST score over the grid. That is an upper bound on what
tuning can reach, so the comparison favours the baselines. SRCH has no grid: the table shows its
presets unchanged.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from .baselines import (
    AlternatingCoQuantisation,
    CcaItq,
    CcaItqExtended,
    CcaProductQuantiser,
    CcaSign,
    CollectiveMatrixFactorisation,
    CrossViewHashing,
    Csa,
    FloatCca,
    FloatCosine,
    FloatProductQuantiser,
    FloatRidge,
    InterMediaHashing,
    PcaItq,
    PredictableDualView,
    QuantisedCorrelation,
    RandomHyperplanes,
    SemanticCorrelation,
)
from .baselines.protocol import Method

GRIDS: tuple[tuple[Method, ...], ...] = (
    (RandomHyperplanes(),),
    tuple(CcaSign(ridge=ridge) for ridge in (0.1, 0.01, 1.0, 10.0)),
    tuple(CcaItq(width=width, ridge=ridge) for width in (None, 16) for ridge in (0.1, 1.0, 10.0)),
    tuple(
        CcaItqExtended(width=width, ridge=ridge)
        for width, ridge in product((None, 8, 16), (0.1, 1.0, 10.0))
        if (width, ridge) != (8, 10.0)
    ),
    (
        CrossViewHashing(),
        CrossViewHashing(ridge=1.0),
        CrossViewHashing(weight=0.2, ridge=1.0),
        CrossViewHashing(weight=0.5),
        CrossViewHashing(weight=0.9, ridge=1.0),
    ),
    (
        *tuple(
            CollectiveMatrixFactorisation(mu=mu, gamma=gamma)
            for mu, gamma in product((100.0, 1.0), (0.01, 1.0, 100.0))
        ),
        CollectiveMatrixFactorisation(mu=100.0, gamma=1000.0),
    ),
    tuple(
        PredictableDualView(C=C, decorrelate=decorrelate)
        for decorrelate, C in product((True, False), (1.0, 0.1, 0.01))
    ),
    tuple(
        AlternatingCoQuantisation(coupling=coupling, width=width, ridge=ridge)
        for coupling, width, ridge in (
            (1.0, None, 0.1),
            (1.0, None, 1.0),
            (1.0, None, 10.0),
            (1.0, 8, 1.0),
            (0.3, None, 1.0),
            (0.3, 16, 0.1),
            (0.3, 16, 1.0),
            (0.3, 16, 10.0),
        )
    ),
    tuple(
        InterMediaHashing(smoothness=smoothness, ridge=ridge)
        for smoothness, ridge in ((1.0, 0.1), (10.0, 0.1), (0.1, 0.1), (0.01, 0.1), (1.0, 1.0))
    ),
    tuple(
        QuantisedCorrelation(weight=weight, ridge=ridge)
        for weight, ridge in product((1.0, 0.1), (0.1, 1.0, 10.0, 100.0))
    ),
    tuple(
        SemanticCorrelation(orthogonal=orthogonal, ridge=ridge)
        for orthogonal, ridge in product((False, True), (0.1, 0.01, 1.0))
    ),
    tuple(FloatCca(width=width) for width in (32, 8, 16, 64))
    + tuple(FloatCca(width=width, ridge=1.0) for width in (8, 16, 32))
    + (FloatCca(width=16, ridge=10.0),),
    tuple(
        FloatRidge(target=target, ridge=ridge)
        for target, ridge in product((1, 0), (0.1, 1.0, 10.0))
    ),
    tuple(CcaProductQuantiser(width=width) for width in (32, 8, 16, 64))
    + tuple(CcaProductQuantiser(width=width, ridge=1.0) for width in (8, 16, 32))
    + (CcaProductQuantiser(width=16, symmetric=True),),
    tuple(Csa(width=width, ridge=ridge) for ridge, width in product((0.1, 1.0), (64, 16, 32, 128))),
    (FloatCosine(),),
    (FloatProductQuantiser(), FloatProductQuantiser(symmetric=True)),
    (PcaItq(),),
)

# Options of an SRCH run, by table row.
SRCH: dict[str, dict[str, Any]] = {
    "SRCH balanced": {"preset": "balanced"},
    "SRCH paper": {"preset": "paper"},
}
# Methods that ignore the seed. All others run with every seed.
DETERMINISTIC = frozenset({FloatCca.name, FloatRidge.name, Csa.name, FloatCosine.name})


def method_names() -> list[str]:
    """Names of all table rows, SRCH first."""
    return [*SRCH, *(grid[0].name for grid in GRIDS)]
