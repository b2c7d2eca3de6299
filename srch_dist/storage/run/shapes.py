"""Shapes of a run's JSON records: the keys read by report, sweep and evaluation.

`checked_json.check_shape` compares a record with its shape. A key has a default if runs of earlier
versions do not have the key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field

Number = float | None
# A direction such as image_to_text to its value.
ByDirection = dict[str, Number]
# Dataclasses cannot have fields such as "10".
_PAIR_KEYS = ("1", "5", "10", "median_rank")


def _with_keys(*keys: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def check(values: dict[str, Any]) -> dict[str, Any]:
        missing = [key for key in keys if values.get(key) is None]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        return values

    return check


PairRecall = Annotated[dict[str, float], AfterValidator(_with_keys(*_PAIR_KEYS))]


@dataclass(frozen=True)
class Curve:
    """Precision and recall within each Hamming radius, from 0 to the number of bits."""

    precision: list[Number]
    recall: list[Number]


@dataclass(frozen=True)
class Scores:
    """Scores that need labels. Without labels, ``map`` is None; with labels, no key is missing."""

    map: ByDirection | None = None
    map_at_50: ByDirection | None = None
    precision_at: dict[str, dict[str, Number]] | None = None
    precision_recall: dict[str, Curve] | None = None
    queries_without_relevant: int | None = None

    def __post_init__(self) -> None:
        if self.map is None:
            return
        for name in ("map_at_50", "precision_at", "precision_recall"):
            values = getattr(self, name)
            if values is None or not set(self.map) <= set(values):
                raise ValueError(f"{name} is missing, or does not have the directions of map")
        if any("10" not in values for values in (self.precision_at or {}).values()):
            raise ValueError("precision_at has no value at 10")


def _with_map(scores: Scores) -> Scores:
    if scores.map is None:
        raise ValueError("map is missing")
    return scores


@dataclass(frozen=True)
class _Baseline:
    method: str
    bits: int


@dataclass(frozen=True)
class Baseline(Scores, _Baseline):
    """Scores of the baseline CCA-ITQ, for data with labels."""


@dataclass(frozen=True)
class Asymmetric:
    """Scores of the ranking by float queries; ``map`` is None without labels."""

    pair_recall: dict[str, PairRecall]
    map: ByDirection | None = None


@dataclass(frozen=True)
class _Evaluation:
    queries: int
    database: int
    bits: int
    pair_recall: dict[str, PairRecall]


@dataclass(frozen=True)
class Evaluation(Scores, _Evaluation):
    """Content of ``evaluation.json`` and of the file that ``evaluate --json`` writes."""

    train_codes: Annotated[Scores, AfterValidator(_with_map)] | None = None
    asymmetric: Asymmetric | None = None
    # By ranking, then by direction; for modalities of equal width.
    neighbours_kept: dict[str, dict[str, float]] | None = None
    float_pair_recall: dict[str, PairRecall] | None = None
    baseline: Annotated[Baseline, AfterValidator(_with_map)] | None = None


@dataclass(frozen=True)
class _Item:
    text: str


@dataclass(frozen=True)
class _Found(_Item):
    distance: int


@dataclass(frozen=True)
class Example:
    """A query and its nearest rows."""

    query: _Item
    found: list[_Found]


# ``examples.json``.
Examples = dict[str, list[Example]]


@dataclass(frozen=True)
class GraphOfModality:
    """The neighbour graph of one modality."""

    method: str
    recall: float
    edges: int
    mean_degree: float
    mutual: float
    isolated: int
    duplicates: int
    degrees: list[int] | None = None


@dataclass(frozen=True)
class Graph:
    """The neighbour graphs of a run."""

    modalities: Annotated[dict[str, GraphOfModality], Field(min_length=1)]
    components: int


@dataclass(frozen=True)
class Condensed:
    """Statistics of the PCA-ITQ step, which makes the final codes from the loop's codes."""

    directions: int
    share: float
    effective_bits: float


@dataclass(frozen=True)
class Head:
    """Content of ``run.json`` of a finished run."""

    summary: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """Keys of the summary in ``run.json`` that every reader needs."""

    reason: str
    store: dict[str, int]


@dataclass(frozen=True)
class Summary:
    """Value of the key ``summary`` in ``run.json``."""

    reason: str
    iterations: int
    rows: int
    precision: str
    weights: dict[str, float]
    # Empty with method.directions 0.
    condensed: Condensed | Annotated[dict[str, float], Field(max_length=0)]
    graph: Graph
    seconds: Annotated[dict[str, float], AfterValidator(_with_keys("training", "model"))]
    peak_memory: Annotated[dict[str, int], Field(min_length=1)]
    stage_peaks: dict[str, dict[str, float]]
    modalities: dict[str, int] | None = None

    def __post_init__(self) -> None:
        if not set(self.graph.modalities) <= set(self.weights):
            raise ValueError("weights and graph have different modalities")
        if not set(self.seconds) <= set(self.stage_peaks):
            raise ValueError("stage_peaks and seconds have different stages")


@dataclass(frozen=True)
class IterationRecord:
    """A line of ``history.jsonl``."""

    iteration: int
    objective: float
    changed_bits: float
    effective_bits: float
    alpha: Number
    cg_iterations: int
    seconds: dict[str, float]
    terms: dict[str, float] | None = None
    cg_residuals: list[float] | None = None
    s_counts: list[float] | None = None
    bit_balance: dict[str, float] | None = None
    bit_correlation: dict[str, float] | None = None


@dataclass(frozen=True)
class PlanRecord:
    """Content of ``plan.json``."""

    workers: int
    memory_limit: int
    partitions: int
    blocks: int
    seconds: float


# ``history.jsonl`` of a finished run.
History = Annotated[list[IterationRecord], Field(min_length=1)]
