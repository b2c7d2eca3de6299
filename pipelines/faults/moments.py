"""Faults at moments: functions of the package are wrapped, and what is armed happens in them.

Only processes that import this arm anything: a worker by Dask's ``--preload
pipelines.faults.moments``, a client by ``python -m pipelines.faults.client``. The package itself
knows nothing of it. A fault is a file ``armed-*.json`` in the folder that the variable
SRCH_DIST_FAULTS names, with the function it happens ``at``, what to ``do``, and whether it is
done ``once``; who claims the file does it.
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

# The moments of a run, by phase: where a function may have moved to, all places are named.
WORKER_MOMENTS = {
    "means": ["srch_dist.algorithm.features.normalise:_partition_sums"],
    "set aside": ["srch_dist.algorithm.features.normalise:_spill_partition"],
    "gather": ["srch_dist.algorithm.features.row_order:_gather_partition"],
    "neighbours": ["srch_dist.algorithm.graph.exact:_search_partition"],
    "edges": ["srch_dist.algorithm.graph.build:_write_run"],
    "weights": ["srch_dist.algorithm.graph.build:_write_weights"],
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
    "stage": ["srch_dist.storage.run.stages:StageLog.commit"],
    "column group": ["srch_dist.storage.run.checkpoint_store:CheckpointStore.commit_column_group"],
    "commit": ["srch_dist.storage.run.checkpoint_store:CheckpointStore.commit"],
    "model": ["srch_dist.train.pipeline:save_model"],
    "finish": ["srch_dist.storage.run.records:RunRecords.finish"],
}


def arm(folder: Path, at: str, do: str, call: int = 1, once: bool = True) -> Path:
    """Let ``do`` happen in the ``call``-th call of a moment, or in every one from then on.

    Returns the file that says so; it is gone, or renamed, when the fault has happened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"armed-{uuid.uuid4().hex}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"at": at, "do": do, "call": call, "once": once}))
    partial.rename(path)
    return path


def happened(folder: Path) -> int:
    """How many armed faults have been done."""
    return len(list(folder.glob("done-*")))


def disarm(folder: Path) -> None:
    """Forget every fault."""
    shutil.rmtree(folder, ignore_errors=True)


def wrap(moments: dict[str, list[str]]) -> None:
    """Wrap the functions of the moments in this process."""
    for name, places in moments.items():
        if not any(_wrap(name, place) for place in places):
            raise LookupError(f"no function of the moment {name!r} is at {' or '.join(places)}")


def dask_setup(_worker: Any) -> None:
    """What Dask calls in a worker that preloads this module."""
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
    setattr(owner, last, _watched(name, function))
    return True


def _watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    calls = [0]

    @functools.wraps(function)
    def watched(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        for path in Path(os.environ[FOLDER]).glob("armed-*.json"):
            _consider(path, name, calls[0])
        return function(*arguments, **options)

    return watched


def _consider(path: Path, name: str, calls: int) -> None:
    try:
        fault = json.loads(path.read_text())
    except FileNotFoundError:  # another process was faster
        return
    if fault["at"] != name or calls < fault["call"]:
        return
    if fault["once"]:
        try:
            path.rename(path.with_name(f"done-{path.name}"))
        except FileNotFoundError:
            return
    _DEEDS[fault["do"]]()


def _fill_memory() -> None:
    hoard = []
    while True:  # the nanny looks at it a few times a second
        hoard.append(b"x" * (32 << 20))
        time.sleep(0.01)


def _signal(number: int) -> Callable[[], None]:
    def deed() -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)  # until it is delivered; a handler may raise here

    return deed


def _hang() -> None:
    """Stand still while the process answers as ever."""
    time.sleep(3600)


def _hold() -> None:
    """Stand still until a file ``go`` is in the folder of the faults."""
    while not (Path(os.environ[FOLDER]) / "go").exists():
        time.sleep(0.05)


def _exhaust() -> None:
    print("out of memory", file=sys.stderr)
    os._exit(137)


_DEEDS: dict[str, Callable[[], None]] = {
    "kill": _signal(signal.SIGKILL),
    "terminate": _signal(signal.SIGTERM),
    "interrupt": _signal(signal.SIGINT),
    "stop": _signal(signal.SIGSTOP),
    "exhaust": _exhaust,
    "fill memory": _fill_memory,
    "hang": _hang,
    "hold": _hold,
}
