"""Ingest streams: its memory does not grow with the arrays."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

pytestmark = pytest.mark.slow

ROWS, DIMS = 50_000, 1024  # 195 MiB of float32

_MEASURE = """
import resource, sys
from srch_dist import ingest_source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store = ingest_source(sys.argv[1], sys.argv[2], rows_per_chunk=2000)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(store.rows, store.modalities["image"], after - before)
"""


def test_peak_memory_is_a_small_part_of_the_array(tmp_path):
    block = np.arange(1000 * DIMS, dtype=np.float32)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("image.npy", "w") as member:
            npy.write_array_header_1_0(
                member, {"descr": "<f4", "fortran_order": False, "shape": (ROWS, DIMS)}
            )
            for _ in range(ROWS // 1000):
                member.write(block.tobytes())
        text = io.BytesIO()
        np.save(text, np.ones((ROWS, 2), dtype=np.float32))
        archive.writestr("text.npy", text.getvalue())
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, tmp_path / "a.npz", tmp_path / "a.zarr"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows, dims, grown = map(int, done.stdout.split())
    assert (rows, dims) == (ROWS, DIMS)
    assert grown * 1024 < ROWS * DIMS * 4 / 3
