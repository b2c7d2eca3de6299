"""Rates of a machine, from which the cost model computes seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """Rates of one single-threaded worker per second, and assumptions about the data.

    Defaults are rounded. They were measured on 2 cores of a small cloud machine, with
    ``--calibrate`` unless the text of a rate says otherwise.
    """

    read: float = 1.5e9
    """Bytes of Zarr chunks read and verified. Calibrated on cached files; a disk is slower."""
    write: float = 3.0e8
    """Bytes of Zarr chunks written. Calibrated."""
    gemm: float = 8.0e10
    """Operations of float32 matrix products; multiply and add count as two. Calibrated."""
    normalise: float = 5.0e7
    """Feature values summed for the mean, centred and scaled. Calibrated."""
    pairs: float = 5.0e7
    """Distances that exact search compares, without the matrix products. Calibrated."""
    edges: float = 8.0e6
    """Directed edges sorted and merged. Calibrated."""
    sparse: float = 1.0e9
    """Multiplications in the product of a CSR matrix and a dense matrix, with most entries near the
    diagonal. Calibrated."""
    scan: float = 3.0e9
    """Bytes of scratch files read in sequence. Calibrated on cached files; a disk is slower."""
    similar: float = 5.0e8
    """Similarities to anchors, without the matrix products. Measured by pipelines/scale."""
    stream: float = 5.0e9
    """Bytes that vector updates read and write in memory. Calibrated."""
    task: float = 2.0e-3
    """Seconds of the scheduler per task; one thread serves all workers. Calibrated."""
    descent: float = 8.0e6
    """Feature values that NN-descent indexes. Measured by pipelines/scale."""
    compile: float = 25.0
    """Seconds to compile NN-descent in a worker. Measured by pipelines/scale."""
    network: float = 1.25e9
    """Bytes sent between two workers. Assumed: 10 Gbit/s."""
    crossing: float = 0.5
    """Share of edges that may lead to other blocks; 1 if the row order is random. Assumed."""
    union: float = 1.5
    """Directed edges per row / k in a modality's union graph, 1 to 2. Used until edges are counted.
    Measured by pipelines/scale."""
    cg_iterations: int = 7
    """Conjugate-gradient iterations per Z-step; generated pairs need 5 to 7 on average."""
