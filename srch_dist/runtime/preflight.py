"""Preflight checks: whether the workers of a running cluster can do the work.

All checks run before the work. A worker fails if its package versions or its code differ from this
process, if it has more than one thread, if it cannot read a store, or if it does not share a
folder. The error names the failed workers.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distributed

from srch_dist.errors import (
    ClusterError,
    SrchError,
    StorageUnavailableError,
    is_outage,
    refusal,
)
from srch_dist.storage.locations import Location, S3Path, check_access, locate

# Packages whose version can change a result or prevent the transfer of a task.
PACKAGES = ("dask", "distributed", "numpy", "zarr", "pynndescent", "srch-dist")
# Wait for a new file: other hosts of a network file system cache attributes for seconds.
_APPEAR_SECONDS = 20.0
_POLL_SECONDS = 0.2
# Maximum number of workers that an error names.
_SHOWN = 5
_OBJECTS = "set the same endpoint and credentials in the environment of every worker"

# Results of workers by address; an exception for a worker whose call failed.
Answers = Mapping[str, Any]


def check_workers(client: distributed.Client) -> None:
    """Compare every worker's versions, code and threads with this process.

    Raises
    ------
    ClusterError : some workers differ. The message names each worker and its difference.
    """
    wrong: dict[str, list[str]] = {}
    # Dask itself looks up versions, so a worker without this package answers too.
    answers: Any = client.get_versions(packages=PACKAGES)
    there = {address: _versions(answer) for address, answer in answers["workers"].items()}
    for what, here in _versions(answers["client"]).items():
        _compare(wrong, what, here, {a: versions[what] for a, versions in there.items()})
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        if worker["nthreads"] != 1:
            wrong.setdefault(address, []).append(f"{worker['nthreads']} threads (only 1 is safe)")
    if not wrong:
        # Workers of one version can still run different code, for example from two checkouts.
        _compare(wrong, "code of srch-dist", code_digest(), _ask(client, code_digest))
    _refuse(
        wrong,
        "do not run the same software as this command",
        "start scheduler, workers and this command from one image or environment, with one thread "
        "per worker",
    )


def check_readable(client: distributed.Client, store: Location) -> None:
    """Raise ClusterError unless every worker and this process read the same store at ``store``."""
    here = store_digest(str(store))
    answers = _ask(client, store_digest, str(store))
    wrong = {address: answer for address, answer in answers.items() if answer != here}
    causes = {
        address: [_describe(answer) if isinstance(answer, Exception) else "a different store"]
        for address, answer in wrong.items()
    }
    remedy = "mount the same volume at the same path everywhere"
    remedy = _OBJECTS if isinstance(store, S3Path) else remedy
    _refuse(causes, f"do not see {store}", remedy, _kind(wrong))


def check_shared(client: distributed.Client, folder: Location) -> None:
    """Raise ClusterError unless all workers and this process share ``folder``.

    Every worker writes a file. Then the worker reads a file of another worker and a file of this
    process. This process reads the files of all workers. In an object store, all processes see the
    same objects, so only the permission to write is checked.
    """
    if isinstance(folder, S3Path):
        _refuse_failed(
            _ask(client, check_access, folder / "any", True), f"cannot write {folder}", _OBJECTS
        )
        return
    token = uuid.uuid4().hex
    remedy = "mount one volume at this path everywhere, and let the workers' user write to it"
    with _probes(folder, token) as place:
        written = _ask(client, write_probe, str(place), token)
        _refuse_failed(written, f"cannot write {folder}", remedy)
        names = list(written.values())
        others = dict(zip(written, names[1:] + names[:1], strict=True))
        read = _ask(client, read_probes, str(place), token, others, workers=list(others))
        _refuse_failed(read, f"do not see in {folder} what other processes write", remedy)
        try:
            client.sync(_read_all, place, token, names)
        except OSError as error:
            text = f"this process does not see what workers write to {folder} ({error}); {remedy}"
            raise refusal(ClusterError, text, error) from None


def code_digest() -> str:
    """Compute a short SHA-256 of the source code of this package's modules."""
    root = Path(__file__).parents[1]
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(f"{path.relative_to(root).as_posix()}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:12]


def store_digest(store: str) -> str:
    """Compute a short SHA-256 of a store's or run's JSON documents; arrays are not read."""
    root = locate(store)
    check_access(root)
    total = hashlib.sha256()
    documents = _documents(root)
    if not documents:
        raise FileNotFoundError(f"{store} does not exist")
    for path in sorted(documents):
        total.update(f"{str(path).removeprefix(str(root)).lstrip('/')}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:12]


def _documents(root: Location) -> Sequence[Any]:
    if isinstance(root, Path):
        return [*root.glob("*.json"), *root.glob("*/zarr.json")]
    named = [root / "run.json", root / "zarr.json"]
    return [path for path in named if path.size() is not None]


def write_probe(place: str, token: str, dask_worker: distributed.Worker) -> str:
    """Write this worker's probe file with content ``token`` to ``place``; return the file name."""
    name = hashlib.sha256(dask_worker.address.encode()).hexdigest()[:16]
    (Path(place) / name).write_text(token, encoding="ascii")
    return name


async def read_probes(
    place: str, token: str, others: Mapping[str, str], dask_worker: distributed.Worker
) -> None:
    """Read a probe file of another worker and one of the client; raise OSError for an absent file.

    ``others`` maps the address of a worker to the name of the file that this worker reads.
    """
    await _read_all(Path(place), token, [others[dask_worker.address], token])


async def _read_all(place: Path, token: str, names: Sequence[str]) -> None:
    deadline = time.monotonic() + _APPEAR_SECONDS
    for name in names:
        while not _holds(place / name, token):
            if time.monotonic() > deadline:
                raise FileNotFoundError(f"{place / name} does not appear on this host")
            await asyncio.sleep(_POLL_SECONDS)


def _holds(path: Path, token: str) -> bool:
    try:
        return path.read_text(encoding="ascii") == token
    except FileNotFoundError:
        return False


@contextmanager
def _probes(folder: Path, token: str) -> Iterator[Path]:
    """Make a folder for probe files in ``folder``, with this process's file, for this context.

    ``token`` is the name and the content of this process's file.
    """
    place = folder / f".probe-{token}"
    try:
        place.mkdir()
        # Workers may run as another user than this process.
        place.chmod(0o777)
        (place / token).write_text(token, encoding="ascii")
    except OSError as error:
        raise refusal(ClusterError, f"cannot write {folder}: {error}", error) from None
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _ask(
    client: distributed.Client,
    function: Callable[..., Any],
    *arguments: Any,
    workers: list[str] | None = None,
) -> dict[str, Any]:
    """Call ``function`` on every worker; return results or exceptions by worker address.

    Workers that leave the cluster during the call are left out.
    """
    answers = client.run(function, *arguments, workers=workers, on_error="return")
    there = client.scheduler_info(n_workers=-1)["workers"]
    return {a: f for a, f in answers.items() if a in there or not isinstance(f, Exception)}


def _versions(answer: Mapping[str, Any]) -> dict[str, str | None]:
    """Extract versions by package from `Client.get_versions`; None for a missing package."""
    packages = answer["packages"]
    # Two Pythons can exchange objects if their minor versions agree: 3.11 of 3.11.7.
    python = ".".join(packages["python"].split(".")[:2])
    return {"Python": python, **{package: packages[package] for package in PACKAGES}}


def _compare(wrong: dict[str, list[str]], what: str, here: str | None, there: Answers) -> None:
    for address, answer in there.items():
        if answer != here:
            missing = answer is None or isinstance(answer, Exception)
            has = f"without {what}" if missing else f"{what} {answer}"
            wrong.setdefault(address, []).append(f"{has} (this command: {here})")


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _refuse_failed(answers: Answers, what: str, remedy: str) -> None:
    """Raise an error that names the workers whose answer is an exception; do nothing if none is."""
    failed = {a: f for a, f in answers.items() if isinstance(f, Exception)}
    _refuse({a: [_describe(f)] for a, f in failed.items()}, what, remedy, _kind(failed))


def _kind(wrong: Answers) -> type[SrchError]:
    """Return StorageUnavailableError if every answer is an outage, else ClusterError."""
    away = all(isinstance(answer, Exception) and is_outage(answer) for answer in wrong.values())
    return StorageUnavailableError if away else ClusterError


def _refuse(
    wrong: Mapping[str, Sequence[str]],
    what: str,
    remedy: str,
    kind: type[SrchError] = ClusterError,
) -> None:
    if not wrong:
        return
    lines = [f"{address}: {', '.join(causes)}" for address, causes in sorted(wrong.items())]
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    raise kind(f"{len(lines)} workers {what}: {'; '.join(lines[:_SHOWN])}{more}; {remedy}")
