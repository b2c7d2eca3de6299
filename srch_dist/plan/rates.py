"""Rates of a machine, from which the cost model computes seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """Rates of one single-threaded worker, and assumptions about the data.

    Defaults are rounded, and measured on 2 cores of a small cloud machine. The text of a rate says
    if its default is assumed instead.
    """

    read: float = 1.5e9
    """Bytes of Zarr chunks read and verified per second. --calibrate measures this rate on
    cached files; a disk is slower."""
    write: float = 3.0e8
    """Bytes of Zarr chunks written per second. --calibrate measures this rate."""
    gemm: float = 8.0e10
    """Operations of float32 matrix products per second; multiply and add count as two. --calibrate
    measures this rate."""
    normalise: float = 5.0e7
    """Feature values summed for the mean, centred and scaled per second. --calibrate measures
    this rate."""
    pairs: float = 5.0e7
    """Distances that exact search compares per second, without the time of the matrix products.
    --calibrate measures this rate."""
    edges: float = 8.0e6
    """Directed edges sorted and merged per second. --calibrate measures this rate."""
    sparse: float = 1.0e9
    """Multiplications per second in the product of a sparse (CSR) and a dense matrix. Most entries
    of the sparse matrix are near its diagonal. --calibrate measures this rate."""
    scan: float = 3.0e9
    """Bytes of scratch files read in sequence per second. --calibrate measures this rate on cached
    files; a disk is slower."""
    similar: float = 5.0e8
    """Similarities to anchors per second, without the time of the matrix products. Measured by
    pipelines/scale."""
    stream: float = 5.0e9
    """Bytes that vector updates read and write in memory per second. --calibrate measures this
    rate."""
    task: float = 2.0e-3
    """Seconds that the scheduler needs per task; its one thread serves all workers. --calibrate
    measures it."""
    selected: float = 4.0e8
    """Distances from which the partitioned search selects the nearest per second, without the time
    of the matrix products. Measured by pipelines/scale."""
    distances: float = 8.0e8
    """Feature values subtracted, squared and summed in float64 per second. Measured by
    pipelines/scale."""
    leaves: int = 14
    """Leaves in which the partitioned search compares a row; generated pairs need 12 with 100,000
    rows and 14 with 300,000."""
    descent: float = 8.0e6
    """Feature values that NN-descent indexes per second. Measured by pipelines/scale."""
    compile: float = 25.0
    """Seconds to compile NN-descent in a worker. Measured by pipelines/scale."""
    network: float = 1.25e9
    """Bytes sent between two workers per second. Assumed: 10 Gbit/s."""
    crossing: float = 0.5
    """Share of edges (0 to 1) that may lead to other blocks; 1 if the row order is random.
    Assumed."""
    union: float = 1.5
    """Mean number of directed edges per row in a modality's union graph, divided by graph.k: 1 to
    2. Used until the edges are counted. Measured by pipelines/scale."""
    cg_iterations: int = 7
    """Conjugate-gradient iterations per Z-step; generated pairs need 5 to 7 on average."""
