"""Damaged and hostile files: only errors of the project, no hang, bounded memory.

Each parser reads 200 damaged inputs. Set SRCH_DIST_FUZZ=10000 for a long run.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import tracemalloc
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srch_dist.config.loading import load_config
from srch_dist.encode.model import load_model
from srch_dist.errors import ConfigError, InputError, SrchError, StorageError
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.ingest.sources import sandbox
from srch_dist.storage.feature_store import FeatureWriter, open_store
from srch_dist.storage.locks.file_lock import hold_lock
from srch_dist.storage.locks.lease import Holder
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.storage.run.open import open_run
from srch_dist.storage.run.stages import StageLog
from tests.helpers.faults import OPTIONS
from tests.helpers.runs import make_pairs, train_here
from tests.helpers.source_files import WRITERS, for_matlab
from tests.helpers.source_files import make_pairs as make_source_pairs

EXAMPLES = int(os.environ.get("SRCH_DIST_FUZZ", "200"))
# The largest input has about 100 KiB.
MOST_BYTES = 64 << 20


@contextmanager
def little_memory():
    """Assert that the block allocates at most MOST_BYTES at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()  # otherwise other tests would be traced, too


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One valid file of each kind, from a small run with keep_work."""
    path = tmp_path_factory.mktemp("good")
    pairs = make_pairs(titles=np.array(["owl"] * 90))
    np.savez(path / "pairs.npz", **pairs)
    scipy.io.savemat(path / "pairs.mat", {"image": pairs["image"], "text": pairs["text"]})
    for g in ("image", "text"):
        (path / "npy").mkdir(exist_ok=True)
        np.save(path / "npy" / f"{g}.npy", pairs[g])
    for name, write in WRITERS.items():
        if name != "npy":
            write(path / name, make_source_pairs())
    np.savez_compressed(path / "packed.npz", **make_source_pairs())
    scipy.io.savemat(path / "cells.mat", for_matlab(make_source_pairs()), oned_as="column")
    ingest_source(path / "pairs.npz", path / "store", rows_per_chunk=40)
    train_here(path / "store", path / "run", **{**OPTIONS, "keep_work": True})
    begun = begin_store(path)
    begun.write("image", 0, pairs["image"][:40])
    with hold_lock(path / "run"):
        text = (path / "run" / "lock.json").read_text()
    (path / "run" / "lock.json").write_text(text)
    return path


def begin_store(path: Path) -> FeatureWriter:
    """Start an unfinished store, or resume it."""
    specs = {g: ((90, 12), np.dtype(np.float32)) for g in ("image", "text")}
    return FeatureWriter(path / "begun", specs, ("image", "text"), 40, "same")


def read_lock(path: Path) -> None:
    holder = Holder.parse(path.read_bytes())
    if holder is None:
        raise StorageError(f"nobody stands in {path}")
    assert str(holder)
    assert holder.is_here() in (True, False)
    assert holder.is_alive() in (True, False)


def read_store(path: Path) -> None:
    store = open_store(path)
    for name in [*store.modalities, *store.side]:
        store.read(name, 0, 50)


def read_source(path: Path) -> None:
    out = path.with_name("made")
    shutil.rmtree(out, ignore_errors=True)
    ingest_source(path, out)


def read_below(name: str, root: Path) -> None:
    read_source(root / name)


def read_stage(path: Path) -> None:
    recorded = json.loads((path / "run" / "work" / "stages" / "spilled.json").read_bytes())
    StageLog(path / "run" / "work" / "stages", recorded["config"]).find("spilled")


# By kind: the file to damage (relative to the folder), and the function that reads it.
PARSERS = {
    "config": ("run/config.yaml", lambda root: load_config(root / "run" / "config.yaml")),
    "npy source": ("npy/image.npy", lambda root: read_source(root / "npy")),
    **{
        f"{kind} source": (name, functools.partial(read_below, name))
        for kind, name in {
            "npz": "pairs.npz",
            "mat": "pairs.mat",
            "compressed npz": "packed.npz",
            "compressed mat": "v5.mat",
            "mat with cells": "cells.mat",
            "mat 7.3": "v73.mat",
            "HDF5": "a.h5",
            "Parquet": "a.parquet",
            "Feather": "a.feather",
            "Arrow stream": "stream.arrow",
        }.items()
    },
    **{
        f"{kind} of a source": (f"{store}/{name}", functools.partial(read_below, store))
        for kind, store, name in (
            ("group metadata", "a.zarr", "zarr.json"),
            ("array metadata", "a.zarr", "image/zarr.json"),
            ("text metadata", "a.zarr", "titles/zarr.json"),
            ("text chunk", "a.zarr", "titles/c/0"),
            ("array metadata, Zarr 2,", "v2.zarr", "image/.zarray"),
            ("text metadata, Zarr 2,", "v2.zarr", "titles/.zarray"),
            ("chunk, Zarr 2,", "v2.zarr", "image/0.0"),
        )
    },
    "journal of an ingest": ("begun/.unfinished.json", begin_store),
    "lock": ("run/lock.json", lambda root: read_lock(root / "run" / "lock.json")),
    "store metadata": ("store/zarr.json", lambda root: read_store(root / "store")),
    "array metadata": ("store/image/zarr.json", lambda root: read_store(root / "store")),
    "text metadata": ("store/titles/zarr.json", lambda root: read_store(root / "store")),
    "chunk": ("store/image/c/0/0", lambda root: read_store(root / "store")),
    "text chunk": ("store/titles/c/0", lambda root: read_store(root / "store")),
    "model": ("run/model.npz", lambda root: load_model(root / "run")),
    "run": ("run/run.json", lambda root: open_run(root / "run")),
    "checkpoint": (
        "run/checkpoints/0003/manifest.json",
        lambda root: RunDirectory(root / "run").latest(),
    ),
    "stage arrays": ("run/work/stages/spilled.npz", read_stage),
}

NUMBERS = ["0", "-1", "1e999", "NaN", "9" * 30, "9" * 5000, "null", "[]", "{}", '"../../x"']


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """The content with 1 to 4 changes: bytes flipped, set, cut, dropped, repeated, or a number."""
    raw = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["flip", "set", "cut", "drop", "repeat", "number"]))
        at = draw(st.integers(0, max(0, len(raw) - 1)))
        if kind == "flip" and raw:
            raw[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and raw:
            raw[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del raw[at:]
        elif kind == "drop":
            del raw[at : at + draw(st.integers(1, 50))]
        elif kind == "repeat":
            raw[at:at] = raw[at : at + draw(st.integers(1, 50))] * draw(st.integers(1, 20))
        else:
            digits = [i for i, value in enumerate(raw) if chr(value).isdigit()]
            if digits:
                start = draw(st.sampled_from(digits))
                stop = start
                while stop < len(raw) and chr(raw[stop]).isdigit():
                    stop += 1
                raw[start:stop] = draw(st.sampled_from(NUMBERS)).encode()
    return bytes(raw)


@pytest.fixture
def impatient_reader(monkeypatch):
    """A function that limits the sandbox to five seconds and 1 GiB."""

    def limit():
        monkeypatch.setattr(sandbox, "ANSWER_SECONDS", 5)
        monkeypatch.setattr(sandbox, "MEMORY_BYTES", 1 << 30)
        sandbox._child.stop()

    yield limit
    sandbox._child.stop()


@pytest.mark.fault("damaged files of each kind, 200 inputs each", "refused")
@pytest.mark.parametrize("kind", PARSERS)
def test_damaged_file_is_read_or_refused_and_nothing_else(folder, tmp_path, impatient_reader, kind):
    name, read = PARSERS[kind]
    root = shutil.copytree(folder, tmp_path / "a")
    content = (root / name).read_bytes()
    read(root)
    impatient_reader()
    refused = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        # The same inputs in every run, except in a long run.
        derandomize=EXAMPLES == 200,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(content))
    def check(raw):
        (root / name).write_bytes(raw)
        with little_memory():
            try:
                read(root)
            except SrchError as error:
                refused.append(str(error))

    check()
    assert len(refused) > EXAMPLES // 10
    silent = [text for text in refused if str(root) not in text]
    assert not silent, silent[:5]


def edit(path: Path, change) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def set_at(values, keys, value) -> None:
    functools.reduce(lambda inner, key: inner[key], keys[:-1], values)[keys[-1]] = value


METADATA = ["attributes", "srch_dist"]
CHUNKS = ["chunk_grid", "configuration", "chunk_shape"]


@pytest.mark.fault("hostile store: shapes, codecs, paths, objects", "refused")
@pytest.mark.parametrize(
    ("file", "keys", "value"),
    [
        ("zarr.json", [*METADATA, "rows"], 10**18),
        ("zarr.json", [*METADATA, "rows_per_chunk"], 0),
        ("zarr.json", [*METADATA, "modalities"], ["image", "../../run/codes.zarr"]),
        ("zarr.json", [*METADATA, "modalities"], ["image", "/etc"]),
        ("zarr.json", [*METADATA, "side"], 7),
        ("zarr.json", [*METADATA, "format"], 99),
        ("image/zarr.json", ["shape"], [90, 10**15]),
        ("image/zarr.json", ["shape"], [10**15, 20]),
        ("image/zarr.json", CHUNKS, [10**9, 10**9]),
        ("image/zarr.json", CHUNKS, [1, 1]),
        ("image/zarr.json", CHUNKS, [0, 20]),
        ("image/zarr.json", ["data_type"], "string"),
        ("image/zarr.json", ["codecs"], [{"name": "bytes"}, {"name": "gzip"}]),
        ("image/zarr.json", ["codecs"], [{"name": "numcodecs.pickle"}]),
        ("image/zarr.json", ["fill_value"], "NaN" * 10),
    ],
)
def test_hostile_store_is_refused_in_little_memory(folder, tmp_path, file, keys, value):
    shutil.copytree(folder / "store", tmp_path / "store")
    edit(tmp_path / "store" / file, lambda values: set_at(values, keys, value))
    with little_memory(), pytest.raises(StorageError, match=str(tmp_path / "store")):
        read_store(tmp_path / "store")


def write_bomb(path: Path, shape: tuple[int, ...], data_bytes: int) -> None:
    """Write an .npz of two arrays; the first claims ``shape`` and decompresses into zeros."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    text = header.ljust(117) + "\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("image.npy", "w", force_zip64=True) as member:
            member.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode())
            for _ in range(data_bytes >> 20):
                member.write(bytes(1 << 20))
        with archive.open("text.npy", "w") as member:
            np.lib.format.write_array(member, np.ones((shape[0], 3), dtype=np.float32))


