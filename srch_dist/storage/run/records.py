"""Write the records of a run: plan, history, bit statistics, evaluation, summary."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist.config.identity import fingerprint
from srch_dist.config.options import TrainConfig
from srch_dist.storage.atomic_files import read_bytes, write_json, write_manifest, write_text
from srch_dist.storage.durable import flush
from srch_dist.storage.failures import storage_error
from srch_dist.storage.locations import Location, S3Path, is_file
from srch_dist.storage.run.head import CHECKSUMS, array_metadata, run_head, run_identity
from srch_dist.storage.run.layout import RunPaths
from srch_dist.storage.run.results import RUN, RunReader
from srch_dist.storage.run.stages import StageLog
from srch_dist.storage.safe_npz import write_npz

# Records and metadata of arrays that a finished run no longer changes. The evaluation, the examples
# and the page are written after its end, and again by later commands.
_FINAL = (
    *("config.yaml", "plan.json", "history.jsonl", "model.npz", "bits.npz", "baseline.npz"),
    *(array_metadata(name) for name in ("codes.zarr", "rows.zarr", "queries.zarr")),
)


@dataclass(frozen=True)
class RunRecords(RunPaths, RunReader[Location]):
    """Writes and reads the records of a run directory."""

    def stages(self, config: TrainConfig) -> StageLog:
        """Open the log of the finished stages (without the iterations) for ``config``."""
        return StageLog(self.work / "stages", fingerprint(config))

    def write_plan(self, record: Mapping[str, Any]) -> None:
        """Save the plan; see `plan.table.plan_record`."""
        write_json(self.path / "plan.json", record)

    def append_history(self, record: Mapping[str, Any]) -> None:
        """Append the record of one iteration to ``history.jsonl``."""
        path = self.path / "history.jsonl"
        line = json.dumps(record) + "\n"
        if isinstance(path, S3Path):  # objects cannot grow
            before = path.read_bytes() if is_file(path) else b""
            path.write_bytes(before + line.encode())
            return
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise storage_error("write", path, error) from None

    def restart_history(self, records: list[Any]) -> None:
        """Replace the content of ``history.jsonl`` by ``records``, one per iteration."""
        write_text(self.path / "history.jsonl", "".join(json.dumps(one) + "\n" for one in records))

    def write_bits(self, means: NDArray[Any], correlations: NDArray[Any]) -> None:
        """Save the means (l,) and correlations (l, l) of the l bits of the learned codes."""
        values = {"means": means, "correlations": correlations.astype(np.float32)}
        write_npz(self.bit_figures, values)

    def write_record(self, name: str, record: Any) -> None:
        """Write ``record`` to the file NAME.json; ``name`` is "evaluation" or "examples".

        The file also gets the identity of the run and a checksum, which `RunReader.record` checks.
        """
        write_manifest(self.path / f"{name}.json", {**record, RUN: run_identity(self.path)})

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Flush the run to disk, then mark it as finished in ``run.json``.

        The file also gets ``summary``, and checksums of the records that no longer change.
        """
        flush(self.path)
        records = {name: self.path / name for name in _FINAL}
        written = {name: path for name, path in records.items() if path.exists()}
        checksums = {name: zlib.crc32(read_bytes(path)) for name, path in written.items()}
        head = {**run_head(True), "summary": dict(summary), CHECKSUMS: checksums}
        write_manifest(self.path / "run.json", head)
