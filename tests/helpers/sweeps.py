"""Sweeps of small runs, and the codes of a run."""

from __future__ import annotations

import numpy as np
import zarr

from srch_dist.config.loading import build_config
from srch_dist.sweep import runner
from srch_dist.sweep.grid import parse_grid

OPTIONS = {"bits": 16, "graph": {"k": 5}, "partition_rows": 20, "method": {"iterations": 4}}


def sweep(data, out, grid, preset=None, **options):
    config = build_config({"data": str(data), **OPTIONS, **options}, preset)
    return runner.sweep_options(config, parse_grid(grid), out)


def codes(run) -> np.ndarray:
    return zarr.open_array(run / "codes.zarr", mode="r")[:]
