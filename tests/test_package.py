"""The package itself: its version, its public names, and pickles that name nothing else."""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
import pickle
import pickletools
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import srch_dist
from srch_dist import CrossModalHasher
from srch_dist.storage.feature_store import open_store
from tests.helpers.runs import make_pairs, make_store, no_cluster

ROOT = Path(srch_dist.__file__).parents[1]
# The sections of its values have no public names; YAML is its durable form.
NOT_FOR_PICKLES = {"TrainConfig"}


def test_metadata_and_attribute_hold_one_version():
    assert importlib.metadata.version("srch-dist") == srch_dist.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    dynamic = project["tool"]["setuptools"]["dynamic"]
    assert dynamic == {"version": {"attr": "srch_dist.__version__"}}


def test_python_m_prints_the_version():
    done = subprocess.run(
        [sys.executable, "-m", "srch_dist", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"srch-dist {srch_dist.__version__}\n"


@pytest.mark.parametrize("name", srch_dist.__all__)
def test_public_classes_are_known_by_their_public_name(name):
    value = getattr(srch_dist, name)
    assert name in dir(srch_dist)
    if inspect.isclass(value) and name not in NOT_FOR_PICKLES:
        assert (value.__module__, value.__qualname__) == ("srch_dist", name)
        assert pickle.loads(pickle.dumps(value)) is value


def modules_in(pickled: bytes) -> set[str]:
    """The modules of this package that a pickle imports."""
    strings = [value for _, value, _ in pickletools.genops(pickled) if isinstance(value, str)]
    return {text for text in strings if text.split(".")[0] == "srch_dist"}


def test_a_pickled_estimator_names_the_package_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("srch_dist.runtime.cluster.connect", no_cluster)
    store = make_store(tmp_path, **make_pairs())
    hasher = CrossModalHasher(bits=16, k=5).fit(store.path)
    pickled = pickle.dumps(hasher)
    assert modules_in(pickled) == {"srch_dist"}
    rows = store.read("image", 0, 10)
    assert (pickle.loads(pickled).encode(rows) == hasher.encode(rows)).all()


def test_a_pickled_store_names_the_package_alone(tmp_path):
    store = make_store(tmp_path, **make_pairs())
    pickled = pickle.dumps(open_store(store.path))
    assert modules_in(pickled) == {"srch_dist"}
    assert pickle.loads(pickled) == store


def test_the_logger_of_the_package_has_a_handler_that_prints_nothing():
    (handler,) = logging.getLogger("srch_dist").handlers
    assert isinstance(handler, logging.NullHandler)
