"""Fixtures of the ingest tests."""

from __future__ import annotations

import numpy as np
import pytest

from srch_dist.ingest.pipeline import ingest_source


@pytest.fixture
def ingest(tmp_path):
    """A function that saves arrays and ingests them."""

    def ingested(arrays, save=np.savez, **options):
        save(tmp_path / "source.npz", **arrays)
        return ingest_source(tmp_path / "source.npz", tmp_path / "store.zarr", **options)

    return ingested
