"""Codes, their store with side columns of several types, and the nearest rows that search finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import zarr

from srch_dist.ingest.pipeline import ingest_source
from srch_dist.search.hamming import search_codes
from srch_dist.storage import code_store as code_files
from srch_dist.storage.code_store import CodeStore, open_codes
from srch_dist.storage.feature_store import FeatureStore

ROWS = 500
TEXTS = ["plain", "tab\there", "back\\slash", "line\nbreak", 'quo"te', "☘️ leaf", "it's", "\\.", ""]


@dataclass(frozen=True)
class Encoded:
    """Codes with their store; queries, and what `search_codes` finds for them."""

    codes: CodeStore
    store: FeatureStore
    queries: np.ndarray
    top: int

    def values(self) -> np.ndarray:
        return self.codes.read(0, self.codes.rows)

    def side(self, name: str) -> list:
        return self.store.read(name).tolist()

    def check_nearest(self, rows, distances) -> None:
        """Compare (q, top) results with those of `search_codes`: rows up to ties of the last."""
        rows, distances = np.array(rows), np.array(distances)
        found = search_codes(self.codes, self.queries, self.top)
        np.testing.assert_array_equal(distances, found.distances)
        for query, near, at, wanted in zip(self.queries, rows, distances, found.rows, strict=True):
            assert set(near[at < at[-1]]) == set(wanted[at < at[-1]])
            assert len(set(near)) == self.top
            true = np.bitwise_count(self.values()[near] ^ query).sum(axis=1)
            np.testing.assert_array_equal(true, at)


@pytest.fixture(params=[40, 128], ids=["40bits", "128bits"])
def encoded(tmp_path, monkeypatch, request):
    bits = request.param
    monkeypatch.setattr(code_files, "_RUN_BYTES", 1500)  # several runs
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (ROWS, bits // 8), dtype=np.uint8)
    array = zarr.create_array(
        str(tmp_path / "codes.zarr"),
        shape=values.shape,
        chunks=(33, bits // 8),
        dtype="u1",
        compressors=zarr.codecs.Crc32cCodec(),
        attributes={"modality": "image", "bits": bits, "bitorder": "little"},
    )
    array[:] = values
    pairs = {"image": np.ones((ROWS, 2)), "text": np.ones((ROWS, 2))}
    side = {
        "ids": np.arange(ROWS, dtype=np.int32) * 3,
        "titles": np.array([f"{TEXTS[row % len(TEXTS)]} {row}" for row in range(ROWS)]),
        "big": np.arange(2**64 - ROWS, 2**64, dtype=np.uint64),
        "score": rng.normal(size=ROWS),
        "fresh": np.arange(ROWS) % 3 == 0,
        "labels": np.eye(4, dtype=np.int8)[np.arange(ROWS) % 4],
    }
    store = ingest_source(pairs | side, tmp_path / "a.zarr", list(pairs), side=list(side))
    queries = values[[3, 77, 401]] ^ np.array([[1], [128], [40]], np.uint8)
    return Encoded(open_codes(tmp_path / "codes.zarr"), store, queries, 10)
