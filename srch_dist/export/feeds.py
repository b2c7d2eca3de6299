"""Write files that Milvus and Elasticsearch import, and the schema of the collection or index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from srch_dist.errors import InputError, require
from srch_dist.export.request import ExportRequest, byte_lists, check_names, json_text, json_texts
from srch_dist.export.tables import write_tables
from srch_dist.runtime.progress import ProgressStage

# Most bytes of a text in Milvus.
_MILVUS_TEXT = 65_535
# Numbers of Milvus's data types, as in its protocol.
_INT64, _TEXT, _JSON, _BITS = 5, 21, 23, 100
_MILVUS = {
    **{"bool": 1, "int8": 2, "int16": 3, "int32": 4, "int64": _INT64, "uint8": 3, "uint16": 4},
    **{"uint32": _INT64, "halffloat": 10, "float": 10, "double": 11, "string": _TEXT},
}
# Types of Arrow that a column has for a data type of Milvus.
_ARROW = {1: "bool_", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 10: "float32", 11: "float64"}


def write_milvus(request: ExportRequest, path: Path, stage: ProgressStage) -> None:
    """Write a Parquet file that Milvus imports: ``code`` is a list of uint8, a BINARY_VECTOR."""
    check_names(request.columns, "Milvus")
    write_tables(request, path, stage, _milvus_tables(request))


def write_elasticsearch(request: ExportRequest, path: Path, stage: ProgressStage) -> None:
    """Write lines of the bulk API: the id of a document is its row, ``code`` is hexadecimal."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for table in request.batches(
            lambda pa, run: {"code": pa.array([c.tobytes().hex() for c in run])}
        ):
            for values in table.to_pylist():
                document = json_text(values, "the side columns", values["row"])
                file.write(f'{{"index":{{"_id":"{values["row"]}"}}}}\n{document}\n')
            stage.advance(len(table))


def milvus_schema(request: ExportRequest) -> dict[str, Any]:
    """Return the schema as ``pymilvus.CollectionSchema.construct_from_dict`` reads it."""
    fields: list[dict[str, Any]] = [
        {"name": "row", "description": "", "type": _INT64, "is_primary": True, "auto_id": False}
    ]
    for name, kind in _side_types(request):
        number = _MILVUS.get(kind, _JSON)
        field: dict[str, Any] = {"name": name, "description": "", "type": number}
        if number == _TEXT:
            field["params"] = {"max_length": _MILVUS_TEXT}
        fields.append(field)
    bits = request.codes.bits
    fields.append({"name": "code", "description": "", "type": _BITS, "params": {"dim": bits}})
    return {
        "auto_id": False,
        "description": "codes of srch-dist; index them as BIN_FLAT with metric HAMMING",
        "fields": fields,
        "enable_dynamic_field": False,
    }


def elasticsearch_mapping(request: ExportRequest) -> dict[str, Any]:
    """Return the body of a request that creates the index (Elasticsearch 8.15 or newer)."""
    kinds = {"bool": "boolean", "string": "text", "float": "float", "double": "double"}
    kinds |= {"halffloat": "half_float", "uint64": "unsigned_long"}
    properties: dict[str, Any] = {"row": {"type": "long"}}
    for name, kind in _side_types(request):
        if kind.startswith("list"):
            properties[name] = {"type": "object", "enabled": False}
        else:
            properties[name] = {"type": kinds.get(kind, "long")}
    properties["code"] = {
        "type": "dense_vector",
        "element_type": "bit",
        "dims": request.codes.bits,
        "index": True,
        "index_options": {"type": "hnsw"},
    }
    return {"mappings": {"dynamic": "strict", "properties": properties}}


def _side_types(request: ExportRequest) -> list[tuple[str, str]]:
    """Return names and Arrow types of the side columns."""
    table = next(request.batches(lambda *_: {}))
    return [(field.name, str(field.type)) for field in table.schema if field.name != "row"]


def _milvus_tables(request: ExportRequest) -> Iterator[Any]:
    pa = require("pyarrow", "export", "a file for Milvus")
    for table in request.batches(lambda pa, run: {"code": byte_lists(pa, run)}):
        columns = {}
        for name in table.column_names:
            column = table[name]
            number = _MILVUS.get(str(column.type), _JSON)
            if name == "code":
                columns[name] = column.cast(pa.list_(pa.uint8()))
            elif number == _TEXT:
                columns[name] = column
                _check_texts(column, name)
            elif number == _JSON:
                columns[name] = pa.array(json_texts(table, name))
            else:
                columns[name] = column.cast(getattr(pa, _ARROW[number])())
        yield pa.table(columns)


def _check_texts(column: Any, name: str) -> None:
    longest = max(len(value.encode()) for value in column.to_pylist())
    if longest > _MILVUS_TEXT:
        raise InputError(
            f"{name} has a text of {longest} bytes; Milvus holds at most {_MILVUS_TEXT}. Leave the "
            "column out with --columns."
        )


def schema_text(schema: dict[str, Any]) -> str:
    """Return a schema as the text of its file."""
    return json.dumps(schema, indent=1) + "\n"
