"""Export: every library reads back the written codes under their row numbers."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest
import usearch.index
import zarr

from srch_dist.encode.model import save_model
from srch_dist.encode.scoring import QueryEncoder, encode_rows
from srch_dist.errors import ConfigError, InputError, StorageError
from srch_dist.export import __main__ as export
from srch_dist.export.formats import Format, export_codes
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.search.hamming import search_index
from srch_dist.storage import code_store as code_files
from srch_dist.storage import disk_space
from srch_dist.storage.code_store import CodeStore, open_codes
from tests.helpers.models import make_model

pytestmark = pytest.mark.cluster

ROWS, BITS = 500, 40
FORMATS = get_args(Format)


@pytest.fixture
def codes(tmp_path, monkeypatch):
    monkeypatch.setattr(code_files, "_RUN_BYTES", 300)  # several runs
    values = np.random.default_rng(0).integers(0, 256, (ROWS, BITS // 8), dtype=np.uint8)
    shape, attributes = values.shape, {"modality": "image", "bits": BITS, "bitorder": "little"}
    array = zarr.create_array(
        str(tmp_path / "codes.zarr"),
        shape=shape,
        chunks=(33, 5),
        dtype="u1",
        compressors=zarr.codecs.Crc32cCodec(),
        attributes=attributes,
    )
    array[:] = values
    return open_codes(tmp_path / "codes.zarr")


@pytest.mark.parametrize("form", ["faiss", "faiss-ivf"])
def test_faiss_reads_its_index(tmp_path, codes, form):
    path = export_codes(codes, tmp_path / "a.faiss", form, lists=None if form == "faiss" else 8)
    index = faiss.read_index_binary(str(path))
    assert (index.d, index.ntotal) == (BITS, ROWS)
    values = codes.read(0, ROWS)
    if form == "faiss":
        stored = faiss.vector_to_array(index.xb).reshape(ROWS, -1)
        np.testing.assert_array_equal(stored, values)
    else:
        index.nprobe = 8
    distances, rows = index.search(values, 1)
    assert not distances.any()
    np.testing.assert_array_equal(rows[:, 0], np.arange(ROWS))


def test_usearch_reads_its_index(tmp_path, codes):
    path = export_codes(codes, tmp_path / "a.usearch", "usearch")
    index = usearch.index.Index.restore(str(path))
    assert (len(index), index.ndim) == (ROWS, BITS)
    values = codes.read(0, ROWS)
    np.testing.assert_array_equal(index.get(np.arange(ROWS)), values)
    found = index.search(values[:50], 3, exact=True)
    distances = np.unpackbits(values[:50, None] ^ values[None], axis=2).sum(axis=2)
    np.testing.assert_array_equal(found.distances, np.sort(distances, axis=1)[:, :3])
    np.testing.assert_array_equal(found.keys[:, 0], np.arange(50))


def test_numpy_reads_packed_codes(tmp_path, codes):
    path = export_codes(codes, tmp_path / "a.npy", "npy")
    np.testing.assert_array_equal(np.load(path), codes.read(0, ROWS))


def test_parquet_holds_rows_ids_titles_and_codes(tmp_path, codes):
    ids = np.array([f"id-{row}" for row in range(ROWS)])
    pairs = {"image": np.ones((ROWS, 2)), "text": np.ones((ROWS, 2)), "ids": ids}
    np.savez(tmp_path / "a.npz", **pairs)
    store = ingest_source(tmp_path / "a.npz", tmp_path / "a.zarr")
    path = export_codes(codes, tmp_path / "a.parquet", "parquet", store)
    table = pq.read_table(path)
    assert table.column_names == ["row", "ids", "code"]
    assert table["row"].to_pylist() == list(range(ROWS))
    assert table["ids"].to_pylist() == ids.tolist()
    read = np.frombuffer(b"".join(table["code"].to_pylist()), np.uint8).reshape(ROWS, -1)
    np.testing.assert_array_equal(read, codes.read(0, ROWS))
    metadata = table.schema.metadata
    assert (metadata[b"bits"], metadata[b"bitorder"]) == (b"40", b"little")


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (np.arange(2**64 - ROWS, 2**64, dtype=np.uint64), "uint64"),
        (np.arange(ROWS, dtype=np.uint64)[:, None] + np.uint64(2**63), "uint64"),
        (np.arange(ROWS, dtype=np.int16), "int16"),
        (np.arange(ROWS, dtype=">u4"), "uint32"),
        (np.arange(ROWS) % 3 == 0, "bool"),
        (np.arange(ROWS, dtype=np.float32) / 3, "float"),
        (np.full(ROWS, ""), "string"),
        (np.arange(ROWS * 2, dtype=np.uint64).reshape(ROWS, 2), "list<item: uint64>"),
        (np.arange(ROWS * 6, dtype=np.int8).reshape(ROWS, 2, 3), "list<item: list<item: int8>>"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.dtype}-{value.ndim}",
)
def test_parquet_keeps_the_type_of_ids(tmp_path, codes, ids, expected):
    pairs = {"image": np.ones((ROWS, 2)), "text": np.ones((ROWS, 2)), "ids": ids}
    sides = [] if ids.ndim > 1 and ids.shape[1] > 1 else ["ids"]
    store = ingest_source(
        pairs, tmp_path / "a.zarr", ["image", "text"], side=sides or ["titles=ids"]
    )
    table = pq.read_table(export_codes(codes, tmp_path / "a.parquet", "parquet", store))
    column = table["ids" if sides else "titles"]
    assert str(column.type).replace("element", "item") == expected
    assert column.to_pylist() == (ids.ravel() if sides else ids).tolist()


def test_refusals_leave_nothing(tmp_path, codes):
    (tmp_path / "there").write_text("x")
    np.savez(tmp_path / "a.npz", image=np.ones((3, 2)), text=np.ones((3, 2)))
    other = ingest_source(tmp_path / "a.npz", tmp_path / "a.zarr")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StorageError, match="already exists"):
        export_codes(codes, tmp_path / "there", "npy")
    with pytest.raises(InputError, match=r"has 3 rows, .* has 500"):
        export_codes(codes, tmp_path / "new", "parquet", other)
    with pytest.raises(ConfigError, match="'lists' is 501"):
        export_codes(codes, tmp_path / "new", "faiss-ivf", lists=501)
    with pytest.raises(ConfigError, match="known formats: faiss"):
        export_codes(codes, tmp_path / "new", "csv")
    for form in FORMATS:
        with pytest.raises(StorageError, match=r"cannot write .*there/a"):
            export_codes(codes, tmp_path / "there" / "a", form)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("form", FORMATS)
def test_a_disk_that_is_too_small_is_refused_before_any_work(tmp_path, codes, form, monkeypatch):
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    monkeypatch.setattr(CodeStore, "runs", lambda _: pytest.fail("codes were read"))
    expected = r"the export needs \d{4} bytes, but .* has 1000 bytes free"
    with pytest.raises(StorageError, match=expected):
        export_codes(codes, tmp_path / "a", form)
    assert sorted(tmp_path.iterdir()) == before


def test_a_record_that_is_there_is_not_overwritten(tmp_path, codes):
    """`--out codes` would write its recall to codes.json."""
    (tmp_path / "codes.json").write_text("precious")
    with pytest.raises(StorageError, match=r"codes\.json already exists. Remove it"):
        export_codes(codes, tmp_path / "codes", "faiss-ivf", lists=4)
    assert (tmp_path / "codes.json").read_text() == "precious"
    assert not (tmp_path / "codes").exists()


def test_an_index_gets_its_name_before_its_record(tmp_path, codes, monkeypatch):
    """Whatever ends the export between the two, no record stands without its index."""
    real = Path.replace

    def replace(path, target):
        if target.name == "a.json":
            raise OSError(5, "Input/output error")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(StorageError, match=r"cannot write .*a\.json: Input/output error"):
        export_codes(codes, tmp_path / "a", "faiss-ivf", lists=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "codes.zarr"]
    assert search_index(tmp_path / "a", codes.read(0, 1), 1, 4).rows.tolist() == [[0]]


def test_libraries_that_fail_end_in_one_line(tmp_path, codes, monkeypatch):
    def fail(*_):
        raise RuntimeError("Error in faiss\nwrite error")

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(faiss, "write_index_binary", fail)
    monkeypatch.setattr(usearch.index.Index, "save", fail)
    for form in ("faiss", "usearch"):
        with pytest.raises(StorageError, match=r"cannot write .*/a: .*write error") as end:
            export_codes(codes, tmp_path / "a", form)
        assert "\n" not in str(end.value)
    monkeypatch.setattr(faiss, "write_index_binary", lambda *_: None)
    monkeypatch.setattr(usearch.index.Index, "save", lambda *_: None)
    for form in ("faiss", "usearch"):
        with pytest.raises(StorageError, match=r"cannot write .*/a: "):
            export_codes(codes, tmp_path / "a", form)
    assert sorted(tmp_path.iterdir()) == before


def test_command_writes_the_file_that_it_prints(tmp_path, codes, capsys):
    out = tmp_path / "a.npy"
    export.main(["--codes", str(codes.path), "--format", "npy", "--out", str(out)])
    assert capsys.readouterr().out.strip() == f"npy: {out}"
    np.testing.assert_array_equal(np.load(out), codes.read(0, ROWS))


def test_query_encoder_gives_the_codes_of_encode_rows():
    model, rows = make_model(48, 64, 30), np.random.default_rng(1).normal(size=(200, 48))
    encoder = QueryEncoder(model, "text")
    found = np.stack([encoder(row) for row in rows])
    np.testing.assert_array_equal(found, encode_rows(model, "text", rows))
    for bad in (rows[0, :-1], rows[:1], np.full(48, np.nan)):
        with pytest.raises(InputError, match=r"a query of text must be \(48,\) finite numbers"):
            encoder(bad)
    with pytest.raises(InputError, match="it has text"):
        QueryEncoder(model, "image")


FIVE_LINES = """
import numpy as np
from srch_dist import QueryEncoder, load_model
encoder = QueryEncoder(load_model("model.npz"), "text")
code = encoder(np.load("query.npy"))
print(code.tolist())
"""


def test_five_lines_encode_a_query_without_dask(tmp_path):
    model = make_model(48, 64, 30)
    query = np.random.default_rng(1).normal(size=48)
    save_model(tmp_path / "model.npz", model)
    np.save(tmp_path / "query.npy", query)
    assert len(FIVE_LINES.strip().splitlines()) == 5
    heavy = "import sys; print(sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", FIVE_LINES + heavy],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = map(eval, done.stdout.splitlines())
    assert code == encode_rows(model, "text", query[None])[0].tolist()
    assert not {"dask", "distributed", "zarr", "scipy", "sklearn", "pandas"} & set(modules)
    assert "numpy" in modules


def test_query_takes_less_than_a_millisecond_of_processor():
    """768 dimensions, 64 bits, the default 1,000 anchors; the fastest of many."""
    encoder = QueryEncoder(make_model(768, 64, 1000), "text")
    row = np.random.default_rng(1).normal(size=768)
    seconds = []
    for _ in range(200):
        start = time.process_time()
        encoder(row)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1e-3
