"""What a finished run directory holds, read from a folder or an object store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from srch_dist.config.loading import parse_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import StorageError
from srch_dist.storage.atomic_files import (
    read_bytes,
    read_json,
)
from srch_dist.storage.locations import Location
from srch_dist.storage.safe_npz import read_npz

FORMAT = 1


@dataclass(frozen=True)
class RunResults:
    """What a finished run is read for, on disk or in an object store."""

    path: Location

    @property
    def model(self) -> Location:
        """The model file."""
        return self.path / "model.npz"

    @property
    def codes(self) -> Location:
        """Learned codes, uint8 (n, bits / 8), in the order of ``rows``; an array at the root."""
        return self.path / "codes.zarr"

    @property
    def rows(self) -> Location:
        """Row numbers (n,) in the feature store of the rows trained on, ascending."""
        return self.path / "rows.zarr"

    @property
    def queries(self) -> Location:
        """Row numbers held out as queries."""
        return self.path / "queries.zarr"

    @property
    def baseline(self) -> Location:
        """The model file of the baseline."""
        return self.path / "baseline.npz"

    @property
    def page(self) -> Location:
        """The report as a page."""
        return self.path / "report.html"

    @property
    def bit_figures(self) -> Location:
        """The file of `bits`."""
        return self.path / "bits.npz"

    def bits(self) -> dict[str, NDArray[Any]] | None:
        """Mean (l,) and correlations (l, l) of the learned bits; None in runs of before."""
        return read_npz(self.bit_figures) if self.bit_figures.exists() else None

    def record(self, name: str) -> Any:
        """What `RunDirectory.write_record` saved; None where nothing was."""
        path = self.path / f"{name}.json"
        return read_json(path) if path.exists() else None

    def config(self) -> TrainConfig:
        """Every option, as the run resolved it."""
        path = self.path / "config.yaml"
        return parse_config(read_bytes(path).decode(), str(path))

    def plan(self) -> dict[str, Any]:
        """What `RunDirectory.write_plan` saved."""
        return dict(read_json(self.path / "plan.json"))

    def history(self) -> list[dict[str, Any]]:
        """The records of all iterations."""
        text = read_bytes(self.path / "history.jsonl").decode()
        return [json.loads(line) for line in text.splitlines()]

    def summary(self) -> dict[str, Any]:
        """What `RunDirectory.finish` recorded."""
        return dict(read_json(self.path / "run.json")["summary"])


def read_head(folder: Location) -> dict[str, Any]:
    """What ``run.json`` says; raises StorageError where it is none of this format."""
    head = read_json(folder / "run.json")
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise StorageError(f"{folder}/run.json is not of format {FORMAT}")
    return {"finished": False, **head}


def run_head(finished: bool) -> dict[str, Any]:
    """What ``run.json`` begins with."""
    return {"format": FORMAT, "finished": finished}
