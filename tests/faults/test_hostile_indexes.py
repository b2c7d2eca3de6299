"""Damaged and hostile files of an index: refused before they cost memory."""

from __future__ import annotations

import struct

import faiss
import numpy as np
import pytest

from srch_dist.errors import SrchError, StorageError
from srch_dist.search.hamming import search_index
from tests.helpers.indexes import BITS, ROWS, write_index

QUERIES = np.zeros((2, BITS // 8), np.uint8)
HEAD = struct.pack("<iiqBi", BITS, BITS // 8, 1 << 29, 1, 1)
# Files of at most 93 bytes whose numbers ask faiss for gigabytes.
BOMBS = {
    "codes": b"IBxF" + HEAD + struct.pack("<Q", 5 << 29),
    "lists": b"IBwF" + HEAD + struct.pack("<QQ", 1 << 30, 1),
    "centres": b"IBwF" + HEAD + struct.pack("<QQ", 1 << 29, 1) + b"IBxF" + HEAD
    + struct.pack("<Q", 5 << 29),
    "map": b"IBwF" + HEAD.replace(struct.pack("<q", 1 << 29), struct.pack("<q", 1))
    + struct.pack("<QQ", 1, 1) + b"IBxF" + struct.pack("<iiqBi", BITS, BITS // 8, 1, 1, 1)
    + struct.pack("<Q", 5) + bytes(5) + struct.pack("<BQ", 0, 1 << 29),
}  # fmt: skip


@pytest.mark.fault("index that claims more than its file holds", "refused")
@pytest.mark.parametrize("bomb", BOMBS)
def test_faiss_never_reads_a_bomb(tmp_path, monkeypatch, bomb):
    (tmp_path / "a").write_bytes(BOMBS[bomb])
    monkeypatch.setattr(faiss, "read_index_binary", lambda _: pytest.fail("faiss read the file"))
    with pytest.raises(StorageError, match="as a faiss binary index"):
        search_index(tmp_path / "a", QUERIES, 1)


@pytest.mark.slow
@pytest.mark.fault("index with 200 flipped bytes or cuts", "refused")
@pytest.mark.parametrize("lists", [0, 16])
def test_damage_never_ends_in_a_traceback(tmp_path, lists):
    """A flip in a code is another code: nothing says so. All else is refused."""
    content = write_index(tmp_path / "a", lists).read_bytes()
    rng, refused = np.random.default_rng(lists), 0
    for number in range(200):
        # Numbers and marks stand in the first part of the file, or before lists.
        place = int(rng.integers(len(content) if number % 2 else min(len(content), 400)))
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "b").write_bytes(damaged if number % 4 else content[:place])
        try:
            found = search_index(tmp_path / "b", QUERIES, 3, 16)
        except SrchError:
            refused += 1
        else:
            assert 0 <= found.rows.min() <= found.rows.max() < ROWS
    assert refused >= 50
