"""Commands of README and docs: the first line runs, and every option that is shown exists."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srch_dist.__main__ import COMMANDS, command_module
from tests.helpers.markdown import ROOT, blocks

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
SECONDS = 60  # 30 on two idle cores


def code_lines(page: Path = README) -> list[str]:
    shell = (block.text for block in blocks(page) if block.language == "sh")
    lines = [line for text in shell for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.strip()]


def commands(page: Path) -> list[str]:
    found = (line for line in code_lines(page) if re.search(r"python3? -m srch_dist\.\w+", line))
    # Shells of other hosts and of Kubernetes start these; tests/deploy checks them.
    return [line.partition("   #")[0] for line in found]


def all_commands() -> list[Any]:
    lines = {line: page for page in reversed(PAGES) for line in commands(page)}
    return [pytest.param(line, id=f"{page.stem}:{line[:60]}") for line, page in lines.items()]


def test_first_line_installs_and_trains_without_arguments():
    first = code_lines()[0]
    assert first.startswith("python3 -m venv ")
    assert re.search(r"pip install \S*( \S+)* && \S*python -m srch_dist\.train$", first)


@pytest.mark.cluster
def test_first_line_shows_codes_learned_from_real_pairs(tmp_path):
    """What it runs once the package is installed, in an empty folder."""
    command = code_lines()[0].split("&&")[-1].split()
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, *command[1:]],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < SECONDS
    table = done.stdout
    assert "MAP" in table
    for direction in ("image → text", "text → image"):
        found = re.search(rf"{direction} +(0\.\d+)", table)
        assert found
        assert float(found[1]) > 0.5
    with np.load(
        Path(importlib.import_module("srch_dist").__path__[0]) / "ingest" / "data" / "emoji.npz"
    ) as emoji:
        characters = set(emoji["characters"])
    examples = table.split("text → image, nearest codes first:")[1]
    assert sum(word in characters for word in examples.split()) >= 20
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_the_test_line_installs_the_test_extra():
    line = next(line for line in code_lines() if "pytest" in line)
    made, installed, *tests = line.split(" && ")
    assert made.endswith("-m venv .venv")
    assert installed.endswith("pip install -q '.[test]'")
    assert [test.split(" -m ")[1] for test in tests] == [
        "pytest -n 2 --dist loadfile --ignore=tests/faults",
        "pytest tests/faults",
    ]


@pytest.mark.parametrize("line", all_commands())
def test_every_command_uses_options_that_the_parser_knows(line, monkeypatch, capsys):
    """The parser sees the arguments of the line, and nothing runs."""
    words = shlex.split(line.split("&&")[-1])
    place = next(i for i, word in enumerate(words) if word.startswith("srch_dist."))
    name = words[place]
    parsed = []
    module = command_module(name.removeprefix("srch_dist."))
    work = {
        "srch_dist.ingest": "ingest_source",
        "srch_dist.train": "train_model",
        "srch_dist.sweep": "sweep_options",
        "srch_dist.encode": "encode_store",
        "srch_dist.evaluate": "evaluate_model",
        "srch_dist.plan": "draft_plan",
        "srch_dist.search": "search_parts",
        "srch_dist.export": "export_codes",
        "srch_dist.serve": "_application",
        "srch_dist.certificates": "make_certificates",
        "srch_dist.report": "write_page",
    }[name]

    class Parsed(Exception):
        """Stops the command where its work would begin."""

    def stop(*arguments, **_options):
        parsed.append(arguments)
        raise Parsed

    monkeypatch.setattr(module, work, stop)
    for first in (
        "connect",
        "connect_for",
        *(("open_run", "open_store") if "s3://" in line else ()),
    ):
        if hasattr(module, first):
            monkeypatch.setattr(module, first, stop)
    # Nothing answers there, so that no line looks for its bucket elsewhere.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises((Parsed, SystemExit)) as end:
        module.main([word.strip("[]") for word in words[place + 1 :]])
    message = capsys.readouterr().err
    if isinstance(end.value, SystemExit):  # refused, but for its files and not for its options
        assert re.search(
            r"^error: (.* (is not a (feature store|run directory)|does not exist)|cannot .* s3://)",
            message,
            re.M,
        )
    else:
        assert parsed


def test_the_pages_name_every_command():
    lines = (line for page in PAGES for line in commands(page))
    named = {re.search(r"srch_dist\.(\w+)", line)[1] for line in lines}
    assert set(COMMANDS) <= named


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150
