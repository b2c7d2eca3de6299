"""TLS between scheduler, workers and client: from files, or made for one local cluster."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import distributed

from srch_dist.config.options import TlsConfig
from srch_dist.errors import ConfigError


@dataclass(frozen=True)
class Tls:
    """Paths of PEM files: the authority's certificate, and this process's certificate and key."""

    ca: str
    cert: str
    key: str


def tls_files(options: TlsConfig) -> Tls | None:
    """Return the TLS files that the options name; None if all three options are empty.

    Raises
    ------
    ConfigError : only one or two of the three options are set.
    """
    if options.ca is None and options.cert is None and options.key is None:
        return None
    if options.ca is None or options.cert is None or options.key is None:
        raise ConfigError("tls.ca, tls.cert and tls.key belong together; set all three or none")
    return Tls(options.ca, options.cert, options.key)


def security_of(tls: Tls) -> distributed.Security:
    """Return Dask's security object for the files; raise ConfigError if a file does not exist."""
    for name, path in dataclasses.asdict(tls).items():
        if not Path(path).is_file():
            raise ConfigError(f"tls.{name} is {path}, which is not a file")
    pair = {
        f"tls_{role}_{part}": path
        for role in ("client", "scheduler", "worker")
        for part, path in (("cert", tls.cert), ("key", tls.key))
    }
    return distributed.Security(tls_ca_file=tls.ca, require_encryption=True, **pair)


def one_time_security() -> distributed.Security:
    """Make a key and a certificate for one local cluster, in memory only.

    The workers receive key and certificate through pipes from this process. No other process has
    the key, so no other process can connect.
    """
    security: distributed.Security = distributed.Security.temporary()
    return security
