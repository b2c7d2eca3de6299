"""The file of an index is checked by its structure, before faiss allocates anything."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from srch_dist.errors import StorageError
from srch_dist.search.hamming import open_index
from srch_dist.search.index_file import check_index
from tests.helpers.indexes import BITS, ROWS, write_index

# Offset of the codes of a flat index: name, head, length of the codes.
CODES = 4 + 21 + 8


def patched(path, offset: int, value: int, size: int = 8):
    """Replace an integer of the file."""
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = value.to_bytes(size, "little")
    path.write_bytes(content)


@pytest.mark.parametrize(("lists", "rows"), [(0, ROWS), (0, 1), (8, ROWS), (1, ROWS), (64, 3)])
def test_indexes_of_faiss_pass(tmp_path, lists, rows):
    path = write_index(tmp_path / "a", lists, rows)
    assert (b"sprs" in path.read_bytes()) == (lists > 2 * rows)
    check_index(path)
    assert open_index(path).ntotal == rows


@pytest.mark.parametrize("lists", [0, 8, 256])
def test_cuts_and_additions_are_refused(tmp_path, lists):
    content = write_index(tmp_path / "a", lists, 20).read_bytes()
    for size in range(0, len(content), 5):
        (tmp_path / "b").write_bytes(content[:size])
        with pytest.raises(StorageError, match=r"cannot read .*b as a faiss binary index"):
            check_index(tmp_path / "b")
    (tmp_path / "b").write_bytes(content + b"x")
    with pytest.raises(StorageError, match="1 bytes follow the end of the index"):
        check_index(tmp_path / "b")


@pytest.mark.parametrize(
    ("offset", "value", "size", "message"),
    [
        (0, 0, 1, "expected IBxF or IBwF"),
        (4, BITS + 8, 4, "codes of 48 bits in 5 bytes"),
        (12, ROWS + 1, 8, "bytes of codes"),
        (12, 1 << 62, 8, "bytes of codes"),
        (12, 0, 8, "0 codes of"),
        (20, 0, 1, "trained 0"),
        (21, 7, 4, "metric 7"),
        (CODES - 8, 1 << 60, 8, "bytes of codes"),
    ],
)
def test_damaged_heads_are_named(tmp_path, offset, value, size, message):
    patched(write_index(tmp_path / "a"), offset, value, size)
    with pytest.raises(StorageError, match=message):
        check_index(tmp_path / "a")


@pytest.mark.parametrize(
    ("mark", "offset", "value", "message"),
    [
        (b"IBwF", 25, 1 << 40, "centres"),
        (b"IBxF", 12, 9, "bytes of codes"),
        (b"ilar", 4, 1 << 40, "lists"),
        (b"ilar", 12, 50, "lists"),
        (b"full", 0, 0, "expected full or sprs"),
        (b"full", 4, 1 << 61, "more bytes"),
        (b"full", 12, 1 << 63, "holds the number"),
        (b"full", 12, 1 << 40, "the index has 300"),
        (b"full", 12, 0, "rows"),
    ],
)
def test_damaged_lists_are_named(tmp_path, mark, offset, value, message):
    path = write_index(tmp_path / "a", 8)
    patched(path, path.read_bytes().index(mark) + offset, value)
    with pytest.raises(StorageError, match=message):
        check_index(path)


def test_a_number_beyond_the_last_list_is_named(tmp_path):
    path = write_index(tmp_path / "a", 64, 3)
    patched(path, path.read_bytes().index(b"sprs") + 12, 64)
    with pytest.raises(StorageError, match=r"list numbers up to 64; expected .* 0 to 63"):
        check_index(path)


def test_indexes_that_no_export_writes_are_refused(tmp_path):
    index = faiss.IndexBinaryHNSW(BITS, 8)
    index.add(np.zeros((9, BITS // 8), np.uint8))
    faiss.write_index_binary(index, str(tmp_path / "a"))
    with pytest.raises(StorageError, match=r"it starts with b'IBHf'.*python -m srch_dist\.export"):
        open_index(tmp_path / "a")
