"""Dask: tasks, cluster, preflight checks, watchdog, worker memory."""
