"""Read the results of a run, from a folder or from an object store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from srch_dist.config.loading import parse_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import StorageError
from srch_dist.storage.atomic_files import read_bytes, read_json
from srch_dist.storage.checked_json import check_shape, read_checked, read_checked_lines
from srch_dist.storage.locations import Location
from srch_dist.storage.run.layout import P, ResultPaths
from srch_dist.storage.run.shapes import Evaluation, Examples, Head, Outcome
from srch_dist.storage.safe_npz import read_npz

FORMAT = 1
# What to do with a record that is damaged.
REMEDY = "Restore the file from a copy, or train the run again in another directory."
_SHAPES = {"evaluation": Evaluation, "examples": Examples}


@dataclass(frozen=True)
class RunReader(ResultPaths[P]):
    """Reads the records of a run; `layout` lists its files."""

    def bits(self) -> dict[str, NDArray[Any]] | None:
        """Read ``means`` (l,) and ``correlations`` (l, l) of the l bits; None in older runs."""
        return read_npz(self.bit_figures) if self.bit_figures.exists() else None

    def record(self, name: str) -> Any:
        """Read the JSON file ``evaluation`` or ``examples``; None if the run has none."""
        path = self._at(f"{name}.json")
        return read_checked(path, _SHAPES[name], REMEDY) if path.exists() else None

    def config(self) -> TrainConfig:
        """Read the resolved options of the run, including defaults."""
        path = self._at("config.yaml")
        return parse_config(read_bytes(path).decode(), str(path))

    def plan(self) -> dict[str, Any]:
        """Read the record of the plan; see `plan.table.plan_record`."""
        return read_checked(self._at("plan.json"), dict[str, Any], REMEDY)

    def history(self) -> list[dict[str, Any]]:
        """Read the records of all iterations, in order."""
        return read_checked_lines(self._at("history.jsonl"), REMEDY)

    def summary(self) -> dict[str, Any]:
        """Read the summary that `RunRecords.finish` saved."""
        return dict(read_checked(self._at("run.json"), Head, REMEDY)["summary"])

    def outcome(self) -> dict[str, Any]:
        """Read the summary of a finished run and check that it has the keys of `Outcome`."""
        return check_shape(self.summary(), Outcome, self._at("run.json"), REMEDY)


# The results of a run on a disk or in an object store.
RunResults = RunReader[Location]


def read_head(folder: Location) -> dict[str, Any]:
    """Read ``run.json``; raise StorageError if it is damaged or has another format version."""
    head = read_json(folder / "run.json")
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise StorageError(f"{folder}/run.json is not of format {FORMAT}")
    return {"finished": False, **head}


def run_head(finished: bool) -> dict[str, Any]:
    """Return the first entries of ``run.json``: its format, and whether the run is finished."""
    return {"format": FORMAT, "finished": finished}