@pytest.mark.fault("zip bombs and claimed shapes", "refused")
@pytest.mark.parametrize(
    ("shape", "data_bytes", "message"),
    [
        ((4, 10**14), 1 << 20, "image has shape"),
        ((2, 150 << 20), 1200 << 20, r"would expand from \d+ to \d+ bytes, more than 200-fold"),
        ((2, 20 << 20), 160 << 20, r"a row of image, shape \(2, 20971520\), has 83886080 bytes"),
    ],
    ids=["claimed", "bomb", "wide rows"],
)
def test_npz_that_unfolds_beyond_memory_is_refused(tmp_path, shape, data_bytes, message):
    write_bomb(tmp_path / "a.npz", shape, data_bytes)
    with little_memory(), pytest.raises(InputError, match=message):
        ingest_source(tmp_path / "a.npz", tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.fault("zip bombs and claimed shapes", "refused")
def test_model_that_unfolds_is_refused(folder, tmp_path):
    with np.load(folder / "run" / "model.npz") as members:
        np.savez_compressed(tmp_path / "model.npz", **members)
    with pytest.raises(StorageError, match="cannot read the model"):
        load_model(tmp_path / "model.npz")


@pytest.mark.fault("hostile options file", "refused")
@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nmethod: *c\n",
        "data: !!python/object/apply:os.system ['touch owned']\n",
        "[" * 5000,
        f"bits: {'9' * 10_000}\n",
        "bits: 2001-99-99\n",
        "# " + "x" * (2 << 20),
        "bits: .inf\n",
    ],
    ids=["aliases", "python object", "depth", "long number", "no date", "long file", "infinite"],
)
def test_hostile_options_are_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load_config("c.yaml")
    assert not Path("owned").exists()
