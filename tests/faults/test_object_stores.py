"""Stores at s3://: permanent errors fail at once, temporary ones are retried, writes are atomic.

The server is moto in a separate process, behind a proxy that tests kill, restart and throttle; see
`s3_server`.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from srch_dist.encode.batch import encode_store
from srch_dist.errors import ConfigError, StorageError, StorageUnavailableError
from srch_dist.evaluate.retrieval import evaluate_model
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.report.__main__ import main as write_report
from srch_dist.storage import arrays, s3
from srch_dist.storage.code_store import open_codes
from srch_dist.storage.feature_store import open_store
from srch_dist.storage.locations import S3Path, locate
from srch_dist.storage.run.open import open_run
from tests.helpers.faults import OPTIONS, command, message
from tests.helpers.runs import make_pairs, train_here
from tests.helpers.s3 import BUCKET, DATA, place

# Seconds within which a permanent error must be reported, on a busy machine.
SOON = 20


pytestmark = pytest.mark.usefixtures("s3_environment")


def test_store_is_the_one_on_disk(store):
    found = open_store(DATA)
    assert found.path == DATA
    assert (found.checksums, found.modalities) == (store.checksums, store.modalities)
    rows = np.array([3, 60, 61, 299])
    for name in store.modalities:
        np.testing.assert_array_equal(found.read(name), store.read(name))
        np.testing.assert_array_equal(
            found.read_selected(name, rows), store.read_selected(name, rows)
        )


@pytest.fixture(scope="module")
def published(server, clean, tmp_path_factory):
    """A run on the store at DATA, with its results at s3://."""
    work = tmp_path_factory.mktemp("work") / "run"
    with pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        train_here(DATA, place("runs/first"), **OPTIONS, work=str(work), report=True)
    clean.assert_same(work)
    return place("runs/first")


def test_results_are_those_of_a_run_on_disk(published, server, store, clean):
    run = open_run(published)
    np.testing.assert_array_equal(arrays.read_rows(run.codes), clean.codes)
    assert run.summary()["store"] == dict(store.checksums)
    assert [one["iteration"] for one in run.history()] == [1, 2, 3]
    names = {key.removeprefix("runs/first/").split("/")[0] for key in server.objects("runs/first/")}
    assert names == {
        *("bits.npz", "codes.zarr", "config.yaml", "history.jsonl", "model.npz"),
        *("plan.json", "report.html", "rows.zarr", "run.json"),
    }


def test_page_is_there_and_is_written_again_from_there(published, server, tmp_path, capsys):
    stored = server.objects("runs/first/")["runs/first/report.html"].decode()
    write_report([published, "--out", str(tmp_path / "page.html")])
    # The run wrote its page in a local folder with another name.
    again = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert again == stored.replace("Run run", "Run first")
    assert "Final codes" in again
    write_report([published])
    assert capsys.readouterr().out.splitlines()[-1] == f"page: {published}/report.html"
    assert server.objects("runs/first/")["runs/first/report.html"].decode() == again


def test_secrets_are_in_nothing_that_is_written(published, server):
    assert published
    for content in server.objects().values():
        assert server.full[1].encode() not in content
        assert server.full[0].encode() not in content


def test_finished_results_are_left_as_they_are(published, server, tmp_path):
    before = server.objects("runs/")
    again = {"work": str(tmp_path / "other"), **OPTIONS}
    assert str(train_here(DATA, published, **again, resume=True).run.path) == published
    with pytest.raises(StorageError, match=r"runs/first holds a finished run; .*--resume"):
        train_here(DATA, published, **again)
    with pytest.raises(ConfigError, match="seed is 7, the run has 0"):
        train_here(DATA, published, **again, seed=7, resume=True)
    assert server.objects("runs/") == before
    assert not (tmp_path / "other").exists()


