"""The benchmark of chunk readers."""

from __future__ import annotations

import pytest

from pipelines.scale.chunk_reader import Options, measure

pytestmark = pytest.mark.slow


def test_every_reader_is_measured_and_zarr_and_direct_reads_refuse_a_flipped_bit():
    lines = list(measure(Options(rows=1024, chunk_mib=(1,), repeats=1)))
    found = {(line[1], line[2]): line for line in lines}
    for place in ("one chunk", "two halves"):
        for reader in ("zarr", "direct"):
            assert found[place, reader][-1] == "refused"
        assert float(found[place, "direct"][5]) == 1
    assert all(float(cell) > 0 for line in lines for cell in line[3:6])
