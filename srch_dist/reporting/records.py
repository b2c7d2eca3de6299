"""What a finished run has recorded, read back for its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from srch_dist.config import load_config, to_dict
from srch_dist.storage.run import open_run


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
    path: Path
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


def load_records(paths: Sequence[Path]) -> list[RunRecords]:
    """Read the records of finished runs; raises StorageError where one is not."""
    found = [_load(path) for path in paths]
    names = _names([run.path for run in found])
    return [
        RunRecords(**{**vars(run), "name": name}) for run, name in zip(found, names, strict=True)
    ]


def _load(path: Path) -> RunRecords:
    run = open_run(path)
    return RunRecords(
        name=run.path.name,
        path=run.path,
        config=to_dict(load_config(run.path / "config.yaml")),
        summary=run.summary(),
        history=run.history(),
        plan=run.plan(),
        bits=run.bits(),
        evaluation=run.record("evaluation"),
        examples=run.record("examples"),
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    longest = max(len(path.parts) for path in paths)
    for parts in range(1, longest + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            return names
    return [str(path) for path in paths]


def shown(direction: str) -> str:
    """A direction as it is read: image → text."""
    return direction.replace("_to_", " → ")
