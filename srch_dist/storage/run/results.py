"""Read the results of a run, from a folder or from an object store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from srch_dist.config.loading import parse_config
from srch_dist.config.options import TrainConfig
from srch_dist.errors import StorageError
from srch_dist.kernels.types import IntArray, Packed
from srch_dist.storage import arrays
from srch_dist.storage.atomic_files import check_manifest, decode_text, parse_json, read_json
from srch_dist.storage.checked_json import check_shape, parse_checked_lines
from srch_dist.storage.locations import Location
from srch_dist.storage.recorded_runs import read_verified, recorded_runs
from srch_dist.storage.run.head import (
    REMEDY,
    array_metadata,
    check_array,
    read_head,
    read_record,
    recorded_checksums,
    run_identity,
)
from srch_dist.storage.run.layout import P, ResultPaths
from srch_dist.storage.run.shapes import Evaluation, Examples, Head, Outcome
from srch_dist.storage.safe_npz import unpack_npz

_SHAPES = {"evaluation": Evaluation, "examples": Examples}
# Key of these files: the `run_identity` of the run that wrote them.
RUN = "run"
_REMEDY_OF_SCORES = (
    "Delete the file, then write it again: pass the options of the run and --resume to "
    "srch_dist.train."
)


@dataclass(frozen=True)
class RunReader(ResultPaths[P]):
    """Reads the records of a run; the module `layout` lists the files."""

    def bits(self) -> dict[str, NDArray[Any]] | None:
        """Read ``means`` (l,) and ``correlations`` (l, l) of the l bits; None in older runs."""
        path = self.bit_figures
        if not path.exists() and path.name not in recorded_checksums(self.path):
            return None
        return unpack_npz(read_record(path), str(path))

    def record(self, name: str) -> Any:
        """Read the JSON file ``evaluation`` or ``examples``; None if the run has none.

        Raises
        ------
        StorageError : the file is damaged, or it belongs to another run.
        """
        path = self._at(f"{name}.json")
        if not path.exists():
            return None
        content = read_json(path)
        if isinstance(content, dict) and RUN in content:  # earlier versions recorded no run
            content = check_manifest(content, path, _REMEDY_OF_SCORES)
            if content.pop(RUN) != run_identity(self.path):
                raise StorageError(f"{path} belongs to another run. {_REMEDY_OF_SCORES}")
        return check_shape(content, _SHAPES[name], path, _REMEDY_OF_SCORES)

    def read_rows(self) -> IntArray:
        """Read the numbers (n,) of the training rows in the feature store; they ascend."""
        rows: IntArray = _read_checked(self.rows)
        return rows

    def read_queries(self) -> IntArray | None:
        """Read the numbers (m,) of the held-out rows in the feature store; None if none are.

        Raises
        ------
        StorageError : the run held out rows, but the array is missing, damaged or of another run.
        """
        return _read_checked(self.queries) if self.has_held_out() else None

    def has_held_out(self) -> bool:
        """Whether the run held out queries."""
        listed = array_metadata(self.queries.name) in recorded_checksums(self.path)
        return listed or self.queries.exists()

    def read_codes(self, start: int = 0, stop: int | None = None) -> Packed:
        """Read the codes (stop - start, bits / 8) of a range of the training rows; default: all."""
        codes: Packed = _read_checked(self.codes, start, stop)
        return codes

    def config(self) -> TrainConfig:
        """Read the resolved options of the run, including defaults."""
        path = self._at("config.yaml")
        return _parse_recorded(read_record(path), path)

    def plan(self) -> dict[str, Any]:
        """Read the record of the plan; see `plan.table.plan_record`."""
        path = self._at("plan.json")
        plan: dict[str, Any] = parse_json(read_record(path), path)
        return check_shape(plan, dict[str, Any], path, REMEDY)

    def history(self) -> list[dict[str, Any]]:
        """Read the records of all iterations, in order."""
        path = self._at("history.jsonl")
        return parse_checked_lines(read_record(path), path, REMEDY)

    def summary(self) -> dict[str, Any]:
        """Read the summary that `RunRecords.finish` saved."""
        head = check_shape(read_head(self.path), Head, self._at("run.json"), REMEDY)
        return dict(head["summary"])

    def outcome(self) -> dict[str, Any]:
        """Read the summary of a finished run and check that it has the keys of `Outcome`."""
        return check_shape(self.summary(), Outcome, self._at("run.json"), REMEDY)


# The results of a run on a disk or in an object store.
RunResults = RunReader[Location]


def _read_checked(path: Location, start: int = 0, stop: int | None = None) -> Any:
    check_array(path)
    array = arrays.open_array(path)
    stop = array.shape[0] if stop is None else stop
    return read_verified(path, recorded_runs(path, array), start, stop)


def _parse_recorded(content: bytes, path: Location) -> TrainConfig:
    try:
        text = decode_text(content)
    except UnicodeDecodeError:
        text = ""
    # `dump_config` writes every option, and the section tls last. Without its end, a file would
    # look like the options of another run.
    if not (text.endswith("\n") and "\ntls:" in text):
        raise StorageError(f"{path} is damaged: it is not a complete list of options. {REMEDY}")
    return parse_config(text, str(path))
