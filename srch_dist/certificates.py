"""`python -m srch_dist.certificates`: an authority and certificates for a small cluster.

One authority, and of it a certificate with its key for each role. A certificate is the only thing
that scheduler, workers and clients know each other by; whoever has one may run code on all.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from srch_dist.cli.command import output, parse, run_command
from srch_dist.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ROLES = ("scheduler", "worker", "client")


@dataclass(frozen=True)
class _Options:
    """Make certificates for the TLS connections of a cluster, in a new folder."""

    folder: tyro.conf.Positional[str]
    """Where they go; it must not be there, or be empty."""
    days: int = 365
    """Days that they are valid."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Make certificates with options from the command line."""
    run_command(lambda: _make(arguments))


def make_certificates(folder: str | Path, days: int = 365) -> Path:
    """Write ``ca.pem``, and ``ROLE.pem`` with ``ROLE-key.pem`` of each role, to a new folder.

    The authority's own key is not kept: no further certificate can be made from it.

    Raises
    ------
    StorageError : the folder is in use or cannot be written.
    ConfigError : senseless days, or the package `cryptography` is not installed.
    """
    path = Path(folder).absolute()
    if days < 1:
        raise ConfigError(f"days is {days}, it has to be at least 1")
    try:
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise ConfigError(
            "certificates need the package cryptography; install it with: "
            "pip install 'srch-dist[tls]'"
        ) from None
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StorageError(f"{path} is in use; name another folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
        authority_key = ec.generate_private_key(ec.SECP256R1())
        authority = _certificate("srch-dist authority", authority_key, None, days)
        _write(path / "ca.pem", _pem(authority), secret=False)
        for role in ROLES:
            key = ec.generate_private_key(ec.SECP256R1())
            own = _certificate(f"srch-dist {role}", key, (authority, authority_key), days)
            _write(path / f"{role}.pem", _pem(own), secret=False)
            _write(path / f"{role}-key.pem", _key_pem(key), secret=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def _make(arguments: Sequence[str] | None) -> None:
    options = parse(_Options, "certificates", arguments)
    path = make_certificates(options.folder, options.days)
    console = output()
    for role in ROLES:
        files = f"--tls-ca-file {path}/ca.pem --tls-cert {path}/{role}.pem"
        line = f"{role}: {files} --tls-key {path}/{role}-key.pem"
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"here: --tls.ca {path}/ca.pem --tls.cert {path}/client.pem "
        f"--tls.key {path}/client-key.pem",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def _certificate(
    name: str,
    key: EllipticCurvePrivateKey,
    authority: tuple[x509.Certificate, EllipticCurvePrivateKey] | None,
    days: int,
) -> x509.Certificate:
    """A certificate for ``key``, signed by the ``authority``, or by itself as an authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    own = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    issuer, signer = (own, key) if authority is None else (authority[0].subject, authority[1])
    builder = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of several machines differ a little.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
        .add_extension(_usage(authority is None), critical=True)
    )
    return builder.sign(signer, hashes.SHA256())


def _usage(authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, secret: bool) -> None:
    mode = 0o600 if secret else 0o644
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


if __name__ == "__main__":
    main()
