"""Inject faults at named moments of a run: wrapped functions of srch_dist trigger armed faults.

Faults happen only in processes that import this module: workers by Dask's ``--preload
pipelines.faults.moments``, clients by ``python -m pipelines.faults.client``. srch_dist has no code
for it. An armed fault is a file ``armed-*.json`` in the folder named by the variable
SRCH_DIST_FAULTS. It states the moment (``at``), the action (``do``), the call from which it is due
(``call``) and whether it happens only ``once``: then the process that renames the file executes it.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = "SRCH_DIST_FAULTS"

# Functions at which faults can happen, by moment. Several places are alternatives: the first that
# exists is wrapped.
WORKER_MOMENTS = {
    "means": ["srch_dist.algorithm.features.normalise:_partition_sums"],
    "set aside": ["srch_dist.algorithm.features.normalise:_spill_partition"],
    "gather": ["srch_dist.algorithm.features.row_order:_gather_partition"],
    "neighbours": ["srch_dist.algorithm.neighbour_graph.exact:_search_partition"],
    "edges": ["srch_dist.algorithm.neighbour_graph.build:_write_run"],
    "weights": ["srch_dist.algorithm.neighbour_graph.build:_write_weights"],
    "load": ["srch_dist.algorithm.solver.block_graph:_load_block"],
    "solve": ["srch_dist.algorithm.solver.conjugate_gradients:_step"],
    "store z": ["srch_dist.algorithm.z_step:_store_block"],
    "rebase": ["srch_dist.algorithm.s_step:_edge_lengths"],
    "codes": ["srch_dist.algorithm.b_step:_update_partition"],
    "anchors": ["srch_dist.algorithm.encoders.regression:_anchor_sums"],
    "spread": ["srch_dist.algorithm.encoders.final_codes:_spread_span"],
    "restore": ["srch_dist.algorithm.encoders.final_codes:_reorder_codes"],
    "encode": ["srch_dist.encode.batch:_encode_span"],
}
CLIENT_MOMENTS = {
    "ingest": ["srch_dist.storage.feature_store:FeatureWriter.write"],
    "ingested": ["srch_dist.storage.feature_store:FeatureWriter.finish"],
    "ingest tidied": ["srch_dist.storage.journal:Journal.remove"],
    "stage": ["srch_dist.storage.run.stages:StageLog.commit"],
    "column group": ["srch_dist.storage.run.checkpoint_store:CheckpointStore.commit_column_group"],
    "commit": ["srch_dist.storage.run.checkpoint_store:CheckpointStore.commit"],
    "model": ["srch_dist.train.pipeline:save_model"],
    "finish": ["srch_dist.storage.run.records:RunRecords.finish"],
}
# Moments at which outputs are nearly whole. The soak test draws from the two tables above only.
OUTPUT_MOMENTS = {
    "score": ["srch_dist.train.runner:score_run"],
    "encoded": ["srch_dist.encode.batch:move"],
    "exported": ["srch_dist.runtime.progress:CountedStage.advance"],
}


def arm(folder: Path, at: str, do: str, call: int = 1, once: bool = True) -> Path:
    """Arm a fault.

    Parameters
    ----------
    folder : Path
        Folder that SRCH_DIST_FAULTS names in the processes concerned.
    at : str
        Moment; a key of `WORKER_MOMENTS`, `CLIENT_MOMENTS` or `OUTPUT_MOMENTS`.
    do : str
        Action; a key of `_ACTIONS`.
    call : int
        Call of the moment, counted from 1 per process, from which the fault is due.
    once : bool
        Trigger in one call only; otherwise in every call from then on.

    Returns
    -------
    Path
        File of the fault. A fault with ``once`` renames it when it happens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"armed-{uuid.uuid4().hex}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"at": at, "do": do, "call": call, "once": once}))
    partial.rename(path)
    return path


def happened(folder: Path) -> int:
    """Number of faults with ``once`` that have happened."""
    return len(list(folder.glob("done-*")))


def disarm(folder: Path) -> None:
    """Remove all faults."""
    shutil.rmtree(folder, ignore_errors=True)


def wrap(moments: dict[str, list[str]]) -> None:
    """Wrap the functions of all moments in this process.

    Raises
    ------
    LookupError
        A function does not exist.
    """
    for name, places in moments.items():
        if not any(_wrap(name, place) for place in places):
            raise LookupError(f"moment {name!r}: no function at {' or '.join(places)}")


def dask_setup(_worker: Any) -> None:
    """Hook that Dask calls in a worker that preloads this module."""
    wrap(WORKER_MOMENTS)


def _wrap(name: str, place: str) -> bool:
    module, _, attribute = place.partition(":")
    try:
        owner: Any = importlib.import_module(module)
    except ModuleNotFoundError:
        return False
    *path, last = attribute.split(".")
    for part in path:
        owner = getattr(owner, part)
    function = owner.__dict__.get(last) if path else getattr(owner, last, None)
    if function is None:
        return False
    setattr(owner, last, _with_faults(name, function))
    return True


def _with_faults(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, preceded in each call by the faults that are due at moment ``name``."""
    calls = [0]

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        for path in Path(os.environ[FOLDER]).glob("armed-*.json"):
            _trigger_if_due(path, name, calls[0])
        return function(*arguments, **options)

    return wrapped


def _trigger_if_due(path: Path, name: str, calls: int) -> None:
    try:
        fault = json.loads(path.read_text())
    except FileNotFoundError:  # another process claimed it
        return
    if fault["at"] != name or calls < fault["call"]:
        return
    if fault["once"]:
        try:
            path.rename(path.with_name(f"done-{path.name}"))
        except FileNotFoundError:
            return
    _ACTIONS[fault["do"]]()


def _fill_memory() -> None:
    blocks = []
    while True:  # slow enough for the nanny, which measures a few times per second
        blocks.append(b"x" * (32 << 20))
        time.sleep(0.01)


def _signal(number: int) -> Callable[[], None]:
    def send() -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)  # wait for delivery; a handler may raise here

    return send


def _hang() -> None:
    """Block the task while heartbeats continue."""
    time.sleep(3600)


def _hold() -> None:
    """Block until the folder of the faults has a file ``go``."""
    while not (Path(os.environ[FOLDER]) / "go").exists():
        time.sleep(0.05)


def _exhaust() -> None:
    """Exit as the kernel's out-of-memory killer makes a process exit."""
    print("out of memory", file=sys.stderr)
    os._exit(137)


_ACTIONS: dict[str, Callable[[], None]] = {
    "kill": _signal(signal.SIGKILL),
    "terminate": _signal(signal.SIGTERM),
    "interrupt": _signal(signal.SIGINT),
    "stop": _signal(signal.SIGSTOP),
    "exhaust": _exhaust,
    "fill memory": _fill_memory,
    "hang": _hang,
    "hold": _hold,
}
