"""Records of a run that are damaged: one line with the file, whatever reads them."""

from __future__ import annotations

import json
import shutil

import pytest

from srch_dist.errors import StorageError
from srch_dist.report import __main__ as report
from srch_dist.report.records import load_records
from srch_dist.storage.run.directory import RunDirectory


@pytest.fixture
def run(shown, tmp_path):
    """A copy of a finished run of an earlier version, without its arrays and checksums."""
    folder = copy_records(shown.run.path, tmp_path / "run")
    for name, added in (
        ("run", ("checksums", "crc32")),
        ("evaluation", ("run", "crc32")),
        ("examples", ("run", "crc32")),
    ):
        content = json.loads((folder / f"{name}.json").read_text())
        for key in added:
            del content[key]
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def checked(shown, tmp_path):
    """A copy of a finished run with its checksums, without its arrays."""
    return copy_records(shown.run.path, tmp_path / "run")


def copy_records(run, folder):
    folder.mkdir()
    for path in run.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize("name", ["evaluation", "examples", "plan", "run"])
@pytest.mark.parametrize("content", ["{}", "[]", "3", "null", '"text"', '{"format": 1', "\xff"])
def test_other_json_than_expected_is_refused_with_the_file(run, name, content):
    if (name, content) == ("examples", "{}"):
        pytest.skip("a run without examples")
    (run / f"{name}.json").write_text(content, encoding="latin-1")
    with pytest.raises(StorageError, match=rf"{name}\.json"):
        load_records([run])


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("evaluation", ["queries", "bits", "pair_recall", "map", "precision_at"]),
        ("plan", ["workers", "memory_limit", "seconds"]),
        ("run", ["reason", "rows", "graph", "seconds", "weights", "condensed", "peak_memory"]),
    ],
)
def test_a_value_of_another_type_is_refused_wherever_it_is(run, name, keys):
    path = run / f"{name}.json"
    whole = json.loads(path.read_text())
    inner = whole["summary"] if name == "run" else whole
    for key in keys:
        assert key in inner
        path.write_text(json.dumps({**whole, "summary": {**inner, key: []}, key: []}))
        with pytest.raises(StorageError, match=rf"{name}\.json is damaged: \S*{key}"):
            load_records([run])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text[:-20], r"history\.jsonl line \d+ is damaged"),
        (lambda text: "[1]\n" + text, r"history\.jsonl line 1 is damaged"),
        (lambda text: text + "{}\n", r"history\.jsonl is damaged: \d+\.iteration: .* required"),
        (lambda _: "", r"history\.jsonl is damaged: .*at least 1"),
    ],
)
def test_a_cut_history_is_refused_with_its_line(run, change, expected, capsys):
    path = run / "history.jsonl"
    path.write_text(change(path.read_text()))
    with pytest.raises(SystemExit) as end:
        report.main([str(run), "--out", str(run / "page.html")])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    with pytest.raises(StorageError, match=expected):
        load_records([run])


def test_sound_records_pass_as_they_are(run):
    (records,) = load_records([run])
    assert records.history == [
        json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()
    ]
    assert records.evaluation == RunDirectory(run).record("evaluation")


def without_a_line(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(lines[:1] + lines[2:])


CHANGES = {
    "empty": lambda _: b"",
    "cut": lambda content: content[: content.index(b"\n", len(content) // 2) + 1],
    "line removed": without_a_line,
    "line doubled": lambda content: content + content.splitlines(keepends=True)[-1],
    "zeroed": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("name", ["config.yaml", "history.jsonl", "plan.json", "bits.npz"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_record_that_changed_after_the_end_is_refused(checked, name, change):
    path = checked / name
    path.write_bytes(CHANGES[change](path.read_bytes()))
    expected = rf"{name} is damaged: it does not match its checksum in run\.json\. Restore the file"
    with pytest.raises(StorageError, match=expected):
        load_records([checked])


def test_a_record_that_is_gone_is_refused(checked):
    (checked / "bits.npz").unlink()
    with pytest.raises(StorageError, match=r"cannot read .*bits\.npz"):
        load_records([checked])


def test_a_figure_of_run_json_that_changed_is_refused(checked):
    path = checked / "run.json"
    head = json.loads(path.read_text())
    head["summary"]["iterations"] += 1
    path.write_text(json.dumps(head))
    with pytest.raises(StorageError, match=r"run\.json is damaged: .* its own checksum\. Res"):
        load_records([checked])


def test_the_evaluation_may_be_written_again_after_the_end(checked):
    run = RunDirectory(checked)
    run.write_record("evaluation", {**run.record("evaluation"), "queries": 1})
    (records,) = load_records([checked])
    assert records.evaluation["queries"] == 1


def test_an_edited_evaluation_is_refused(checked):
    evaluation = json.loads((checked / "evaluation.json").read_text())
    (checked / "evaluation.json").write_text(json.dumps({**evaluation, "queries": 1}))
    with pytest.raises(StorageError, match=r"evaluation\.json is damaged: .* its own checksum"):
        load_records([checked])


def test_the_evaluation_of_an_earlier_version_is_read(checked):
    evaluation = RunDirectory(checked).record("evaluation")
    (checked / "evaluation.json").write_text(json.dumps(evaluation))
    (records,) = load_records([checked])
    assert records.evaluation == evaluation


@pytest.mark.parametrize("name", ["run.json", "plan.json", "history.jsonl", "evaluation.json"])
@pytest.mark.parametrize("content", [bytes(64), b"\xff\xfe{}", b'{"a": "\xe9"}'])
def test_bytes_that_are_no_text_are_named_so(run, name, content):
    (run / name).write_bytes(content)
    with pytest.raises(StorageError, match=rf"{name}.* is damaged: it is not JSON text\. Restore"):
        load_records([run])
