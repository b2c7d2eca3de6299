"""Records of a run that are damaged: one line with the file, whatever reads them."""

from __future__ import annotations

import json
import shutil

import pytest

from srch_dist.errors import StorageError
from srch_dist.report import __main__ as report
from srch_dist.report.records import load_records


@pytest.fixture
def run(shown, tmp_path):
    """A copy of a finished run, without its arrays."""
    folder = tmp_path / "run"
    folder.mkdir()
    for path in shown.run.path.iterdir():
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
    assert records.evaluation == json.loads((run / "evaluation.json").read_text())
