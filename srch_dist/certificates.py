"""`python -m srch_dist.certificates`: make TLS certificates for a small cluster.

The command makes one certificate authority, and a certificate with a key for each role. Scheduler,
workers and clients identify each other by certificate alone. Anyone who has a certificate and its
key can run code on all of them.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from srch_dist.cli.command import print_line, run_command
from srch_dist.errors import ConfigError, StorageError
from srch_dist.runtime.progress import Progress
from srch_dist.storage.durable import flush_file, flush_folder, make_folder
from srch_dist.storage.failures import storage_error
from srch_dist.storage.locations import local_path
from srch_dist.storage.outputs import check_folder

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ROLES = ("scheduler", "worker", "client")
# A hundred years.
_MOST_DAYS = 36_500


@dataclass(frozen=True)
class _Options:
    """Make certificates for the TLS connections of a cluster, in a new folder.

    Anyone who has one of the keys can run code on the whole cluster: keep the folder private.
    """

    folder: tyro.conf.Positional[str]
    """Folder to write to; it must be new or empty."""
    days: int = 365
    """Days until the certificates expire. They cannot be renewed: make new ones before that day."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options of the command line, and make certificates."""
    run_command("certificates", _Options, _make, arguments)


def make_certificates(folder: str | Path, days: int = 365) -> Path:
    """Write certificates for the roles scheduler, worker and client to a new folder.

    Files: ``ca.pem`` of the authority, and ``ROLE.pem`` with ``ROLE-key.pem`` for each role.

    The authority's key is not stored, so nobody can sign further certificates with it.

    Parameters
    ----------
    folder : folder to write to; must be new or empty.
    days : days of validity, 1 to 36,500.

    Raises
    ------
    StorageError : the folder holds files or cannot be written.
    ConfigError : ``days`` is out of range.
    """
    path = check_folder(local_path(folder))
    if not 1 <= days <= _MOST_DAYS:
        raise ConfigError(f"days is {days}, expected 1 to {_MOST_DAYS}")
    from cryptography.hazmat.primitives.asymmetric import ec

    if path.exists() and any(path.iterdir()):
        raise StorageError(f"{path} is not empty. Choose a new or an empty folder.")
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("srch-dist authority", authority_key, None, days)
    files = {"ca.pem": _pem(authority)}
    for role in ROLES:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(f"srch-dist {role}", key, (authority, authority_key), days)
        files |= {f"{role}.pem": _pem(certificate), f"{role}-key.pem": _key_pem(key)}
    _write_all(path, files)
    return path


def _make(options: _Options, _progress: Progress) -> None:
    path = make_certificates(options.folder, options.days)
    for role in ROLES:
        files = f"--tls-ca-file {path}/ca.pem --tls-cert {path}/{role}.pem"
        print_line(f"{role}: {files} --tls-key {path}/{role}-key.pem")
    print_line(
        f"options of srch_dist: --tls.ca {path}/ca.pem --tls.cert {path}/client.pem "
        f"--tls.key {path}/client-key.pem"
    )


def _certificate(
    name: str,
    key: EllipticCurvePrivateKey,
    authority: tuple[x509.Certificate, EllipticCurvePrivateKey] | None,
    days: int,
) -> x509.Certificate:
    """Make a certificate for ``key``, signed by ``authority``; if None, self-signed by ``key``."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    issuer, signer = (subject, key) if authority is None else (authority[0].subject, authority[1])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Start one hour ago, since the clocks of the machines may differ.
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


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files or none. If two processes write at once, one succeeds and one fails."""
    written: list[Path] = []
    try:
        make_folder(folder)
        for name, content in files.items():
            mode = 0o600 if name.endswith("-key.pem") else 0o644
            path = folder / name
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                written.append(path)
                file.write(content)
            flush_file(path)
        flush_folder(folder)
    except BaseException as error:
        for path in written:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise storage_error("write", folder, error, first=True) from None
        raise


if __name__ == "__main__":
    main()
