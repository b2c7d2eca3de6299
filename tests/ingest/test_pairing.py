"""Pairing: ids of any numeric or text type are compared, and what cannot be compared is said."""

from __future__ import annotations

import re

import numpy as np
import pytest

from srch_dist.errors import InputError
from srch_dist.ingest.pipeline import ingest_source
from tests.helpers.ingest import ROWS, make_pairs, notes_of

IDS = np.arange(1000, 1000 + ROWS)
KINDS = {
    "double": IDS.astype(np.float64),
    "float": IDS.astype(np.float32),
    "int16": IDS.astype(np.int16),
    "uint64": IDS.astype(np.uint64),
    "big-endian": IDS.astype(">i4"),
    "text": IDS.astype("U"),
    "big-endian text": IDS.astype("U").astype(">U8"),
    "padded text": np.array([f"{value:09d}" for value in IDS]),
    "column": IDS[:, None].astype(np.float64),
}


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", ["double", "int16", "text"])
def test_ids_of_any_type_are_compared(tmp_path, kind, other, saved):
    if {kind, other} == {"text", "padded text"}:
        pytest.skip("both are text, which is compared as it is")
    arrays = make_pairs(image_ids=KINDS[kind], text_ids=KINDS[other])
    notes = notes_of(tmp_path, arrays, saved)
    assert any("image_ids, text_ids agree" in note for note in notes)
    assert not any("cannot be compared" in note for note in notes)
    arrays["text_ids"] = KINDS[other][::-1]
    with pytest.raises(InputError, match="image_ids and text_ids differ in 22 of 23 rows"):
        ingest_source(arrays, tmp_path / "other.zarr")


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (IDS + 0.5, "image_ids row 0 is 1000.5, which is not an exact integer"),
        (IDS * 2.0**60, "which is not an exact integer"),
        (np.r_[np.nan, IDS[1:]], "image_ids row 0 is nan"),
        (np.array([f"cap{value}" for value in IDS]), "image_ids row 0 is 'cap1000', but the other"),
        (np.ones((ROWS, 2), int), r"image_ids has shape \(23, 2\) of int64, not one id per row"),
        (np.ones(ROWS, bool), "image_ids has shape .* of bool, not one id per row"),
    ],
)
def test_ids_that_cannot_be_compared_are_said(tmp_path, ids, reason):
    notes = notes_of(tmp_path, make_pairs(image_ids=ids, text_ids=IDS))
    (warning,) = [note for note in notes if "cannot be compared" in note]
    assert warning.startswith("warning: pairing: ids cannot be compared: ")
    assert warning.endswith("; rows are paired by position")
    assert re.search(reason, warning)


def test_large_unsigned_and_signed_ids_are_compared_exactly(tmp_path):
    left = np.arange(ROWS).astype(np.uint64) + np.uint64(2**63)
    right = np.arange(ROWS) + np.iinfo(np.int64).min
    with pytest.raises(InputError, match="differ in 23 of 23 rows"):
        notes_of(tmp_path, make_pairs(image_ids=left, text_ids=right))


def test_doubles_are_listed_as_integers_when_rows_are_missing(tmp_path):
    arrays = make_pairs(image_ids=IDS.astype(float), text=np.ones((22, 4)), text_ids=IDS[1:])
    with pytest.raises(InputError, match=r"1 id only in image: 1000\. Give"):
        notes_of(tmp_path, arrays)


def test_every_two_ids_that_can_be_compared_are_compared(tmp_path):
    """The first array has text that is no number; the two others contradict each other."""
    names = np.array([f"a{value}" for value in IDS])
    arrays = make_pairs(ids=names, image_ids=IDS, text_ids=IDS[::-1])
    with pytest.raises(InputError, match="image_ids and text_ids differ in 22 of 23 rows"):
        ingest_source(arrays, tmp_path / "store.zarr")
    notes = notes_of(tmp_path, make_pairs(ids=names, image_ids=IDS, text_ids=IDS), False)
    assert any("the arrays image_ids, text_ids agree" in note for note in notes)
    assert sum("cannot be compared" in note for note in notes) == 1


def test_ids_that_are_left_out_are_said(tmp_path):
    arrays = make_pairs(image_ids=IDS.astype("S"), text_ids=IDS)
    notes = notes_of(tmp_path, arrays, True)
    assert any("cannot be compared: image_ids is left out" in note for note in notes)
