"""Workers are restarted if they have imported a module, and if nobody else uses them."""

import importlib
import os

import distributed
import pytest

from srch_dist.runtime import cluster as cluster_module
from srch_dist.runtime import workers
from srch_dist.runtime.cluster import connect
from srch_dist.runtime.progress import silent

pytestmark = pytest.mark.cluster


def test_workers_that_have_imported_a_module_start_anew_where_nobody_else_uses_them():
    with connect(workers=1) as cluster:
        client = distributed.default_client()
        before = client.run(os.getpid)
        assert cluster.restarts
        workers.restart_workers("tabnanny")
        assert client.run(os.getpid) == before
        client.run(importlib.import_module, "tabnanny")
        workers.restart_workers("tabnanny")
        after = client.run(os.getpid)
        assert len(after) == 1
        assert set(before.values()).isdisjoint(after.values())
        address = client.scheduler.address
        with distributed.Client(address, security=client.security, set_as_default=False):
            assert not cluster_module._describe(client, silent()).restarts