def test_encoding_from_and_to_an_object_store(published, store, tmp_path):
    out = place("codes/text.zarr")
    encode_store(published, DATA, "text", out)
    local = encode_store(published, store.path, "text", tmp_path / "text.zarr")
    found = open_codes(out)
    np.testing.assert_array_equal(found.read(0, found.rows), arrays.read_rows(local))
    assert (found.bits, found.modality) == (16, "text")
    wanted = np.array([5, 250, 5])
    np.testing.assert_array_equal(
        found.read_scattered(wanted), arrays.read_scattered(local, wanted)
    )
    with pytest.raises(StorageError, match="already exists"):
        encode_store(published, DATA, "text", out)


def test_evaluation_reads_an_object_store(tmp_path):
    np.savez(tmp_path / "pairs.npz", **make_pairs())
    ingest_source(tmp_path / "pairs.npz", place("split.zarr"))
    work = {"work": str(tmp_path / "run"), **OPTIONS}
    train_here(place("split.zarr"), place("runs/split"), **work)
    found = evaluate_model(place("runs/split"), place("split.zarr"))
    assert found == evaluate_model(tmp_path / "run", place("split.zarr"))


REFUSALS = {
    "unknown key": (
        {"AWS_ACCESS_KEY_ID": "nobody"},
        r"credentials are wrong or have expired \(InvalidAccessKeyId\); set AWS_ACCESS_KEY_ID",
    ),
    "wrong secret": (
        {"AWS_SECRET_ACCESS_KEY": "a-wrong-secret"},
        r"credentials are wrong or have expired \(SignatureDoesNotMatch\)",
    ),
    "dead endpoint": (
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        r"no answer from http://127.0.0.1:9; check that the server is up and that AWS_ENDPOINT_URL",
    ),
    "missing bucket": ({}, "there is no bucket nowhere; create it, or correct the name"),
}


@pytest.mark.fault("S3: wrong credentials, dead endpoint, missing bucket", "refused")
@pytest.mark.parametrize("kind", REFUSALS)
@pytest.mark.parametrize("verb", ["read", "write"])
def test_wrong_access_is_said_at_once(s3_environment, store, kind, verb):
    changes, cause = REFUSALS[kind]
    for name, value in changes.items():
        s3_environment.setenv(name, value)
    bucket = "nowhere" if kind == "missing bucket" else BUCKET
    source = Path(store.path).parent / "pairs.npz"
    tried = {
        "read": lambda: open_store(f"s3://{bucket}/pairs.zarr"),
        "write": lambda: ingest_source(source, f"s3://{bucket}/new.zarr"),
    }
    start = time.monotonic()
    with pytest.raises(StorageError, match=cause) as end:
        tried[verb]()
    assert time.monotonic() - start < SOON
    # Only a server that does not answer is worth a retry.
    assert isinstance(end.value, StorageUnavailableError) == (kind == "dead endpoint")
    assert "\n" not in str(end.value)
    assert "a-wrong-secret" not in str(end.value)


@pytest.mark.fault("S3: no right to write", "refused")
def test_reading_is_enough_for_data_and_not_for_results(server, s3_environment, tmp_path):
    server.use(s3_environment, server.reader)
    assert open_store(DATA).path == DATA
    start = time.monotonic()
    with pytest.raises(
        StorageError, match=r"cannot write .*runs/other: .*do not permit this .*AccessDenied"
    ):
        train_here(DATA, place("runs/other"), **OPTIONS, work=str(tmp_path / "run"))
    assert time.monotonic() - start < SOON
    assert not (tmp_path / "run").exists()


def test_credentials_may_be_in_a_file(server, s3_environment, tmp_path):
    key, secret = server.full
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        s3_environment.delenv(name)
    (tmp_path / "secret").write_text(
        f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
    )
    s3_environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "secret"))
    assert open_store(DATA).path == DATA


