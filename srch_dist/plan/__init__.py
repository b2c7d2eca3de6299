"""Memory, disk, network traffic and time of a run, computed from shapes before any work.

Four terms describe the memory of one worker, in bytes. They follow Cubed, except that reserved
memory is in neither allowed nor projected memory here.

memory limit
    What the worker may use: ``--memory-limit``, or the limit of a running Dask worker.
reserved memory
    Resident memory of an idle worker: its imports, and freed memory that its allocator keeps.
allowed memory
    What the tasks of one stage may use: 80 % of the memory limit, minus reserved memory.
projected memory
    Peak of what the tasks of a stage allocate in a worker, by the memory model.

A plan fits if no stage's projected memory exceeds the allowed memory. The other 20 % of the limit
are headroom: Dask pauses a worker that comes near its limit, and the page cache needs memory too.
"""
