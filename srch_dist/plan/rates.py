"""Rates of a machine, from which the cost model computes seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """What one worker of one thread does per second, and assumptions about the data.

    Defaults are rounded and were measured on 2 cores of a small cloud machine, with
    ``--calibrate`` or as the text of the rate says.
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
    """Distances that exact search compares, without their products. Calibrated."""
    edges: float = 8.0e6
    """Directed edges sorted and merged. Calibrated."""
    sparse: float = 1.0e9
    """Multiplications in the product of a CSR matrix and a dense matrix, with most entries near the
    diagonal. Calibrated."""
    scan: float = 3.0e9
    """Bytes of scratch files read in sequence. Calibrated on cached files; a disk is slower."""
    similar: float = 5.0e8
    """Similarities to anchors, without their products. Measured by pipelines/scale."""
    stream: float = 5.0e9
    """Bytes that vector updates read and write in memory. Calibrated."""
    task: float = 2.0e-3
    """Seconds of the scheduler per task; one thread serves all workers. Calibrated."""
    descent: float = 8.0e6
    """Feature values that NN-descent indexes. Measured by pipelines/scale."""
    compile: float = 25.0
    """Seconds to compile NN-descent in a worker. Measured by pipelines/scale."""
    network: float = 1.25e9
    """Bytes between two workers. Assumed: 10 Gbit/s."""
    crossing: float = 0.5
    """Share of a row's edges that may leave its block; 1 if the row order is random. Assumed."""
    union: float = 1.5
    """Directed edges per row over k in a modality's union graph, at most 2; used until edges are
    counted. Measured by pipelines/scale."""
    cg_iterations: int = 7
    """Conjugate-gradient iterations per Z-step; generated pairs need 5 to 7 on average."""
