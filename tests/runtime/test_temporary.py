"""No writable temporary folder, home or site-packages: a place is found, or one line says so."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import dask
import numpy as np
import pytest

from srch_dist.algorithm.neighbour_graph import nn_descent
from srch_dist.errors import StorageError, require
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.runtime import local_cluster, temporary
from srch_dist.runtime.cluster import start_local
from srch_dist.train.estimator import CrossModalHasher
from tests.helpers.commands import run_command
from tests.helpers.runs import make_pairs, make_store, train_here

LINE = "no temporary folder is writable (No usable temporary directory found in"
# Nobody can write here, root neither.
NOWHERE = "/proc/none"


def patch_children(monkeypatch, folder: Path, code: str) -> None:
    """Run ``code`` at the start of every Python process that this one starts."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, sys.path)]))


@pytest.fixture
def no_folder(tmp_path, monkeypatch):
    """Let `tempfile` find no folder, in this process and in those that it starts."""
    code = f"import tempfile\ntempfile._candidate_tempdir_list = lambda: [{NOWHERE!r}]\n"
    patch_children(monkeypatch, tmp_path / "site", code)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [NOWHERE])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a.npz, its store and a finished run."""
    folder = tmp_path_factory.mktemp("trained")
    store = make_store(folder, **make_pairs())
    train_here(store.path, folder / "run")
    return folder


COMMANDS = {
    "train": "--data pairs.zarr --out new --bits 16",
    "encode": "--model run --data pairs.zarr --modality image --out c.zarr",
    "evaluate": "--model run --data pairs.zarr",
    "plan": "--pairs 1000 --dims image=20,text=12 --calibrate",
    "sweep": "pairs.zarr --out sweep --grid bits=16,32",
    "ingest": "pairs.npz b.zarr --modalities image=image.T,text=text.T --side labels",
}


@pytest.mark.slow
@pytest.mark.usefixtures("no_folder")
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_end_with_one_line(trained, command):
    before = {path.name for path in trained.iterdir()}
    done = run_command(command, *COMMANDS[command].split(), folder=trained)
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: {LINE}"), done.stderr
    assert "Set TMPDIR to a folder" in done.stderr
    assert done.returncode == 2
    left = {path.name for path in trained.iterdir()} - before
    assert left <= {"sweep"}  # a sweep resumes in its folder


@pytest.mark.usefixtures("no_folder")
def test_python_calls_raise_it(tmp_path):
    pairs = make_pairs()
    with pytest.raises(StorageError, match="Set TMPDIR"):
        CrossModalHasher().fit({name: pairs[name] for name in ("image", "text")})
    with pytest.raises(StorageError, match="Set TMPDIR"):
        ingest_source(pairs, tmp_path / "a.zarr", ["image.T", "text.T"])
    with pytest.raises(StorageError, match="Set TMPDIR"), start_local(1):
        pass


def test_any_library_without_a_folder_is_understood():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(tempfile, "_candidate_tempdir_list", lambda: [NOWHERE])
        with pytest.raises(FileNotFoundError) as end:
            tempfile.mkdtemp()
    assert temporary.missing_folder(end.value).startswith(LINE)
    assert temporary.missing_folder(FileNotFoundError(2, "No such file", "a")) is None


@pytest.fixture
def no_cache(monkeypatch):
    """Let Numba find no writable folder: neither variable, nor package, nor home."""
    package = SimpleNamespace(origin=f"{NOWHERE}/package/__init__.py")
    monkeypatch.setattr(temporary.importlib.util, "find_spec", lambda _: package)
    monkeypatch.setenv("XDG_CACHE_HOME", NOWHERE)
    monkeypatch.setenv(temporary.CACHE_VARIABLE, NOWHERE)


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("place", ["variable", "package", "home"])
def test_one_writable_folder_is_enough_for_numba(tmp_path, monkeypatch, place):
    assert temporary.lacks_cache_folder("package")
    if place == "package":
        package = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
        monkeypatch.setattr(temporary.importlib.util, "find_spec", lambda _: package)
    else:
        name = temporary.CACHE_VARIABLE if place == "variable" else "XDG_CACHE_HOME"
        monkeypatch.setenv(name, str(tmp_path / "new" / "cache"))
    assert not temporary.lacks_cache_folder("package")


def test_an_optional_package_without_a_folder_is_named(monkeypatch, tmp_path):
    (tmp_path / "needy.py").write_text("raise OSError('set NEEDY to a writable directory')")
    monkeypatch.syspath_prepend(tmp_path)
    message = "drawing needs needy, which cannot start: set NEEDY to a writable directory"
    with pytest.raises(StorageError, match=message):
        require("needy", "report", "drawing")


def test_a_missing_package_needs_no_folder():
    assert not temporary.lacks_cache_folder("no_such_package")


@pytest.mark.usefixtures("no_cache")
def test_this_process_gets_a_folder_unless_it_has_compiled_before(monkeypatch):
    temporary.prepare_compiler_cache("sys")
    assert os.environ[temporary.CACHE_VARIABLE] == NOWHERE
    numba = SimpleNamespace(config=SimpleNamespace(CACHE_DIR=""))
    monkeypatch.setitem(sys.modules, "numba", numba)
    temporary.prepare_compiler_cache("no_such_package")
    given = os.environ[temporary.CACHE_VARIABLE]
    assert given == numba.config.CACHE_DIR
    assert Path(given).parent.is_dir()


@pytest.mark.usefixtures("no_cache")
def test_workers_share_a_folder_that_goes_with_the_cluster(monkeypatch):
    class StartedError(Exception):
        pass

    def start(_size, scratch, _security):
        key = f"distributed.nanny.pre-spawn-environ.{temporary.CACHE_VARIABLE}"
        assert dask.config.get(key) == f"{scratch}/numba"
        raise StartedError

    monkeypatch.setattr(local_cluster, "_make", start)
    with pytest.raises(StartedError), start_local(1):
        pass


def test_numba_compiles_where_nothing_but_the_temporary_folder_is_writable(tmp_path):
    (tmp_path / "pack.py").write_text(
        "import numba\n@numba.njit(cache=True)\ndef add(a): return a + 1\n"
    )
    (tmp_path / "__pycache__").write_text("no folder can be made here")
    code = "from srch_dist.runtime import temporary\n{}import pack\nprint('cached')"
    ends = []
    for line in ("", "temporary.prepare_compiler_cache('pack')\n"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(line)],
            env={**os.environ, "HOME": NOWHERE, "XDG_CACHE_HOME": NOWHERE, "NUMBA_CACHE_DIR": ""}
            | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        ends.append((done.stdout, (done.stderr.splitlines() or [""])[-1]))
    assert "no locator available" in ends[0][1]
    assert ends[1] == ("cached\n", "")


def test_the_search_prepares_the_cache_before_it_compiles(monkeypatch):
    class AskedError(Exception):
        pass

    def prepare(module):
        raise AskedError(module)

    monkeypatch.setattr(nn_descent, "prepare_compiler_cache", prepare)
    with pytest.raises(AskedError, match="pynndescent"):
        nn_descent.descend(lambda: np.eye(4), np.arange(4), 1, 0, 0)
