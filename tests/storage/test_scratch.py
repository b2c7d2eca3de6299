"""Scratch files of a shuffle: runs of rows read back, missing and damaged files refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srch_dist.errors import StorageError
from srch_dist.storage import scratch
from srch_dist.storage.scratch import (
    gather_spill,
    join_runs,
    read_spill,
    spill_runs,
    take_spill,
    write_spill,
)


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return {"wide": rng.normal(size=(10, 3)).astype(np.float32), "rows": np.arange(10)}


def test_any_run_of_rows_is_read_back(tmp_path, values):
    write_spill(tmp_path / "a", values)
    for name, array in values.items():
        for start, stop in ((0, 10), (3, 7), (9, 10), (4, 4), (0, 0), (10, 10)):
            found = read_spill(tmp_path / "a", name, start, stop)
            np.testing.assert_array_equal(found, array[start:stop])
            assert found.dtype == array.dtype
        np.testing.assert_array_equal(read_spill(tmp_path / "a", name), array)


def test_what_is_read_is_memory_of_its_own(tmp_path, values):
    write_spill(tmp_path / "a", values)
    found = read_spill(tmp_path / "a", "rows", 2, 5)
    write_spill(tmp_path / "a", {"rows": np.zeros(10, dtype=np.int64)})
    np.testing.assert_array_equal(found, [2, 3, 4])


def test_empty_arrays_are_files_too(tmp_path):
    write_spill(tmp_path / "a", {"none": np.empty((0, 4))})
    assert read_spill(tmp_path / "a", "none").shape == (0, 4)


def test_second_try_replaces_the_first_and_leaves_no_part(tmp_path, values):
    write_spill(tmp_path / "a", values)
    write_spill(tmp_path / "a", {"rows": np.arange(3)})
    np.testing.assert_array_equal(read_spill(tmp_path / "a", "rows"), np.arange(3))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["rows.npy", "wide.npy"]


def test_lost_or_cut_files_are_refused_by_name(tmp_path, values):
    write_spill(tmp_path / "a", values)
    with pytest.raises(StorageError, match=r"cannot read the scratch file .*other\.npy"):
        read_spill(tmp_path / "a", "other", 0, 1)
    file = tmp_path / "a" / "wide.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(StorageError, match=r"wide\.npy"):
        read_spill(tmp_path / "a", "wide", 0, 1)


@pytest.mark.parametrize("damage", [lambda b: b[:20], lambda b: b"x" + b[1:], lambda b: b[:0]])
def test_files_with_a_damaged_header_are_refused_by_name(tmp_path, values, damage):
    write_spill(tmp_path / "a", values)
    file = tmp_path / "a" / "wide.npy"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(StorageError, match=r"wide\.npy"):
        read_spill(tmp_path / "a", "wide", 0, 1)


def test_columns_of_a_matrix_are_stored_row_by_row(tmp_path, values):
    write_spill(tmp_path / "a", {"turned": values["wide"].T})
    np.testing.assert_array_equal(read_spill(tmp_path / "a", "turned", 1, 3), values["wide"].T[1:3])


def test_runs_of_rows_are_gathered_from_several_folders(tmp_path, values):
    folders = [tmp_path / name for name in "abc"]
    for step, folder in enumerate(folders):
        write_spill(folder, {name: array + step for name, array in values.items()})
    for spans in ([(0, 3), (4, 4), (9, 10)], [(10, 10), (0, 10), (0, 0)], [(2, 2)] * 3):
        for name, array in values.items():
            found = gather_spill(folders, name, spans)
            parts = [array[slice(*span)] + step for step, span in enumerate(spans)]
            np.testing.assert_array_equal(found, np.concatenate(parts))
            assert found.dtype == array.dtype


def test_runs_of_values_are_joined_and_any_part_is_read_back(tmp_path):
    rng = np.random.default_rng(1)
    runs = [{"a": rng.normal(size=n), "b": rng.integers(0, 9, n)} for n in (3, 0, 5, 2)]
    types = {"a": np.float32, "b": np.int8}
    found = spill_runs(tmp_path / "x", types, runs)
    joined = join_runs(types, 10, runs)
    for name, dtype in types.items():
        whole = np.concatenate([run[name] for run in runs]).astype(dtype)
        assert len(found[name]) == 10
        for part in (slice(0, 10), slice(2, 7), slice(9, 20), slice(4, 4), slice(None)):
            values = found[name][part]
            assert values.dtype == dtype
            np.testing.assert_array_equal(values, whole[part])
        np.testing.assert_array_equal(joined[name], whole)
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["a", "b"]


def test_runs_that_fail_leave_neither_file_nor_part(tmp_path):
    def runs():
        yield {"a": np.ones(4)}
        raise ValueError("the second run")

    with pytest.raises(ValueError, match="second"):
        spill_runs(tmp_path / "x", {"a": np.float64}, runs())
    assert list((tmp_path / "x").iterdir()) == []


def test_lost_or_cut_values_are_refused_by_name(tmp_path):
    found = spill_runs(tmp_path / "x", {"a": np.int64}, [{"a": np.arange(9)}])["a"]
    found.path.write_bytes(found.path.read_bytes()[:-8])
    np.testing.assert_array_equal(found[:8], np.arange(8))
    with pytest.raises(StorageError, match=r"scratch file .*a is truncated after 8 of 9"):
        found[5:]
    found.path.unlink()
    with pytest.raises(StorageError, match=r"cannot read the scratch file .*a"):
        found[:2]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.sets(st.integers(0, 299)), st.sampled_from([(), (3,)]))
def test_selected_rows_are_those_of_the_array(tmp_path_factory, rows, shape):
    folder = tmp_path_factory.mktemp("spill")
    values = np.arange(300 * int(np.prod(shape))).reshape(300, *shape)
    write_spill(folder, {"values": values})
    wanted = np.array(sorted(rows), dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        for gap, run in ((0, 64), (100, 1000), (1 << 20, 1 << 20)):
            patch.setattr(scratch, "_GAP_BYTES", gap)
            patch.setattr(scratch, "_RUN_BYTES", run)
            np.testing.assert_array_equal(take_spill(folder, "values", wanted), values[wanted])


def test_selected_rows_of_a_truncated_file_are_refused(tmp_path):
    write_spill(tmp_path, {"values": np.arange(100)})
    path = tmp_path / "values.npy"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(StorageError, match="truncated"):
        take_spill(tmp_path, "values", np.array([3]))
