"""Restart workers to free the memory of a module that they imported."""

from __future__ import annotations

import sys
from contextlib import suppress

from srch_dist.runtime.tasks import current_client

_RESTART_SECONDS = 600


def restart_workers(module: str) -> None:
    """Restart the workers of the current client that have imported ``module``.

    This frees the memory that the module keeps. Results persisted on these workers are lost.
    """
    client = current_client()
    if client is None:
        return
    # A worker that is lost during the call is restarted without the module.
    with suppress(OSError, KeyError):
        answers: dict[str, bool] = client.run(_has_imported, module, on_error="ignore")
        workers = [worker for worker, has_imported in answers.items() if has_imported]
        if workers:
            # Not client.restart: it also clears the scheduler's tasks, and fails with an assertion
            # if a released task is still being removed.
            client.restart_workers(workers, timeout=_RESTART_SECONDS, raise_for_error=False)


def _has_imported(module: str) -> bool:
    return module in sys.modules
