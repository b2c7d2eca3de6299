"""Run a command of srch_dist with faults: `python -m pipelines.faults.client COMMAND …`."""

from __future__ import annotations

import importlib
import sys

from pipelines.faults.moments import CLIENT_MOMENTS, OUTPUT_MOMENTS, wrap

if __name__ == "__main__":
    wrap(CLIENT_MOMENTS | OUTPUT_MOMENTS)
    name = sys.argv.pop(1)
    importlib.import_module(f"srch_dist.{name}.__main__").main()