@pytest.mark.fault("S3: the command with wrong credentials", "refused")
def test_command_ends_with_one_line(server, s3_environment, tmp_path):
    server.use(s3_environment, ("nobody", "a-wrong-secret"))
    options = ("--data", DATA, "--out", place("runs/other"))
    done = command("train", *options, faults=tmp_path / "armed", cwd=tmp_path)
    assert done.returncode == 2
    assert message(done).startswith(f"error: cannot list {DATA}: the credentials are wrong")
    assert "a-wrong-secret" not in done.stderr + done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("S3: the command without a server", "refused")
def test_command_without_a_server_may_be_tried_again(s3_environment, tmp_path):
    s3_environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    options = ("--data", DATA, "--out", place("runs/other"))
    done = command("train", *options, faults=tmp_path / "armed", cwd=tmp_path)
    assert done.returncode == 74
    assert message(done).startswith(f"error: cannot list {DATA}: no answer from http://127.0.0.1:9")
    assert "resume: finished work is kept. Run: python -m srch_dist.train" in done.stderr


@pytest.mark.fault("S3: server killed in mid-run, started again", "survived")
@pytest.mark.parametrize("after", [2, 40])
def test_killed_server_is_waited_for_in_training(server, clean, tmp_path, after):
    work = tmp_path / "run"
    server.script("die", 30 + after)
    thread = server.restart_when_dead(1.5)
    train_here(DATA, place(f"runs/after-{after}"), **OPTIONS, work=str(work))
    thread.join()
    clean.assert_same(work)
    run = open_run(place(f"runs/after-{after}"))
    np.testing.assert_array_equal(arrays.read_rows(run.codes), clean.codes)


@pytest.mark.fault("S3: server killed in ingest and encode, started again", "survived")
def test_killed_server_is_waited_for_in_writing(server, published, store, tmp_path):
    server.script("die", 25)
    thread = server.restart_when_dead(1.5)
    source = Path(store.path).parent / "pairs.npz"
    written = ingest_source(source, place("again.zarr"), rows_per_chunk=50)
    thread.join()
    assert written.checksums == store.checksums
    server.script("die", 32)
    thread = server.restart_when_dead(1.5)
    encode_store(published, DATA, "image", place("codes/killed.zarr"))
    thread.join()
    local = encode_store(published, store.path, "image", tmp_path / "image.zarr")
    found = arrays.read_rows(locate(place("codes/killed.zarr")))
    np.testing.assert_array_equal(found, arrays.read_rows(local))


@pytest.mark.fault("S3: server killed for good in mid-run", "refused")
def test_server_that_does_not_come_back_ends_the_command(server, s3_environment, published):
    s3_environment.setattr(s3, "RETRY_SECONDS", 3)
    server.script("die", 30)
    start = time.monotonic()
    with pytest.raises(StorageUnavailableError, match="no answer from http") as end:
        encode_store(published, DATA, "image", place("codes/lost.zarr"))
    assert time.monotonic() - start < 2 * SOON
    assert "\n" not in str(end.value)
    server.front.wait()
    server.front.stdout.close()
    server.start()
    # The leftover objects are not readable as codes, and do not block a new command.
    with pytest.raises(StorageError, match="does not exist"):
        open_codes(place("codes/lost.zarr"))
    (key,) = [key for key in server.objects("codes/") if key.endswith(".lock")]
    server.client().delete_object(Bucket=BUCKET, Key=key)
    encode_store(published, DATA, "image", place("codes/lost.zarr"))
    assert open_codes(place("codes/lost.zarr")).rows == open_store(DATA).rows


def fail_at(patch, name: str, call: int) -> None:
    """Let the ``call``-th call of an S3Path operation fail, as if the process ended there."""
    real, calls = getattr(S3Path, name), []

    def watched(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise StorageError("the end")
        return real(*arguments)

    patch.setattr(S3Path, name, watched)


@pytest.mark.fault("S3: gone while results are copied, then resume", "survived")
@pytest.mark.parametrize("call", [1, 8])
def test_results_count_when_all_are_there(clean, tmp_path, call):
    out, options = place(f"runs/cut-{call}"), {**OPTIONS, "work": str(tmp_path / "run")}
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, "write_bytes", call)
        with pytest.raises(StorageError, match="the end"):
            train_here(DATA, out, **options)
    with pytest.raises(StorageError, match=r"does not exist|not a run directory"):
        open_run(out)
    train_here(DATA, out, **options, resume=True)
    np.testing.assert_array_equal(arrays.read_rows(open_run(out).codes), clean.codes)


