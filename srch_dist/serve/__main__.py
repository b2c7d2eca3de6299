"""`python -m srch_dist.serve`: answer searches over HTTP."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srch_dist.cli.command import print_line, run_command
from srch_dist.errors import ConfigError, StorageError, require, require_all
from srch_dist.runtime.progress import Progress
from srch_dist.search.results import choose_shown
from srch_dist.serve.service import Limits, SearchService

PURPOSE = "the server"


@dataclass(frozen=True)
class _Options:
    """Serve searches over HTTP: POST /search and /encode, GET /health, /metrics, / and /docs."""

    model: str
    """Run directory of a finished run, a path or s3:// URL."""
    codes: str
    """Codes to search in, held in memory. Several, separated by commas, are searched as one."""
    data: str | None = None
    """Feature store of the codes, for ids, titles, filters and queries by row; one for all codes,
    or one for each."""
    host: str = "127.0.0.1"
    """Address to listen at. The default is reached from this machine alone. The server has no
    authentication: for other hosts put it behind one that has."""
    port: int = 8000
    """Port to listen at; 0 takes a free one."""
    hosts: str | None = None
    """Names by which clients may call the server, separated by commas; others are refused. By
    default localhost and the loopback addresses, or any name if --host is not loopback."""
    images: str | None = None
    """Folder of image files for the page, served below /images."""
    thumbnail: str | None = None
    """Side column of --data with URLs of images, or with names of files in --images."""
    max_top: int = 1000
    """Most results per query."""
    max_queries: int = 256
    """Most queries per request, and most queries that are searched at once."""
    max_bytes: int = 8 << 20
    """Most bytes of a request."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve with options from the command line."""
    run_command("serve", _Options, _serve, arguments)


def _serve(options: _Options, progress: Progress) -> None:
    needed = ("fastapi", "uvicorn", "prometheus_client")
    require_all({**dict.fromkeys(needed, "serve"), "faiss": "search"}, PURPOSE)
    uvicorn = require("uvicorn", "serve", PURPOSE)
    app = _application(options)
    listening = _listen(options)
    if not _is_loopback(options.host):
        progress.warn(
            f"serve: {options.host} is reached from other machines, and the server has no "
            "authentication and no TLS"
        )
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=30)
    name = f"[{options.host}]" if ":" in options.host else options.host
    print_line(f"serving: http://{name}:{listening.getsockname()[1]}")
    with suppress(KeyboardInterrupt):  # the usual end of a server
        uvicorn.Server(config).run(sockets=[listening])


def _application(options: _Options) -> Any:
    """Check the options, load what is served, and make the application."""
    for name in ("max_top", "max_queries", "max_bytes"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is less than 1")
    if options.images is not None and not Path(options.images).is_dir():
        raise StorageError(f"--images: {options.images} is no folder")
    limits = Limits(options.max_top, options.max_queries, options.max_bytes)
    data = [] if options.data is None else options.data.split(",")
    service = SearchService(options.model, options.codes.split(","), data, limits)
    if options.thumbnail is not None:
        choose_shown(service.parts, options.thumbnail)
    if options.hosts is not None:
        hosts = tuple(options.hosts.split(","))
    else:
        local = ("localhost", "127.0.0.1", "[::1]", "::1", options.host)
        hosts = local if _is_loopback(options.host) else ("*",)
    from srch_dist.serve.app import make_app

    return make_app(service, options.images, options.thumbnail, hosts)


def _listen(options: _Options) -> socket.socket:
    if not 0 <= options.port < 1 << 16:
        raise ConfigError(f"--port is {options.port}, expected 0 to 65535")
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {options.host} port {options.port}: {error.strerror}. Choose "
            "another --port or --host."
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    main()
