"""The documentation site: it builds without warnings, and mistakes are found."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.docs import commands, errors, names
from srch_dist.__main__ import COMMANDS
from srch_dist.cli.help_texts import option_texts
from tests.helpers.markdown import ROOT

DOCS = ROOT / "docs"


def extension(name: str):
    spec = importlib.util.spec_from_file_location(name, DOCS / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(docs: Path, out: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", docs, out],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.slow
def test_the_site_builds_and_broken_links_and_lonely_pages_fail(tmp_path):
    docs = tmp_path / "docs"
    shutil.copytree(ROOT, tmp_path, dirs_exist_ok=True, ignore=_not_needed)
    whole = build(docs, tmp_path / "site")
    assert whole.returncode == 0, whole.stderr
    html = (tmp_path / "site" / "concepts" / "algorithm.html").read_text(encoding="utf-8")
    assert "<math" in html
    assert not re.search(r'(src|href)="https?://[^"]*\.(js|css)"', html)  # works without a network

    (docs / "lonely.md").write_text("# Lonely\n\n[gone](how-to/gone.md), [moved](../gone.py)\n")
    broken = build(docs, tmp_path / "site")
    assert broken.returncode != 0
    assert "isn't included in any toctree" in broken.stderr
    assert "no file is at how-to/gone.md" in broken.stderr
    assert "no file is at ../gone.py" in broken.stderr


def _not_needed(folder: str, names: list[str]) -> list[str]:
    kept = {"docs", "deploy", "pipelines", "srch_dist", "README.md"}
    if Path(folder) == ROOT:
        return [name for name in names if name not in kept and not name.endswith(".md")]
    return [name for name in names if name in ("_build", "__pycache__")]


def test_every_public_name_has_a_docstring_and_is_in_the_reference():
    assert extension("public_names").undocumented() == []


def test_the_reference_shows_all_names_in_the_repository_too():
    text = names.PAGE.read_text(encoding="utf-8")
    assert "| `CrossModalHasher` | " in text
    assert names.filled(text) == text, "run: python -m pipelines.docs.names"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_has_the_options_that_help_shows(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        commands.command_module(name).main(["--help"])
    assert not end.value.code
    shown = set(re.findall(r"^[│ ]+(?:-\w, )?(--[a-z][\w.-]*)", capsys.readouterr().out, re.M))
    shown.remove("--help")
    listed = {
        f"--{option.name}"
        for kind in (commands.options_class(name), commands.LogOptions)
        for option in commands.options(kind)
        if not option.positional
    }
    assert listed == shown
    kind = commands.options_class(name)
    assert all(option.text for option in commands.options(kind))
    assert option_texts(kind)


def test_the_list_of_errors_has_messages_of_all_rooms_in_order():
    messages = errors.messages()
    assert len(messages) > 250
    assert "a sweep needs --grid. Add for example --grid bits=16,32,64." in messages
    assert any(
        message.endswith("holds Python objects. Save the array as numbers or as text.")
        for message in messages
    )
    letters = re.findall(r"^## (\w)$", errors.page(), re.M)
    assert letters == sorted(set(letters))


def test_entries_of_docstrings_become_descriptions_and_returns_stays_prose():
    module = extension("descriptions")
    docstring = ["Do.", "", "Attributes", "----------", "model_ : the model,", "    of rows."]
    docstring += ["", "Returns", "-------", "Codes (n, l),", "packed.", "", "Raises", "------"]
    lines, returned = module.take_returns(module.split_entries([*docstring, "Error : no rows."]))
    assert lines[4:8] == ["model\\_", "    the model,", "    of rows.", ""]
    assert returned == "Codes (n, l), packed."
    assert lines[8:] == ["Raises", "------", "Error", "    no rows."]


def test_links_that_leave_the_folder_go_to_pages_or_become_text():
    rewrite = extension("repository_pages").rewrite_links
    text = "[a](../CONTRIBUTING.md#set-up) [b](../noxfile.py) `[c](x)` [d](gone.md) [e](options.md)"
    rewritten, broken = rewrite(text, DOCS / "index.md", "how-to/search")
    assert rewritten == (
        "[a](../project/contributing.md#set-up) b `[c](x)` [d](gone.md) [e](../options.md)"
    )
    assert broken == ["gone.md"]