@pytest.mark.fault("S3: gone while codes are put in their place", "refused")
@pytest.mark.parametrize("call", [1, 4])
def test_codes_are_there_when_all_are(published, s3_environment, call):
    out = place(f"codes/cut-{call}.zarr")
    s3_environment.setattr("srch_dist.encode.batch.encoding_rows", lambda _: 100)  # three chunks
    fail_at(s3_environment, "copy", call)
    with pytest.raises(StorageError, match="the end"):
        encode_store(published, DATA, "image", out)
    assert locate(f"{out}/zarr.json").size() is None
    with pytest.raises(StorageError, match=r"does not exist|cannot open"):
        open_codes(out)


@pytest.mark.fault("S3: server throttles (503 SlowDown), then not", "survived")
def test_throttling_is_waited_for(server, store):
    before = server.answers().count("503")
    found = open_store(DATA)
    server.script("throttle", 6)
    np.testing.assert_array_equal(found.read("image"), store.read("image"))
    assert server.answers().count("503") == before + 6


@pytest.mark.fault("S3: server throttles without end", "refused")
def test_throttling_without_end_is_an_error(server, s3_environment):
    found = open_store(DATA)
    s3_environment.setattr(s3, "RETRY_SECONDS", 3)
    before = len(server.answers())
    server.script("throttle", 10_000)
    start = time.monotonic()
    with pytest.raises(
        StorageUnavailableError, match=r"asks to slow down, and still did .*\(SlowDown\)"
    ):
        found.read("image")
    assert time.monotonic() - start < SOON
    # Retries are spaced at growing intervals.
    assert 3 <= len(server.answers()) - before < 60


KEY = "damaged.zarr/text/c/1/0"
DAMAGE = {
    "deleted": None,
    "stale": lambda objects: objects[KEY.replace("c/1", "c/0")],
    "truncated": lambda objects: objects[KEY][:-5],
    "zero-length": lambda _: b"",
    "flipped": lambda objects: bytes([objects[KEY][0] ^ 4]) + objects[KEY][1:],
}


@pytest.fixture
def damaged(server):
    """A function that damages one chunk of a separate copy of the store, made for each test."""
    client, whole = server.client(), server.objects("pairs.zarr/")
    objects = {key.replace("pairs.zarr", "damaged.zarr"): one for key, one in whole.items()}
    for key, content in objects.items():
        client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def damage(kind: str) -> str:
        change = DAMAGE[kind]
        if change is None:
            client.delete_object(Bucket=BUCKET, Key=KEY)
        else:
            client.put_object(Bucket=BUCKET, Key=KEY, Body=change(objects))
        return place("damaged.zarr")

    return damage


@pytest.mark.fault("S3: damaged chunk of the data", "refused")
@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_chunk_is_named(damaged, tmp_path, kind):
    with pytest.raises(StorageError, match=place("damaged.zarr/text")) as end:
        train_here(damaged(kind), tmp_path / "run", **OPTIONS)
    assert kind == "deleted" or place(KEY) in str(end.value)
    with pytest.raises(StorageError, match=r"does not exist|not a run directory|not finished"):
        open_run(tmp_path / "run")


@pytest.mark.fault("S3: chunk that goes away between look and reading", "refused")
def test_chunk_that_goes_away_is_not_zeros(damaged, s3_environment):
    path = locate(damaged("deleted")) / "text"
    s3_environment.setattr(arrays, "_check_chunk", lambda *_: None)
    with pytest.raises(StorageError, match=r"row 50 is damaged \(s3.*c/1/0\)"):
        arrays.read_rows(path)
