"""The comparison of two checkouts, on made-up run folders: what counts as equal, what does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipelines.checkouts.__main__ import CASES, COMMANDS, table, write_three
from pipelines.checkouts.compare import Item, compare_folders, compare_values

NEEDED = ("run/codes.zarr", "run/model.npz", "run/history.jsonl")
RECORD = {
    "iteration": 1,
    "terms": {"semantic": 92.66},
    "cg_residuals": [1.0, 0.25],
    "seconds": {"z": 0.5},
    "peak_memory": {"worker": 100},
}


def write_run(folder: Path) -> Path:
    """A run as `train` writes it, cut down to a few values."""
    run = folder / "run"
    run.mkdir(parents=True)
    codes = np.arange(12, dtype=np.uint8).reshape(6, 2)
    write_codes(run, codes)
    write_model(run, np.linspace(0, 1, 6).reshape(2, 3), out="run")
    write_history(run, RECORD)
    write_json(run / "evaluation.json", {"map": {"image_to_text": 0.5}})
    write_json(run / "run.json", {"finished": True, "summary": {"seconds": {"graph": 1.0}}})
    (run / "config.yaml").write_text("data: /a\nout: run\nbits: 16\nmethod:\n  beta: 1.0\n")
    (run / "results.csv").write_text("bits,map,seconds\n16,0.5,1.25\n")
    return folder


def write_codes(run: Path, codes: np.ndarray) -> None:
    shutil.rmtree(run / "codes.zarr", ignore_errors=True)
    array = zarr.create_array(str(run / "codes.zarr"), shape=codes.shape, dtype=codes.dtype)
    array[:] = codes


def write_model(run: Path, encoder: np.ndarray, out: str, version: str = "1", bits: int = 16):
    metadata = {"versions": {"numpy": version}, "config": {"out": out, "bits": bits}}
    header = np.array(json.dumps({"format": 1, "metadata": metadata}))
    np.savez(run / "model.npz", **{"header": header, "encoder/image": encoder})


def write_history(run: Path, *records: dict) -> None:
    (run / "history.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


@pytest.fixture
def sides(tmp_path):
    return write_run(tmp_path / "old"), write_run(tmp_path / "new")


def differences(sides, needed=NEEDED) -> dict[str, str]:
    found = compare_folders(*sides, needed)
    return {item.name: item.difference for item in found if item.difference is not None}


def test_equal_runs_are_compared_whole(sides):
    found = compare_folders(*sides, NEEDED)
    assert [item.difference for item in found] == [None] * 7
    assert tuple(item.name for item in found[:3]) == NEEDED


def test_one_bit_of_the_codes(sides):
    codes = np.arange(12, dtype=np.uint8).reshape(6, 2)
    codes[4, 1] ^= 1 << 5
    write_codes(sides[1] / "run", codes)
    expected = "[4, 1]: np.uint8(9) != np.uint8(41); 1 of 12 values differ, 1 of 96 bits"
    assert differences(sides) == {"run/codes.zarr": expected}


def test_metadata_of_an_array(sides):
    zarr.open_array(str(sides[1] / "run/codes.zarr")).attrs["bitorder"] = "big"
    assert "attributes" in differences(sides)["run/codes.zarr"]


def test_one_figure_of_the_history(sides):
    write_history(sides[1] / "run", {**RECORD, "terms": {"semantic": 92.66000000000001}})
    expected = "[0].terms.semantic: 92.66 != 92.66000000000001"
    assert differences(sides) == {"run/history.jsonl": expected}


def test_one_more_iteration_in_the_history(sides):
    write_history(sides[1] / "run", RECORD, RECORD)
    assert differences(sides) == {"run/history.jsonl": "1 entries != 2 entries"}


def test_a_field_that_is_gone(sides):
    write_history(sides[1] / "run", {k: v for k, v in RECORD.items() if k != "cg_residuals"})
    assert differences(sides) == {"run/history.jsonl": "[0].cg_residuals: missing in new"}


def test_seconds_memory_versions_and_paths_may_differ(sides):
    run = sides[1] / "run"
    write_history(run, {**RECORD, "seconds": {"z": 9.0}, "peak_memory": {"worker": 5}})
    write_json(run / "run.json", {"finished": True, "summary": {"seconds": {"graph": 7.0}}})
    write_model(run, np.linspace(0, 1, 6).reshape(2, 3), out="elsewhere", version="2")
    (run / "config.yaml").write_text("data: /b\nout: other\nbits: 16\nmethod:\n  beta: 1.0\n")
    (run / "results.csv").write_text("bits,map,seconds\n16,0.5,8\n")
    assert differences(sides) == {}


def test_what_is_ignored_in_one_document_counts_in_another(sides):
    write_json(sides[0] / "run" / "plan.json", {"seconds": 1.0})
    write_json(sides[1] / "run" / "plan.json", {"seconds": 2.0})
    assert differences(sides) == {"run/plan.json": "seconds: 1.0 != 2.0"}


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("name", ["run/evaluation.json", "run/codes.zarr"])
def test_an_item_that_one_side_lacks(sides, side, name):
    path = sides[side] / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert differences(sides) == {name: f"missing in {('old', 'new')[side]}"}


def test_a_needed_item_that_both_lack(sides):
    found = differences(sides, (*NEEDED, "encoded.zarr"))
    assert found == {"encoded.zarr": "missing in old and new"}


def test_a_run_that_was_never_written(sides):
    shutil.rmtree(sides[1])
    assert set(differences(sides).values()) == {"missing in new"}


def test_arrays_options_scores_and_tables(sides):
    run = sides[1] / "run"
    encoder = np.linspace(0, 1, 6).reshape(2, 3)
    write_model(run, np.nextafter(encoder, 2), out="run")
    write_json(run / "evaluation.json", {"map": {"image_to_text": 0.25}})
    (run / "config.yaml").write_text("data: /a\nout: run\nbits: 16\nmethod:\n  beta: 3.0\n")
    (run / "results.csv").write_text("bits,map,seconds\n16,0.25,1.25\n")
    found = differences(sides)
    assert found.pop("run/model.npz").startswith("encoder/image [0, 0]")
    assert found == {
        "run/evaluation.json": "map.image_to_text: 0.5 != 0.25",
        "run/config.yaml": "[2]: '  beta: 1.0' != '  beta: 3.0'",
        "run/results.csv": "[0].map: '0.5' != '0.25'",
    }


def test_metadata_of_the_model(sides):
    write_model(sides[1] / "run", np.linspace(0, 1, 6).reshape(2, 3), out="run", bits=32)
    expected = "header metadata.config.bits: 16 != 32"
    assert differences(sides) == {"run/model.npz": expected}


def test_values_are_compared_by_their_bits():
    nan = np.array([np.nan, 1.0])
    assert compare_values(nan, nan.copy()) is None
    assert compare_values(np.zeros(2), -np.zeros(2)) is not None
    assert compare_values(np.zeros(2), np.zeros(2, np.float32)) is not None
    assert compare_values(np.zeros((0, 3)), np.zeros((0, 3))) is None
    assert compare_values(np.array(1.5), np.array(1.5)) is None
    assert "1 of 2 values" in (compare_values(np.array(["a", "b"]), np.array(["a", "c"])) or "")


def test_the_table_names_what_differs_first():
    case, failed = CASES[0], CASES[1]
    equal = [Item(name, None) for name in case.needed]
    different = [Item(failed.needed[0], "bits"), *equal[1:]]
    lines = table([(case, equal), (failed, different), (failed, [Item(COMMANDS, "code 1")])])
    _, first, second, third = lines.splitlines()
    assert first.endswith("equal")
    assert second.endswith("1 of 5 differ; run/codes.zarr: bits")
    assert third.split()[1] == "nothing"
    assert third.endswith("commands: code 1")


def test_made_up_modalities_repeat(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_three(tmp_path / name, rows=50)
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert set(a.files) == {"labels", "image", "text", "sound"}
        assert all(np.array_equal(a[name], b[name]) for name in a.files)
