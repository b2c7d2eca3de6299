"""Estimate memory, disk space, network traffic and time of a run before it starts, from shapes.

Four terms of the library Cubed describe the memory of one worker, in bytes. In Cubed, allowed
memory and projected memory include reserved memory. Here they do not.

memory limit
    Memory that the worker may use: ``--memory-limit``, or the limit of a running Dask worker.
reserved memory
    Resident memory of an idle worker: imports, and freed memory that the allocator keeps.
allowed memory
    Memory that the tasks of a stage may use: 80 % of the memory limit, minus reserved memory.
projected memory
    Estimated peak memory that the tasks of a stage allocate in a worker.

A plan fits if no stage's projected memory exceeds the allowed memory. The remaining 20 % of the
limit are headroom: Dask pauses a worker near its limit, and the page cache needs memory too.
"""
