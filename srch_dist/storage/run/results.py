"""Read the results of a run, from a folder or from an object store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from srch_dist.config.loading import parse_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import StorageError
from srch_dist.storage.atomic_files import read_bytes, read_json
from srch_dist.storage.locations import Location
from srch_dist.storage.run.layout import P, ResultPaths
from srch_dist.storage.safe_npz import read_npz

FORMAT = 1


@dataclass(frozen=True)
class RunReader(ResultPaths[P]):
    """The records of a run; see `layout` for its files."""

    def bits(self) -> dict[str, NDArray[Any]] | None:
        """``means`` (l,) and ``correlations`` (l, l) of the learned bits; None in older runs."""
        return read_npz(self.bit_figures) if self.bit_figures.exists() else None

    def record(self, name: str) -> Any:
        """The record ``evaluation`` or ``examples``; None if the run has none."""
        path = self._at(f"{name}.json")
        return read_json(path) if path.exists() else None

    def config(self) -> TrainConfig:
        """Every option, as the run resolved it."""
        path = self._at("config.yaml")
        return parse_config(read_bytes(path).decode(), str(path))

    def plan(self) -> dict[str, Any]:
        """The record of the plan; see `plan.table.plan_record`."""
        return dict(read_json(self._at("plan.json")))

    def history(self) -> list[dict[str, Any]]:
        """One record per iteration."""
        text = read_bytes(self._at("history.jsonl")).decode()
        return [json.loads(line) for line in text.splitlines()]

    def summary(self) -> dict[str, Any]:
        """The summary that `RunRecords.finish` saved."""
        return dict(read_json(self._at("run.json"))["summary"])


# The results of a run on a disk or in an object store.
RunResults = RunReader[Location]


def read_head(folder: Location) -> dict[str, Any]:
    """The content of ``run.json``; raises StorageError if it is damaged or of another format."""
    head = read_json(folder / "run.json")
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise StorageError(f"{folder}/run.json is not of format {FORMAT}")
    return {"finished": False, **head}


def run_head(finished: bool) -> dict[str, Any]:
    """The first entries of ``run.json``."""
    return {"format": FORMAT, "finished": finished}
