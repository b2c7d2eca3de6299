"""What a worker does in a second: what seconds of a plan are reckoned with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """What one worker (one thread) does in a second, and what is taken as known of the data.

    The defaults are rounded figures of two cores of a small cloud machine: those that
    ``--calibrate`` measures are of its run there, the others as their lines say.
    """

    read: float = 1.5e9
    """Bytes of Zarr chunks read and checked. Calibrated from the page cache: cold is slower."""
    write: float = 3.0e8
    """Bytes of Zarr chunks written. Calibrated."""
    gemm: float = 8.0e10
    """Operations (a multiplication and an addition are two) of float32 products. Calibrated."""
    normalise: float = 5.0e7
    """Values summed for the mean, centred and scaled. Calibrated."""
    pairs: float = 5.0e7
    """Distances that exact search sifts, beside its products. Calibrated."""
    edges: float = 8.0e6
    """Directed edges sorted and merged. Calibrated."""
    sparse: float = 1.0e9
    """Multiplications of a CSR by a dense matrix, most of its columns near its rows. Calibrated."""
    scan: float = 3.0e9
    """Bytes of scratch files read in runs. Calibrated from the page cache."""
    similar: float = 5.0e8
    """Similarities to anchors, beside their products. From runs of `pipelines/scale`."""
    stream: float = 5.0e9
    """Bytes that vector updates read and write in memory. Calibrated."""
    task: float = 2.0e-3
    """Seconds of the scheduler a task; it has one thread for all workers. Calibrated."""
    descent: float = 8.0e6
    """Row values (rows × dimensions) of an NN-descent index. From runs of `pipelines/scale`."""
    compile: float = 25.0
    """Seconds to compile NN-descent in a worker. From the same runs."""
    network: float = 1.25e9
    """Bytes between two workers: 10 Gbit/s, by assumption."""
    crossing: float = 0.5
    """Share of a row's edges that may leave its block; 1 for rows in no order. By assumption."""
    union: float = 1.5
    """Ends of edges a row over k, in a modality's graph of edges found from either end (2 at
    most). From the same runs; counted ones come before it."""
    cg_iterations: int = 7
    """Conjugate-gradient iterations a Z-step: generated pairs take 5 to 7 on the mean."""
