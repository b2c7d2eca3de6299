"""Freed memory between what is in use is given back, and not all the time."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from srch_dist import execution, trimming

MIB = 1 << 20


@pytest.fixture(autouse=True)
def due(monkeypatch):
    monkeypatch.setattr(trimming, "_last", -trimming.TRIM_SECONDS)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


@pytest.mark.skipif(trimming._trimmer() is None, reason="the C library has no malloc_trim")
@pytest.mark.parametrize("give_back", [trimming.trim_heap, lambda: execution._call(int)])
def test_what_is_free_between_arrays_in_use_is_given_back(give_back):
    arrays = [np.ones(8192) for _ in range(4000)]
    kept = arrays[::16]
    del arrays
    before = resident()
    give_back()
    assert resident() < before - 150 * MIB
    assert all((one == 1).all() for one in kept)


@pytest.mark.skipif(trimming._trimmer() is None, reason="the C library has no malloc_trim")
def test_once_in_a_while_is_enough():
    began = time.monotonic()
    first, second = trimming.trim_heap(), trimming.trim_heap()
    assert first
    assert not second or time.monotonic() - began > trimming.TRIM_SECONDS


def test_library_without_it_does_nothing(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    trimming._trimmer.cache_clear()
    try:
        assert not trimming.trim_heap()
    finally:
        trimming._trimmer.cache_clear()


def test_tasks_are_named_by_their_functions():
    assert execution.task(int, "3").key.startswith("int-")
    assert execution.task_name(execution.task(sorted, [1]).key) == "sorted"
    assert execution.run_one(execution.task(sorted, [2, 1])) == [1, 2]
