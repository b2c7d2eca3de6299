"""Freed memory between what is in use is given back, and not all the time."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from srch_dist.runtime import heap, tasks

MIB = 1 << 20


@pytest.fixture(autouse=True)
def due(monkeypatch):
    monkeypatch.setattr(heap, "_last", -heap.TRIM_SECONDS)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


@pytest.mark.skipif(heap._trimmer() is None, reason="the C library has no malloc_trim")
@pytest.mark.parametrize("give_back", [heap.trim_heap, lambda: tasks._call(int)])
def test_what_is_free_between_arrays_in_use_is_given_back(give_back):
    arrays = [np.ones(8192) for _ in range(4000)]
    kept = arrays[::16]
    del arrays
    before = resident()
    give_back()
    assert resident() < before - 150 * MIB
    assert all((one == 1).all() for one in kept)


@pytest.mark.skipif(heap._trimmer() is None, reason="the C library has no malloc_trim")
def test_once_in_a_while_is_enough():
    began = time.monotonic()
    first, second = heap.trim_heap(), heap.trim_heap()
    assert first
    assert not second or time.monotonic() - began > heap.TRIM_SECONDS


def test_library_without_it_does_nothing(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    heap._trimmer.cache_clear()
    try:
        assert not heap.trim_heap()
    finally:
        heap._trimmer.cache_clear()


def test_tasks_are_named_by_their_functions():
    assert tasks.task(int, "3").key.startswith("int-")
    assert tasks.task_name(tasks.task(sorted, [1]).key) == "sorted"
    assert tasks.run_one(tasks.task(sorted, [2, 1])) == [1, 2]
