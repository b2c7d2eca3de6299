"""A newcomer's path: a folder as clip-retrieval writes it, to an index that faiss loads."""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

import srch_dist
from tests.helpers.commands import run_command

pytestmark = pytest.mark.cluster

SHARD = 700


@pytest.fixture(scope="module")
def emoji():
    with np.load(Path(srch_dist.__file__).parent / "ingest" / "data" / "emoji.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, emoji):
    """`clip/img_emb`, `clip/text_emb` and `clip/metadata`, in shards."""
    folder = tmp_path_factory.mktemp("newcomer")
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / "clip" / name).mkdir(parents=True)
    keys = [f"{row:09d}" for row in range(len(emoji["titles"]))]
    for shard, start in enumerate(range(0, len(keys), SHARD)):
        rows = slice(start, start + SHARD)
        np.save(folder / "clip" / "img_emb" / f"img_emb_{shard}.npy", emoji["image"][rows])
        np.save(folder / "clip" / "text_emb" / f"text_emb_{shard}.npy", emoji["text"][rows])
        metadata = {
            "key": keys[rows],
            "caption": emoji["titles"][rows].tolist(),
            "error_message": pa.nulls(len(keys[rows])),
        }
        pq.write_table(
            pa.table(metadata), folder / "clip" / "metadata" / f"metadata_{shard}.parquet"
        )
    return folder


def test_from_a_folder_of_embeddings_to_an_index(folder, emoji):
    def run(name, *arguments):
        done = run_command(name, *arguments, folder=folder)
        assert done.returncode == 0, done.stderr
        return done

    done = run("ingest", "clip", "features.zarr")
    assert "modality image: array=img_emb rows=1906 dims=1280 dtype=float16" in done.stderr
    assert "side titles: array=caption dtype=text" in done.stderr
    assert "left out error_message: has no values in any row" in done.stderr
    run("train", "--data", "features.zarr", "--out", "run", "--bits", 32, "--workers", 1)
    assert "Edge weights S" in (folder / "run" / "report.html").read_text(encoding="utf-8")
    there = ["--model", "run", "--data", "features.zarr", "--workers", 1]
    run("encode", *there, "--modality", "image", "--out", "codes.zarr")
    asked_rows = list(range(0, len(emoji["titles"]), 90))
    asked = ["--model", "run", "--codes", "codes.zarr", "--data", "features.zarr", "--top", 10]
    asked += ["--query", ",".join(map(str, asked_rows)), "--modality", "text"]
    shown = run("search", *asked).stdout
    records = json.loads(run("search", *asked, "--json").stdout)
    assert [record["query"] for record in records] == [f"row {row}" for row in asked_rows]
    shares = []
    for row, record in zip(asked_rows, records, strict=True):
        found = [item["row"] for item in record["results"]]
        assert all(f"{number:09d}" in shown for number in found)  # its id
        shares.append((emoji["labels"][found] @ emoji["labels"][row] > 0).mean())
    assert np.mean(shares) > 0.5  # of the query's category; by chance one in eight

    run("export", "--codes", "codes.zarr", "--format", "faiss", "--out", "codes.faiss")
    index = faiss.read_index_binary(str(folder / "codes.faiss"))
    model = srch_dist.load_model(folder / "run")
    query = srch_dist.QueryEncoder(model, "text")(emoji["text"][asked_rows[0]])
    distances, rows = index.search(query[None], 10)
    assert distances[0].tolist() == [item["distance"] for item in records[0]["results"]]
    codes = zarr.open_array(str(folder / "codes.zarr"), mode="r")[:]
    apart = np.unpackbits(codes[rows[0]] ^ query, axis=1).sum(axis=1)
    assert distances[0].tolist() == apart.tolist()
