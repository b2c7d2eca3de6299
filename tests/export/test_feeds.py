"""Files for Milvus and Elasticsearch: their content is read back; no server imports them here."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from srch_dist.errors import InputError
from srch_dist.export.formats import export_codes
from srch_dist.ingest.pipeline import ingest_source

COLUMNS = ["ids", "titles", "score", "fresh", "labels"]


def test_milvus_schema_is_one_of_pymilvus(tmp_path, encoded):
    pymilvus = pytest.importorskip("pymilvus", reason="pymilvus has no wheel for this platform")
    path = export_codes(
        encoded.codes, tmp_path / "a.parquet", "milvus", encoded.store, columns=COLUMNS
    )
    described = json.loads((tmp_path / "a.parquet.schema.json").read_text())
    schema = pymilvus.CollectionSchema.construct_from_dict(described)
    schema.verify()
    assert schema.primary_field.name == "row"
    assert [field.name for field in schema.fields] == pq.read_schema(path).names
    kinds = {field.name: field.dtype.name for field in schema.fields}
    assert kinds == {
        "row": "INT64",
        "ids": "INT32",
        "titles": "VARCHAR",
        "score": "DOUBLE",
        "fresh": "BOOL",
        "labels": "JSON",
        "code": "BINARY_VECTOR",
    }
    assert schema.fields[-1].params["dim"] == encoded.codes.bits
    # Milvus reads a binary vector as a list of uint8, and JSON as text.
    table = pq.read_table(path)
    assert str(table.schema.field("code").type).replace("element", "item") == "list<item: uint8>"
    np.testing.assert_array_equal(table["code"].to_pylist(), encoded.values())
    assert [json.loads(text) for text in table["labels"].to_pylist()] == encoded.side("labels")
    for name in COLUMNS[:-1]:
        assert table[name].to_pylist() == encoded.side(name)


def test_texts_too_long_for_milvus_are_refused(tmp_path, encoded):
    rows = encoded.codes.rows
    pairs = {"image": np.ones((rows, 2)), "text": np.ones((rows, 2))}
    titles = np.array(["é" * 40_000] + ["short"] * (rows - 1), object).astype("T")
    store = ingest_source(pairs | {"titles": titles}, tmp_path / "b.zarr", list(pairs))
    with pytest.raises(InputError, match="titles has a text of 80000 bytes"):
        export_codes(encoded.codes, tmp_path / "c", "milvus", store)
    assert not (tmp_path / "c").exists()


def test_elasticsearch_lines_are_documents_of_the_mapping(tmp_path, encoded):
    path = export_codes(
        encoded.codes, tmp_path / "a.ndjson", "elasticsearch", encoded.store, columns=COLUMNS
    )
    lines = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    actions, documents = lines[::2], lines[1::2]
    assert [action["index"]["_id"] for action in actions] == [
        str(row) for row in range(encoded.codes.rows)
    ]
    codes = [list(bytes.fromhex(document["code"])) for document in documents]
    np.testing.assert_array_equal(codes, encoded.values())
    for name in COLUMNS:
        assert [document[name] for document in documents] == encoded.side(name)
    mapping = json.loads((tmp_path / "a.ndjson.mapping.json").read_text())["mappings"]
    assert set(documents[0]) == set(mapping["properties"])
    vector = mapping["properties"]["code"]
    assert (vector["element_type"], vector["dims"]) == ("bit", encoded.codes.bits)


def test_numbers_that_json_lacks_are_refused(tmp_path, encoded):
    rows = encoded.codes.rows
    pairs = {"image": np.ones((rows, 2)), "text": np.ones((rows, 2))}
    score = np.where(np.arange(rows) == rows - 2, np.nan, 1.0)
    store = ingest_source(
        pairs | {"score": score}, tmp_path / "b.zarr", list(pairs), side=["score"]
    )
    with pytest.raises(InputError, match=rf"row {rows - 2} of the side columns .* JSON cannot"):
        export_codes(encoded.codes, tmp_path / "c", "elasticsearch", store, columns=["score"])
