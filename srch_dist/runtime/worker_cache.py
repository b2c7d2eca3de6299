"""Give every worker a cache of objects on its own disk, for a run that lives in an object store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import distributed

from srch_dist.runtime.tasks import current_client
from srch_dist.storage.object_cache import use_cache

_NAME = "srch-dist-cache"
# Share of the free bytes of a worker's disk that its cache may use.
_DISK_SHARE = 0.9


class WorkerCache(distributed.WorkerPlugin):
    """Dask plugin that opens a worker's cache, of at most ``limit`` bytes, in its local directory.

    Dask sends it to workers that join later, too.
    """

    name = _NAME

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def setup(self, worker: distributed.Worker) -> None:
        """Open the cache of a worker that has started."""
        folder = Path(worker.local_directory)
        free = int(shutil.disk_usage(folder).free * _DISK_SHARE)
        use_cache(folder / _NAME, min(self.limit, free))

    def teardown(self, worker: distributed.Worker) -> None:
        """Remove the cache of a worker that stops, or of a run that has ended."""
        use_cache(Path(worker.local_directory) / _NAME, 0)


@contextmanager
def worker_caches(limit: int) -> Iterator[None]:
    """Let every worker cache at most ``limit`` bytes of objects in this context; 0 for none."""
    client = current_client()
    if client is None or not limit:
        yield
        return
    client.register_plugin(WorkerCache(limit))
    try:
        yield
    finally:
        # A scheduler that is lost has no plugins left; the error to report is in progress.
        if client.status == "running":
            client.unregister_worker_plugin(_NAME)
