"""Read the records of finished runs for a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from srch_dist.config.identity import to_dict
from srch_dist.kernels.types import Arrays
from srch_dist.storage.checked_json import check_shape
from srch_dist.storage.locations import Location
from srch_dist.storage.run.head import REMEDY
from srch_dist.storage.run.open import open_run
from srch_dist.storage.run.shapes import History, PlanRecord, Summary


@dataclass(frozen=True)
class RunRecords:
    """The records of one run.

    Attributes
    ----------
    name : last components of the run's path; different for all runs of the page.
    path : run directory.
    config, summary, history, plan : contents of the run's files; ``history`` has one record per
        iteration.
    bits : ``means`` (l,) and ``correlations`` (l, l) of the final codes; None if not recorded.
    evaluation, examples : retrieval measures and example queries; None if the run has none.
    """

    name: str
    path: Location
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    plan: Mapping[str, Any]
    bits: Arrays | None
    evaluation: Mapping[str, Any] | None
    examples: Mapping[str, Any] | None

    @property
    def directions(self) -> list[str]:
        """Evaluated directions, such as ``image_to_text``."""
        return list(self.evaluation["pair_recall"]) if self.evaluation else []


def load_records(paths: Sequence[str | Location]) -> list[RunRecords]:
    """Read the records of finished runs; raise StorageError for an unfinished or damaged run."""
    runs = [_load(path) for path in paths]
    names = _unique_names([str(run.path) for run in runs])
    return [
        RunRecords(**{**vars(run), "name": name}) for run, name in zip(runs, names, strict=True)
    ]


def _load(path: str | Location) -> RunRecords:
    run = open_run(path)
    place = run.path
    summary = check_shape(run.summary(), Summary, place / "run.json", REMEDY)
    history = check_shape(run.history(), History, place / "history.jsonl", REMEDY)
    plan = check_shape(run.plan(), PlanRecord, place / "plan.json", REMEDY)
    return RunRecords(
        name=run.path.name,
        path=run.path,
        config=to_dict(run.config()),
        summary=summary,
        history=history,
        plan=plan,
        bits=run.bits(),
        evaluation=run.record("evaluation"),
        examples=run.record("examples"),
    )


def _unique_names(paths: Sequence[str]) -> list[str]:
    """Shorten each path to its last m components; m is the smallest number with unique names."""
    parts = [path.split("/") for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(set(paths)):
            break
    return names


def direction_label(direction: str) -> str:
    """Format a direction for display: ``image_to_text`` becomes ``image → text``."""
    return direction.replace("_to_", " → ")
