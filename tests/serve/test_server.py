"""The server on loopback: answers equal the search, limits hold, and batches are used."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import uvicorn

from srch_dist.encode.batch import encode_store
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.search.hamming import search_codes
from srch_dist.serve import __main__ as serve
from srch_dist.serve.app import make_app
from srch_dist.serve.service import Limits, SearchService
from srch_dist.storage.code_store import open_codes
from tests.helpers.runs import ROWS, make_pairs, train_here

NUMBERS = np.arange(ROWS)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    side = {
        "ids": np.array([f"id{row}" for row in NUMBERS]),
        "titles": np.array([f"title {row}" for row in NUMBERS]),
        "price": NUMBERS * 0.5,
        "picture": np.array([f"{row % 3}.png" for row in NUMBERS]),
    }
    pairs = make_pairs(split=None, labels=None)
    store = ingest_source(pairs | side, folder / "a.zarr", ["image", "text"], 13, side=[*side])
    train_here(store.path, folder / "run", bits=24)
    for modality in ("image", "text"):
        encode_store(folder / "run", store.path, modality, folder / f"{modality}.zarr")
    return SimpleNamespace(folder=folder, store=store, codes=open_codes(folder / "image.zarr"))


@pytest.fixture(scope="module")
def server(made):
    """Run a server in a thread; yield a function that sends a request."""
    limits = Limits(top=50, queries=8, body_bytes=20_000)
    folder = made.folder
    service = SearchService(
        str(folder / "run"), [str(folder / "image.zarr")], [made.store.path], limits
    )
    app = make_app(service, hosts=("127.0.0.1",))
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]

    def send(path, body=None, **headers):
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", **headers}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                content, code = answer.read(), answer.status
                kind = answer.headers["content-type"]
        except urllib.error.HTTPError as error:
            content, code, kind = error.read(), error.code, error.headers["content-type"]
        return code, json.loads(content) if "json" in str(kind) else content.decode()

    send.port = port
    yield send
    running.should_exit = True
    thread.join(10)


def test_vectors_find_what_search_finds(made, server):
    vectors = made.store.read("text", 4, 7)
    code, answer = server(
        "/search", {"vectors": vectors.tolist(), "modality": "text", "top": 5, "show": "price"}
    )
    assert code == 200
    queries = open_codes(made.folder / "text.zarr").read(4, 7)
    found = search_codes(made.codes, queries, 5)
    for result, rows, distances in zip(answer["results"], found.rows, found.distances, strict=True):
        assert [item["row"] for item in result["results"]] == rows.tolist()
        assert [item["distance"] for item in result["results"]] == distances.tolist()
        assert [item["price"] for item in result["results"]] == (rows * 0.5).tolist()
    assert answer["exact"]
    assert answer["seconds"] > 0


@pytest.mark.parametrize("body", [{"rows": [7]}, {"ids": ["id7"]}, {"title": "Title 7"}])
def test_rows_ids_and_titles_are_queries(made, server, body):
    code, answer = server("/search", {**body, "top": 3})
    assert code == 200
    (result,) = answer["results"]
    expected = search_codes(made.codes, made.codes.read(7, 8), 3)
    assert [item["row"] for item in result["results"]] == expected.rows[0].tolist()
    assert all(item["ids"] == f"id{item['row']}" for item in result["results"])


def test_filters_and_reranking(server):
    body = {"rows": [7], "modality": "text", "top": 10}
    _, answer = server("/search", {**body, "where": "price < 5"})
    assert {item["row"] for item in answer["results"][0]["results"]} == set(range(10))
    _, answer = server("/search", {**body, "rerank": True})
    scores = [item["score"] for item in answer["results"][0]["results"]]
    assert scores == sorted(scores, reverse=True)


def test_encode_gives_the_codes(made, server):
    code, answer = server(
        "/encode", {"vectors": made.store.read("image", 3, 5).tolist(), "modality": "image"}
    )
    assert (code, answer["bits"]) == (200, 24)
    assert [list(bytes.fromhex(each)) for each in answer["codes"]] == (
        made.codes.read(3, 5).tolist()
    )


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"vectors": [[1.0] * 3], "modality": "text"}, 422, "expected (n, 12)"),
        ({"vectors": [[1.0] * 12], "modality": "texts"}, 422, "did you mean text?"),
        ({"vectors": [[1.0] * 12]}, 422, "vectors need a modality"),
        ({"vectors": [[1.0], [1.0, 2.0]], "modality": "text"}, 422, "different lengths"),
        (
            {"vectors": [[float("nan")] * 12], "modality": "text"},
            422,
            "1e150 or more in row 0",
        ),
        ({"rows": [1], "ids": ["id1"]}, 422, "exactly one of vectors"),
        ({"rows": [ROWS]}, 422, f"there is no row {ROWS}"),
        ({"rows": [1], "top": 51}, 422, "top is 51, expected 1 to 50"),
        ({"rows": [*range(9)]}, 422, "the request has 9 queries, expected 1 to 8"),
        ({"rows": [1], "where": "prise < 3"}, 422, "did you mean price"),
        ({"rows": [1], "show": "prise"}, 422, "did you mean price"),
        ({"rows": [1], "limit": 3}, 422, "Extra inputs are not permitted"),
        ({"rows": "x"}, 422, "valid list"),
        ({"vectors": [[1.0] * 12] * 2000, "modality": "text"}, 413, "larger than 20000 bytes"),
    ],
)
def test_requests_that_do_not_fit_are_refused(server, body, code, message):
    found, answer = server("/search", body)
    assert found == code
    assert message in json.dumps(answer, ensure_ascii=False)


def test_a_body_without_length_is_counted_as_it_comes(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    chunks = (b"[" * 1000 for _ in range(100))
    connection.request("POST", "/search", chunks, {"content-type": "application/json"},
                       encode_chunked=True)  # fmt: skip
    assert connection.getresponse().status == 413


def test_other_host_names_are_refused(server):
    """A page of another site could reach the server by a name that it resolves to loopback."""
    code, answer = server("/health", Host="evil.example")
    assert (code, answer) == (400, "Invalid host header")


def test_health_metrics_and_the_description(server):
    code, answer = server("/health")
    assert (code, answer["status"], answer["rows"], answer["bits"]) == (200, "ok", ROWS, 24)
    assert answer["modalities"] == {"image": 20, "text": 12}
    _, described = server("/openapi.json")
    assert {"/search", "/encode", "/health", "/metrics"} == set(described["paths"])
    assert "Swagger" in server("/docs")[1]
    server("/nothing")
    metrics = server("/metrics")[1]
    assert 'srch_dist_requests_total{code="200",route="/health"}' in metrics
    assert 'srch_dist_requests_total{code="404",route="other"}' in metrics
    assert "srch_dist_batch_queries_count" in metrics


def test_requests_at_once_are_searched_together_and_answered_apart(made, server):
    """A load test in small: all answers are right, and there are fewer batches than requests."""
    expected = search_codes(made.codes, made.codes.read(0, ROWS), 50)

    def ask(row):
        _, answer = server("/search", {"rows": [row], "top": 1 + row % 50})
        results = answer["results"][0]["results"]
        distances = [item["distance"] for item in results]
        return distances == expected.distances[row][: 1 + row % 50].tolist()

    def batches():
        text = server("/metrics")[1]
        line = next(line for line in text.splitlines() if "batch_queries_count" in line)
        return float(line.split()[-1])

    before = batches()
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(ROWS)))
    assert batches() - before < ROWS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-top", "0"], "--max-top is less than 1"),
        (["--port", "70000"], "--port is 70000"),
        (["--images", "nowhere"], "nowhere is no folder"),
        (["--thumbnail", "url"], "--show needs --data"),
        (["--data", "a.zarr,a.zarr"], "one store for all --codes"),
        (["--host", "203.0.113.1"], "cannot listen at 203.0.113.1 port 8000"),
    ],
)
def test_options_that_do_not_fit_are_refused(made, capsys, monkeypatch, options, message):
    monkeypatch.chdir(made.folder)
    with pytest.raises(SystemExit) as end:
        serve.main(["--model", "run", "--codes", "image.zarr", *options])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_listens_on_loopback_and_says_where(made, capsys, monkeypatch):
    monkeypatch.chdir(made.folder)
    seen = []

    def run(_server, sockets):
        seen.append(sockets[0].getsockname())
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn.Server, "run", run)
    serve.main(["--model", "run", "--codes", "image.zarr,text.zarr", "--port", "0"])
    ((host, port),) = seen
    assert host == "127.0.0.1"
    assert capsys.readouterr().out.strip() == f"serving: http://127.0.0.1:{port}"
    serve.main(["--model", "run", "--codes", "image.zarr", "--port", "0", "--host", "0.0.0.0"])
    assert "no authentication and no TLS" in capsys.readouterr().err
