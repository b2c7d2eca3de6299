"""Power fails while commands write, and right after they end: what was committed is whole.

After the loss, the same line (with ``--resume`` for training) ends with exit code 0 and with the
results of an undisturbed run.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zarr

from srch_dist.encode.model import load_model
from srch_dist.encode.scoring import encode_rows
from srch_dist.storage.atomic_files import read_json
from srch_dist.storage.feature_store import FeatureStore, open_store
from srch_dist.storage.safe_npz import read_npz
from tests.helpers.faults import OPTIONS, ROWS, Clean, codes_of, options
from tests.helpers.power import PoweredCommands, powered_commands
from tests.helpers.runs import make_pairs, make_store, train_here

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.cluster]

# A moment in each phase of training, and from which of its calls on the power is lost.
PHASES = {
    "features": ("gather", 2),
    "graph search": ("neighbours", 2),
    "edges": ("weights", 1),
    "Z-step": ("column group", 2),
    "B-step": ("codes", 5),
    "commit": ("commit", 3),
    "model stage": ("restore", 1),
    "finish": ("finish", 1),
    "scores": ("score", 1),
}
QUICK = ["--workers", 1, "--no-report", "--no-baseline"]


@dataclass(frozen=True)
class Undisturbed:
    """Data and a finished run that no test changes, on the disk of the test."""

    store: FeatureStore
    run: Path

    def results(self) -> Clean:
        model = read_npz(self.run / "model.npz")
        return Clean(codes_of(self.run), {k: v for k, v in model.items() if k != "header"})

    def image_codes(self) -> np.ndarray:
        """Packed codes of the first modality, from the model alone."""
        return encode_rows(load_model(self.run), "image", self.store.read("image"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    store = make_store(folder, 50, **make_pairs(ROWS))
    train_here(store.path, folder / "run", **{**OPTIONS, "evaluate": True, "report": True})
    return Undisturbed(store, folder / "run")


@pytest.fixture
def powered(tmp_path):
    with powered_commands(tmp_path) as commands:
        yield commands


def test_unsynced_files_are_lost_and_synced_ones_stay(powered, tmp_path):
    """The simulation itself: without it, no cell below would prove anything."""
    disk = powered.disk
    for name in ("synced", "unsynced"):
        (disk.outside / name).write_bytes(b"x" * 5000)
        if name == "synced":
            subprocess.run(["sync", "--file-system", str(disk.outside)], check=True)
    disk.lose_power()
    assert powered.copy("synced").read_bytes() == b"x" * 5000
    assert not powered.holds("unsynced")
    loops = subprocess.run(["losetup", "--all"], capture_output=True, text=True, check=True)
    assert loops.stdout.count(str(tmp_path)) == 1


def ingest_line(undisturbed: Undisturbed, powered: PoweredCommands) -> list[object]:
    source = Path(undisturbed.store.path).parent / "pairs.npz"
    return [source, powered.path / "a.zarr", "--rows-per-chunk", 50]


def assert_same_store(undisturbed: Undisturbed, powered: PoweredCommands) -> None:
    found, expected = open_store(powered.copy("a.zarr")), undisturbed.store
    assert found.checksums == expected.checksums
    for name in (*expected.modalities, *expected.side):
        np.testing.assert_array_equal(found.read(name), expected.read(name))


@pytest.mark.fault("power loss during ingest, then the same line", "survived")
@pytest.mark.parametrize(("moment", "call"), [("ingest", 2), ("ingest", 9), ("ingested", 1)])
def test_ingest_goes_on_after_power_loss(undisturbed, powered, moment, call):
    line = ingest_line(undisturbed, powered)
    powered.cut_at(moment, call, "ingest", *line)
    powered.run("ingest", *line)
    assert_same_store(undisturbed, powered)


@pytest.mark.fault("power loss in a phase of training, then resume", "survived")
@pytest.mark.parametrize("phase", PHASES)
def test_training_resumes_after_power_loss(undisturbed, powered, phase):
    moment, call = PHASES[phase]
    line = [*options(undisturbed.store, powered.path / "run"), *QUICK]
    powered.cut_at(moment, call, "train", *line)
    powered.run("train", *line, "--resume")
    out = powered.copy("run")
    assert read_json(out / "run.json")["finished"] is True
    undisturbed.results().assert_same(out)


def assert_whole(folder: Path) -> None:
    """Assert that every file below a folder can be read, and none is empty."""
    for file in folder.rglob("*"):
        if file.is_file() and file.name != "lock.json":
            assert file.stat().st_size, file
            if file.suffix == ".npz":
                read_npz(file)
            elif file.suffix == ".json":
                read_json(file)
            elif file.suffix == ".jsonl":
                assert [json.loads(line) for line in file.read_text().splitlines()]
    for file in folder.rglob("zarr.json"):
        if read_json(file)["node_type"] == "array":
            assert zarr.open_array(str(file.parent), mode="r")[:].size


def assert_same_scores(found: Path, expected: Path) -> None:
    """Assert that two records of an evaluation have the same MAP in both directions."""
    assert read_json(found)["map"] == pytest.approx(read_json(expected)["map"])


def assert_page(file: Path) -> None:
    assert file.read_text(encoding="utf-8").rstrip().endswith("</html>")


@pytest.mark.fault("power loss right after exit code 0", "survived")
def test_finished_run_is_whole(undisturbed, powered):
    line = options(undisturbed.store, powered.path / "run")
    line[line.index("--no-evaluate")] = "--evaluate"
    powered.cut_after("train", *line, "--workers", 1)
    out = powered.copy("run")
    assert read_json(out / "run.json")["finished"] is True
    assert_whole(out)
    undisturbed.results().assert_same_results(out)
    assert_same_scores(out / "evaluation.json", undisturbed.run / "evaluation.json")
    assert_page(out / "report.html")


@pytest.mark.fault("power loss right after exit code 0", "survived")
def test_ingested_store_is_whole(undisturbed, powered):
    powered.cut_after("ingest", *ingest_line(undisturbed, powered))
    assert_same_store(undisturbed, powered)


def encode_line(undisturbed: Undisturbed, powered: PoweredCommands) -> list[object]:
    return [
        *("--model", undisturbed.run, "--data", undisturbed.store.path),
        *("--modality", "image", "--out", powered.path / "codes.zarr", "--workers", 1),
    ]


def assert_same_codes(undisturbed: Undisturbed, path: Path) -> None:
    assert_whole(path)
    found = zarr.open_array(str(path), mode="r")
    np.testing.assert_array_equal(found[:], undisturbed.image_codes())


@pytest.mark.fault("power loss right after exit code 0", "survived")
def test_encoded_codes_are_whole(undisturbed, powered):
    powered.cut_after("encode", *encode_line(undisturbed, powered))
    assert_same_codes(undisturbed, powered.copy("codes.zarr"))


@pytest.mark.fault("power loss during encode, then the same line", "survived")
@pytest.mark.parametrize("moment", ["encode", "encoded"])
def test_encode_goes_on_after_power_loss(undisturbed, powered, moment):
    line = encode_line(undisturbed, powered)
    powered.cut_at(moment, 1, "encode", *line)
    assert not powered.holds("codes.zarr")
    powered.run("encode", *line)
    assert_same_codes(undisturbed, powered.copy("codes.zarr"))


@pytest.fixture(scope="module")
def codes(undisturbed, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("codes") / "image.npy"
    np.save(path, undisturbed.image_codes())
    return path


def read_export(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".parquet":
        column = pytest.importorskip("pyarrow.parquet").read_table(path)["code"]
        return np.array([list(code.as_py()) for code in column], np.uint8)
    faiss = pytest.importorskip("faiss")
    index = faiss.read_index_binary(str(path))
    return faiss.vector_to_array(index.xb).reshape(index.ntotal, -1)


EXPORTS = ["npy", "faiss", "parquet"]


@pytest.mark.fault("power loss right after exit code 0", "survived")
@pytest.mark.parametrize("form", EXPORTS)
def test_exported_file_is_whole(powered, codes, form):
    out = powered.path / f"out.{form}"
    powered.cut_after("export", "--codes", codes, "--format", form, "--out", out)
    np.testing.assert_array_equal(read_export(powered.copy(out.name)), np.load(codes))


@pytest.mark.fault("power loss during export, then the same line", "survived")
@pytest.mark.parametrize("form", EXPORTS)
def test_export_goes_on_after_power_loss(powered, codes, form):
    line = ["--codes", codes, "--format", form, "--out", powered.path / f"out.{form}"]
    powered.cut_at("exported", 1, "export", *line)
    assert not powered.holds(f"out.{form}")
    powered.run("export", *line)
    np.testing.assert_array_equal(read_export(powered.copy(f"out.{form}")), np.load(codes))


@pytest.mark.fault("power loss right after exit code 0", "survived")
def test_page_is_whole(undisturbed, powered):
    powered.cut_after("report", undisturbed.run, "--out", powered.path / "page.html")
    assert_page(powered.copy("page.html"))


@pytest.mark.fault("power loss right after exit code 0", "survived")
def test_scores_are_whole(undisturbed, powered):
    powered.cut_after(
        *("evaluate", "--model", undisturbed.run, "--data", undisturbed.store.path),
        *("--json", powered.path / "scores.json", "--workers", 1),
    )
    assert_same_scores(powered.copy("scores.json"), undisturbed.run / "evaluation.json")
