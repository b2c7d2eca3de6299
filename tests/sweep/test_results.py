"""Results of a sweep that are damaged."""

from __future__ import annotations

import pytest

from srch_dist.errors import StorageError
from srch_dist.storage.atomic_files import write_manifest
from srch_dist.sweep.results import read_result


@pytest.mark.parametrize(
    "content",
    ["{}", "[]", "null", '{"fingerprint": "a"}', '{"fingerprint": "a", "store": {}}', '{"fing'],
)
def test_other_json_than_a_result_is_refused_with_its_file(tmp_path, content):
    path = tmp_path / "bits=8.json"
    path.write_text(content)
    with pytest.raises(StorageError, match=r"bits=8\.json") as refusal:
        read_result(path)
    assert "\n" not in str(refusal.value)


def test_a_failed_combination_is_a_result(tmp_path):
    path = tmp_path / "bits=8.json"
    path.write_text('{"fingerprint": "a", "store": {}, "error": "collapsed"}')
    assert read_result(path)["error"] == "collapsed"


def test_an_edited_result_is_refused(tmp_path):
    write_manifest(tmp_path / "a.json", {"fingerprint": "a", "store": {}, "error": "no"})
    assert read_result(tmp_path / "a.json")["error"] == "no"
    edited = (tmp_path / "a.json").read_text().replace('"no"', '"yes"')
    (tmp_path / "a.json").write_text(edited)
    with pytest.raises(StorageError, match=r"a.json is damaged: .* its own checksum. Remove the"):
        read_result(tmp_path / "a.json")
