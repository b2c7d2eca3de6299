"""Parquet exports: DuckDB and Hugging Face datasets find the rows that search finds."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from srch_dist.errors import ConfigError
from srch_dist.export.formats import export_codes
from srch_dist.export.tables import code_words

COLUMNS = ["ids", "titles", "big", "score", "fresh", "labels"]


def test_duckdb_finds_the_nearest_codes(tmp_path, encoded):
    path = export_codes(
        encoded.codes, tmp_path / "a.parquet", "parquet-uint64", encoded.store, columns=COLUMNS
    )
    rows, distances = [], []
    for query in code_words(encoded.queries):
        terms = [f"bit_count(xor(code{i}, {word}::UBIGINT))" for i, word in enumerate(query)]
        found = duckdb.sql(
            f"SELECT row, {' + '.join(terms)} AS distance FROM '{path}' "
            f"ORDER BY distance, row LIMIT {encoded.top}"
        ).fetchall()
        rows.append([row for row, _ in found])
        distances.append([distance for _, distance in found])
    encoded.check_nearest(rows, distances)
    described = f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM '{path}')"
    kinds = dict(duckdb.sql(described).fetchall())
    assert kinds["code0"] == kinds["big"] == "UBIGINT"
    for name in COLUMNS:
        found = duckdb.sql(f"SELECT {name} FROM '{path}' ORDER BY row").fetchall()
        assert [value for (value,) in found] == encoded.side(name)


def test_words_hold_the_bits_in_order(encoded):
    """Bit j of a code is bit j % 64 of word j // 64."""
    bits = np.unpackbits(encoded.values(), axis=1, bitorder="little")
    words = code_words(encoded.values())
    for j in range(bits.shape[1]):
        word = words[:, j // 64] >> np.uint64(j % 64) & np.uint64(1)
        np.testing.assert_array_equal(word, bits[:, j])


def test_hugging_face_datasets_load_the_codes(tmp_path, encoded, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    path = export_codes(
        encoded.codes, tmp_path / "a.parquet", "datasets", encoded.store, columns=COLUMNS
    )
    loaded = datasets.load_dataset(
        "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    codes = loaded.with_format("numpy", dtype=np.uint8, columns=["code"])[:]["code"]
    np.testing.assert_array_equal(codes, encoded.values())
    assert codes.dtype == np.uint8
    for name in COLUMNS:
        assert loaded[name][:] == encoded.side(name)
    distances = np.bitwise_count(codes[None] ^ encoded.queries[:, None]).sum(axis=2)
    rows = np.argsort(distances, axis=1, kind="stable")[:, : encoded.top]
    encoded.check_nearest(rows, np.take_along_axis(distances, rows, 1))


def test_columns_are_chosen_by_name(tmp_path, encoded):
    path = export_codes(encoded.codes, tmp_path / "a", "parquet", encoded.store, columns=["score"])
    assert pq.read_schema(path).names == ["row", "score", "code"]
    with pytest.raises(ConfigError, match=r"no side column 'scores'.* did you mean score"):
        export_codes(encoded.codes, tmp_path / "b", "parquet", encoded.store, columns=["scores"])
    with pytest.raises(ConfigError, match="give --data"):
        export_codes(encoded.codes, tmp_path / "b", "parquet", columns=["score"])
    with pytest.raises(ConfigError, match="faiss holds codes and row numbers alone"):
        export_codes(encoded.codes, tmp_path / "b", "faiss", encoded.store, columns=["score"])
