"""Run work on Dask: clusters, preflight checks, tasks, a watchdog, and memory of workers."""
