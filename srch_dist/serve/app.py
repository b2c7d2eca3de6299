"""The routes of the server: /search, /encode, /health, /metrics and the page."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from srch_dist.errors import ExtraError, InputError, SrchError
from srch_dist.search.hamming import SearchResult
from srch_dist.search.queries import Queries, QueryRequest
from srch_dist.serve.batching import Batcher
from srch_dist.serve.service import PAGE, SearchService

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# Seconds that a request waits for others.
_WAIT = 0.002
# Number of read bytes that marks a request as too large.
_REFUSED = -1
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src 'self' http: https: data:"
)


class SearchBody(BaseModel):
    """A search: exactly one of vectors, rows, ids, title and text."""

    model_config = ConfigDict(extra="forbid")

    vectors: list[list[float]] | None = Field(None, description="features, one list per query")
    rows: list[int] | None = Field(None, description="row numbers to use as queries")
    ids: list[str] | None = Field(None, description="ids of rows to use as queries")
    title: str | None = Field(None, description="title of a row to use as query")
    text: str | None = Field(None, description="text to encode, for models of the emoji set")
    modality: str | None = Field(
        None, description="modality of the query features; needed with vectors"
    )
    top: int = Field(10, description="results per query")
    rerank: bool = Field(False, description="sort ten times as many candidates by real scores")
    where: str | None = Field(None, description="expression over side columns, such as price < 10")
    show: str | None = Field(None, description="side columns to return, separated by commas")


class EncodeBody(BaseModel):
    """Features to encode."""

    model_config = ConfigDict(extra="forbid")

    vectors: list[list[float]]
    modality: str


class _Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"registry": self.registry, "namespace": "srch_dist"}
        labels = ["route", "code"]
        self.requests = Counter("requests", "Requests by route and code", labels, **named)
        self.seconds = Histogram("request_seconds", "Seconds of a request", ["route"], **named)
        sizes = (1, 2, 4, 8, 16, 32, 64, 128, 256)
        self.batch = Histogram("batch_queries", "Queries of a batch", buckets=sizes, **named)


class _Guard:
    """Refuses large requests, measures all, and sets headers; plain ASGI, so that bodies stream."""

    def __init__(self, app: Any, most: int, metrics: _Metrics, routes: frozenset[str]) -> None:
        self._app, self._most, self._metrics, self._routes = app, most, metrics, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = scope["path"] if scope["path"] in self._routes else "other"
        start, code, read = time.perf_counter(), [500], [0]

        async def counted() -> MutableMapping[str, Any]:
            message = await receive()
            read[0] += len(message.get("body", b""))
            if read[0] > self._most:
                read[0] = _REFUSED
                raise _TooLargeError
            return message

        async def sending(message: MutableMapping[str, Any]) -> None:
            if read[0] == _REFUSED:  # the framework calls the body malformed
                return
            if message["type"] == "http.response.start":
                code[0] = message["status"]
                message.setdefault("headers", []).append((b"x-content-type-options", b"nosniff"))
            await send(message)

        claimed = dict(scope["headers"]).get(b"content-length", b"0")
        try:
            if claimed.isdigit() and int(claimed) > self._most:
                raise _TooLargeError
            await self._app(scope, counted, sending)
            if read[0] == _REFUSED:
                raise _TooLargeError
        except _TooLargeError:
            read[0] = 0
            text = f"the request is larger than {self._most} bytes"
            await JSONResponse({"detail": text}, 413)(scope, receive, sending)
        finally:
            self._metrics.requests.labels(route, str(code[0])).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - start)


class _TooLargeError(Exception):
    """The body of a request exceeds the limit."""


class _Routes:
    """The functions that answer requests."""

    def __init__(self, service: SearchService, metrics: _Metrics, page: str) -> None:
        self._version = importlib.metadata.version("srch-dist")
        self._service, self._metrics, self._page = service, metrics, page
        self.batcher = Batcher(
            lambda codes, top: service.search(Queries([], codes, None), top),
            service.limits.queries,
            _WAIT,
            metrics.batch.observe,
        )

    async def search(self, body: SearchBody) -> dict[str, Any]:
        """Find the nearest rows of queries, exactly, by Hamming distance."""
        start = time.perf_counter()
        self._service.check_top(body.top)
        queries = await run_in_threadpool(self._queries, body)
        found: SearchResult
        if body.rerank or body.where is not None:
            found = await run_in_threadpool(
                self._service.search, queries, body.top, body.rerank, body.where
            )
        else:
            found = await self.batcher.search(queries.codes, body.top)
        results = await run_in_threadpool(self._service.records, queries, found, body.show)
        return {
            "results": results,
            "warnings": list(queries.warnings),
            "exact": True,
            "seconds": round(time.perf_counter() - start, 6),
        }

    async def encode(self, body: EncodeBody) -> dict[str, Any]:
        """Encode features; a code is hexadecimal, bit j in byte j // 8 at place j % 8."""
        codes = await run_in_threadpool(self._service.encode, body.modality, body.vectors)
        return {"codes": [code.tobytes().hex() for code in codes], "bits": self._service.model.bits}

    async def health(self) -> dict[str, Any]:
        """Say that the server answers, and what it serves."""
        service = self._service
        return {
            "status": "ok",
            "version": self._version,
            "rows": service.rows,
            "bits": service.model.bits,
            "modalities": {name: len(mean) for name, mean in service.model.means.items()},
            "codes": [part.codes.modality for part in service.parts],
            "columns": service.columns,
        }

    async def metrics(self) -> PlainTextResponse:
        """Return counters and times in the text format of Prometheus."""
        return PlainTextResponse(generate_latest(self._metrics.registry))

    async def page(self) -> HTMLResponse:
        """Return a page to search with."""
        return HTMLResponse(self._page, headers={"content-security-policy": _POLICY})

    def _queries(self, body: SearchBody) -> Queries:
        sources = (body.vectors, body.rows, body.ids, body.title, body.text)
        if sum(source is not None for source in sources) != 1:
            raise InputError("give exactly one of vectors, rows, ids, title and text")
        if body.vectors is not None:
            if body.modality is None:
                known = ", ".join(self._service.model.means)
                raise InputError(f"vectors need a modality; the model has {known}")
            return self._service.vector_queries(body.modality, body.vectors)
        rows = None if body.rows is None else ",".join(map(str, body.rows))
        request = QueryRequest(
            rows, None, body.text, body.modality, body.title, tuple(body.ids or ()) or None
        )
        return self._service.queries(request)


