"""Restart workers that hold compiled code."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TypeVar

from srch_dist.runtime.tasks import current_client

S = TypeVar("S")
T = TypeVar("T")


_RESTART_SECONDS = 600


def restart_workers(module: str) -> None:
    """Start the workers of the current client anew that have imported ``module``.

    What it keeps in their memory is gone then, and results that are kept on them are lost.
    """
    client = current_client()
    if client is None:
        return
    # One that goes away just now comes back without it.
    with suppress(OSError, KeyError):
        holding: dict[str, bool] = client.run(_imported, module, on_error="ignore")
        workers = [worker for worker, held in holding.items() if held]
        if workers:
            # Not client.restart: the scheduler then clears its tasks too, and fails (an assertion)
            # where one that was let go of is still on its way out.
            client.restart_workers(workers, timeout=_RESTART_SECONDS, raise_for_error=False)


def _imported(module: str) -> bool:
    return module in sys.modules
