"""The search benchmark: every variant returns the same distances, at every batch size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_variant_finds_the_same_as_faiss(tmp_path):
    options = ["--rows", 3000, "--bits", 32, "--queries", 1, 7, "--repeats", 1, "--ivf"]
    options += ["--clusters", 40, "--dims", 16, "--out", tmp_path / "figures.json"]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.search.run", *map(str, options)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures["exact"]) == {"1", "7"}
    for batch in figures["exact"].values():
        assert batch["same_distances"] is True
        assert set(batch["cpu_against_faiss"]) == {"zarr", "npy", "memory"}
        assert min(batch["seconds"].values()) > 0
    recall = figures["ivf"]["recall"]
    assert list(recall.values())[-1] == 1.0  # all lists probed
    assert sorted(recall.values()) == list(recall.values())