def make_app(
    service: SearchService,
    images: str | None = None,
    thumbnail: str | None = None,
    hosts: tuple[str, ...] = ("*",),
) -> FastAPI:
    """Make the application.

    Parameters
    ----------
    service : what is searched.
    images : folder of image files to serve below /images; None serves none.
    thumbnail : side column with URLs of images, or with names of files in ``images``.
    hosts : names by which clients may call the server; others are refused, so that a web page
        cannot reach a server on loopback by a name of its own.
    """
    metrics = _Metrics()
    page = PAGE.read_text(encoding="utf-8").replace("{{thumbnail}}", thumbnail or "")
    routes = _Routes(service, metrics, page)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await routes.batcher.close()

    app = FastAPI(title="srch-dist", lifespan=lifespan)
    app.add_api_route("/search", routes.search, methods=["POST"])
    app.add_api_route("/encode", routes.encode, methods=["POST"])
    app.add_api_route("/health", routes.health, methods=["GET"])
    app.add_api_route("/metrics", routes.metrics, methods=["GET"], response_model=None)
    app.add_api_route(
        "/", routes.page, methods=["GET"], response_model=None, include_in_schema=False
    )
    if images is not None:
        app.mount("/images", StaticFiles(directory=Path(images)), name="images")
    app.add_exception_handler(SrchError, _refused)
    known = frozenset(("/search", "/encode", "/health", "/metrics", "/"))
    app.add_middleware(_Guard, most=service.limits.body_bytes, metrics=metrics, routes=known)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


async def _refused(_request: Any, error: Exception) -> JSONResponse:
    """Answer 422 for a request that is refused, and 501 if a package is missing on the server."""
    return JSONResponse({"detail": str(error)}, 501 if isinstance(error, ExtraError) else 422)
