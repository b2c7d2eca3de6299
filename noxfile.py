"""Development tasks: `nox -s fast`, `test`, `faults`, `lint`, `docs`; `nox` runs fast and lint.

Every session uses the environment that nox itself runs in, so nothing is downloaded. Install it
with `pip install -e '.[test,dev]'`. Arguments after ``--`` go to pytest.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nox

nox.options.sessions = ["fast", "lint"]

# Two processes; a file's tests stay together, since they share fixtures that train.
_PARALLEL = ("-n", "2", "--dist", "loadfile")
_WITHOUT_FAULTS = "--ignore=tests/faults"

# Warnings are errors; all are shown; references must resolve.
_STRICT = ("-W", "--keep-going", "-n", "-q")

# Compares without writing, so that the session leaves the checkout as it is.
_CHECK_OPTIONS_PAGE = """
import json, sys
from pipelines.options.page import PAGE, page
from pipelines.options.run import RESULTS
results = json.loads(RESULTS.read_text(encoding="utf-8"))
if PAGE.read_text(encoding="utf-8") != page(results):
    sys.exit("docs/options.md is out of date. Run: python -m pipelines.options.page")
print("docs/options.md is up to date")
"""


def _pytest(session: nox.Session, *arguments: str) -> None:
    session.run(sys.executable, "-m", "pytest", *arguments, *session.posargs)


def _tool(name: str) -> str:
    """Path of a command beside the interpreter, where PATH may have another version or none."""
    return str(Path(sys.executable).with_name(name))


@nox.session(venv_backend="none")
def fast(session: nox.Session) -> None:
    """Run the tests that need no cluster, no root and less than 10 s each."""
    _pytest(session, *_PARALLEL, "-m", "not slow and not cluster and not root", _WITHOUT_FAULTS)


@nox.session(venv_backend="none")
def test(session: nox.Session) -> None:
    """Run the whole suite without the fault matrix."""
    _pytest(session, *_PARALLEL, _WITHOUT_FAULTS)


@nox.session(venv_backend="none")
def faults(session: nox.Session) -> None:
    """Run the fault matrix, in one process; cells that need root skip with the reason."""
    _pytest(session, "tests/faults")


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style, format, types, import contracts and spelling, as CI does."""
    session.run(_tool("ruff"), "check", ".")
    session.run(_tool("ruff"), "format", "--check", ".")
    session.run(_tool("mypy"))
    session.run(_tool("lint-imports"))
    session.run(_tool("codespell"))


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Check docs/options.md against the measurements, then build the site; a warning fails."""
    session.run(sys.executable, "-c", _CHECK_OPTIONS_PAGE)
    session.run(sys.executable, "-m", "sphinx", *_STRICT, "docs", "docs/_build")
