"""What a finished run has recorded, read back for its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from srch_dist.config.identity import to_dict
from srch_dist.storage.locations import Location
from srch_dist.storage.run.open import open_run


@dataclass(frozen=True)
class RunRecords:
    """The records of one run; see `storage.run` for the files.

    Attributes
    ----------
    name : of its directory, longer where several runs would have the same.
    bits : ``means`` and ``correlations``; None of a run that did not record them.
    evaluation, examples : None where there are none.
    """

    name: str
    path: Location
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    plan: Mapping[str, Any]
    bits: Mapping[str, NDArray[Any]] | None
    evaluation: Mapping[str, Any] | None
    examples: Mapping[str, Any] | None

    @property
    def directions(self) -> list[str]:
        """Directions that were evaluated, such as ``image_to_text``."""
        return list(self.evaluation["pair_recall"]) if self.evaluation else []


def load_records(paths: Sequence[str | Location]) -> list[RunRecords]:
    """Read the records of finished runs; raises StorageError where one is not."""
    found = [_load(path) for path in paths]
    names = _names([str(run.path) for run in found])
    return [
        RunRecords(**{**vars(run), "name": name}) for run, name in zip(found, names, strict=True)
    ]


def _load(path: str | Location) -> RunRecords:
    run = open_run(path)
    return RunRecords(
        name=run.path.name,
        path=run.path,
        config=to_dict(run.config()),
        summary=run.summary(),
        history=run.history(),
        plan=run.plan(),
        bits=run.bits(),
        evaluation=run.record("evaluation"),
        examples=run.record("examples"),
    )


def _names(places: Sequence[str]) -> list[str]:
    """The shortest ends of the places that tell them apart."""
    parts = [place.split("/") for place in places]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(set(places)):
            break
    return names


def shown(direction: str) -> str:
    """A direction as it is read: image → text."""
    return direction.replace("_to_", " → ")
