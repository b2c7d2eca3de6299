"""Whether the workers of a running cluster can do what is about to be asked of them.

All of it is looked at before work begins, and everything that is wrong is said at once, by worker:
versions that differ from those here, more than one thread, a store that is not seen, a folder that
is not shared.
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

from srch_dist.errors import ClusterError
from srch_dist.storage.locations import Location, S3Path, check_access, locate

# Those whose version can change a result, or whether a task can be sent at all.
PACKAGES = ("dask", "distributed", "numpy", "zarr", "pynndescent", "srch-dist")
# Folders of a network are seen elsewhere with a delay; attributes are kept for some seconds.
_APPEAR_SECONDS = 20.0
_POLL_SECONDS = 0.2
_SHOWN = 5
_OBJECTS = "give all of them the same endpoint and credentials, by their environment"

Found = Mapping[str, Any]


def check_workers(client: distributed.Client) -> None:
    """Hold every worker's versions, code and threads against what runs here.

    Raises
    ------
    ClusterError : naming the workers that differ, and how.
    """
    wrong: dict[str, list[str]] = {}
    # Dask looks these up itself, so that a worker without this package answers.
    answers: Any = client.get_versions(packages=PACKAGES)
    there = {address: _versions(found) for address, found in answers["workers"].items()}
    for what, here in _versions(answers["client"]).items():
        _compare(wrong, what, here, {address: found[what] for address, found in there.items()})
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        if worker["nthreads"] != 1:
            wrong.setdefault(address, []).append(f"{worker['nthreads']} threads (1 is safe)")
    if not wrong:
        # Of one version, code can still be of two states of it.
        _compare(wrong, "code of srch-dist", code_digest(), _ask(client, code_digest))
    _refuse(
        wrong,
        "do not run what this command runs",
        "start scheduler, workers and this command from one image or environment, with one thread "
        "a worker",
    )


def check_readable(client: distributed.Client, store: Location) -> None:
    """Refuse unless every worker sees the store at this path that is seen here."""
    here = store_digest(str(store))
    wrong = {
        address: [_complaint(found) if isinstance(found, Exception) else "another store"]
        for address, found in _ask(client, store_digest, str(store)).items()
        if found != here
    }
    remedy = "mount the same volume at the same path everywhere"
    _refuse(wrong, f"do not see {store}", _OBJECTS if isinstance(store, S3Path) else remedy)


def check_shared(client: distributed.Client, folder: Location) -> None:
    """Refuse unless what one process writes in ``folder`` is read by the others.

    Every worker writes a file and reads that of another and one that was written here; all of
    theirs are read here. What one writes to an object store, all read; each has to have the right.
    """
    if isinstance(folder, S3Path):
        asked = _ask(client, check_access, folder / "any", True)
        failed = {a: [_complaint(f)] for a, f in asked.items() if isinstance(f, Exception)}
        _refuse(failed, f"cannot write {folder}", _OBJECTS)
        return
    token = uuid.uuid4().hex
    remedy = "mount one volume at this path everywhere, and let their user write to it"
    with _probes(folder, token) as place:
        written = _ask(client, write_probe, str(place), token)
        failed = {a: [_complaint(f)] for a, f in written.items() if isinstance(f, Exception)}
        _refuse(failed, f"cannot write {folder}", remedy)
        names = list(written.values())
        others = dict(zip(written, names[1:] + names[:1], strict=True))
        read = _ask(client, read_probes, str(place), token, others, workers=list(others))
        failed = {a: [_complaint(f)] for a, f in read.items() if isinstance(f, Exception)}
        _refuse(failed, f"do not see in {folder} what others write", remedy)
        try:
            client.sync(_read_all, place, token, names)
        except OSError as error:
            raise ClusterError(
                f"what workers write to {folder} is not seen here ({error}); {remedy}"
            ) from None


def code_digest() -> str:
    """SHA-256, in short, of this package's modules."""
    root = Path(__file__).parents[1]
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(f"{path.relative_to(root).as_posix()}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:12]


def store_digest(store: str) -> str:
    """SHA-256, in short, of the documents that describe a store: those of its own, not the data."""
    root = locate(store)
    check_access(root)
    total = hashlib.sha256()
    documents = _documents(root)
    if not documents:
        raise FileNotFoundError(f"there is nothing at {store}")
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
    """Write a worker's own file and return its name."""
    name = hashlib.sha256(dask_worker.address.encode()).hexdigest()[:16]
    (Path(place) / name).write_text(token, encoding="ascii")
    return name


async def read_probes(
    place: str, token: str, others: Mapping[str, str], dask_worker: distributed.Worker
) -> None:
    """Read the file of another worker, and the one of the command; raises OSError."""
    await _read_all(Path(place), token, [others[dask_worker.address], token])


async def _read_all(place: Path, token: str, names: Sequence[str]) -> None:
    deadline = time.monotonic() + _APPEAR_SECONDS
    for name in names:
        while not _holds(place / name, token):
            if time.monotonic() > deadline:
                raise FileNotFoundError(f"{place / name} is not seen")
            await asyncio.sleep(_POLL_SECONDS)


def _holds(path: Path, token: str) -> bool:
    try:
        return path.read_text(encoding="ascii") == token
    except FileNotFoundError:
        return False


@contextmanager
def _probes(folder: Path, token: str) -> Iterator[Path]:
    """A folder for probes with a file of our own, gone in the end."""
    place = folder / f".probe-{token}"
    try:
        place.mkdir()
        # Workers may run as another user of the group that the volume is mounted for.
        place.chmod(0o777)
        (place / token).write_text(token, encoding="ascii")
    except OSError as error:
        raise ClusterError(f"cannot write {folder}: {error}") from None
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
    """What each worker answers, or the error; without workers that have left meanwhile."""
    found = client.run(function, *arguments, workers=workers, on_error="return")
    there = client.scheduler_info(n_workers=-1)["workers"]
    return {a: f for a, f in found.items() if a in there or not isinstance(f, Exception)}


def _versions(found: Mapping[str, Any]) -> dict[str, str | None]:
    """Versions in an answer of `Client.get_versions`; None for a package that is not installed."""
    packages = found["packages"]
    # Whether objects can be sent between two Pythons depends on the minor version: 3.11 of 3.11.7.
    python = ".".join(packages["python"].split(".")[:2])
    return {"Python": python, **{package: packages[package] for package in PACKAGES}}


def _compare(wrong: dict[str, list[str]], what: str, here: str | None, there: Found) -> None:
    for address, found in there.items():
        if found != here:
            missing = found is None or isinstance(found, Exception)
            has = f"without {what}" if missing else f"{what} {found}"
            wrong.setdefault(address, []).append(f"{has} (here {here})")


def _complaint(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _refuse(wrong: Mapping[str, Sequence[str]], what: str, remedy: str) -> None:
    if not wrong:
        return
    lines = [f"{address}: {', '.join(found)}" for address, found in sorted(wrong.items())]
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    raise ClusterError(f"{len(lines)} workers {what}: {'; '.join(lines[:_SHOWN])}{more}; {remedy}")
