"""The .npz reader: any layout comes back as NumPy reads it, and damage is a clear refusal."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from srch_dist.errors import InputError, SrchError
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.ingest.sources.formats import open_source
from srch_dist.ingest.unreadable import refuse_unreadable

pytestmark = pytest.mark.slow


def make_pairs(rows: int = 23) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {
        "image": rng.normal(size=(rows, 6)).astype(np.float32),
        "text": rng.normal(size=(rows, 4)).astype(np.float16),
        "labels": rng.integers(0, 2, (rows, 3)).astype(np.uint8),
        "titles": np.array([f"{row} – 🦊 ß" for row in range(rows)]),
    }


def header(shape: tuple[int, ...], descr: str = "<f4", fortran: bool = False) -> bytes:
    """The head of an .npy file, whatever data follows it."""
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": fortran, "shape": shape})
    return file.getvalue()


def write_members(path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("rows", [1, 5, 23, 100])
def test_blocks_put_together_are_the_array(tmp_path, save, rows):
    arrays = make_pairs()
    save(tmp_path / "a.npz", **arrays)
    source = open_source(tmp_path / "a.npz")
    assert list(source.specs()) == list(arrays)
    for name, expected in arrays.items():
        blocks = list(source.blocks(name, rows))
        assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
        np.testing.assert_array_equal(np.concatenate(blocks), expected, strict=True)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_column_major_and_big_endian_members_keep_their_values(tmp_path, save):
    values = make_pairs()["image"]
    save(
        tmp_path / "a.npz",
        columns=np.asfortranarray(values),
        big=values.astype(">f8"),
        both=np.asfortranarray(values.astype(">f4")),
    )
    source = open_source(tmp_path / "a.npz")
    for name in ("columns", "big", "both"):
        found = np.concatenate(list(source.blocks(name, 4)))
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_both_versions_of_the_npy_header_are_read(tmp_path, version):
    file = io.BytesIO()
    npy.write_array(file, make_pairs()["image"], version=version)
    write_members(tmp_path / "a.npz", {"image.npy": file.getvalue()})
    blocks = list(open_source(tmp_path / "a.npz").blocks("image", 10))
    np.testing.assert_array_equal(np.concatenate(blocks), make_pairs()["image"])


def test_object_arrays_are_refused_without_being_unpickled(tmp_path):
    marker = tmp_path / "unpickled"

    class Trap:
        def __reduce__(self):
            return (type(marker).touch, (marker,))

    np.savez(tmp_path / "a.npz", image=np.array([Trap(), Trap()], dtype=object))
    assert "is an object array" in open_source(tmp_path / "a.npz").unreadable["image"]
    assert not marker.exists()


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize(
    ("shape", "stored", "message"),
    [
        ((1000, 6), 23 * 6, "has shape"),  # the header promises more than the member holds
        ((10**15, 6), 23 * 6, "has shape"),
        ((-1, 6), 23 * 6, "has shape"),
        ((10, 6), 23 * 6, "holds more data than its shape"),
    ],
)
def test_header_that_lies_about_the_bytes_is_refused(tmp_path, shape, stored, message, fortran):
    text = make_pairs()["text"]
    file = io.BytesIO()
    np.save(file, text[: shape[0]] if 0 < shape[0] < 1000 else text)
    data = header(shape, fortran=fortran) + np.ones(stored, dtype=np.float32).tobytes()
    write_members(tmp_path / "a.npz", {"image.npy": data, "text.npy": file.getvalue()})
    with pytest.raises(InputError, match=message) as refusal:
        ingest_source(tmp_path / "a.npz", tmp_path / "a.zarr", ["image", "text"])
    assert "image" in str(refusal.value)
    assert not (tmp_path / "a.zarr").exists()


def test_member_whose_size_is_overstated_in_the_directory_is_refused(tmp_path):
    """Both the .npy header and the zip directory promise more rows than are stored."""
    np.savez(tmp_path / "good.npz", text=np.ones((1000, 4), dtype=np.float32))
    stored = header((1000, 6)) + bytes(8)
    promised = len(header((1000, 6))) + 1000 * 6 * 4
    write_members(tmp_path / "a.npz", {"image.npy": stored})
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    place = raw.index(b"PK\x01\x02") + 20  # compressed and uncompressed size
    raw[place : place + 8] = promised.to_bytes(4, "little") * 2
    (tmp_path / "a.npz").write_bytes(raw)
    with pytest.raises(InputError, match="image"):
        list(open_source(tmp_path / "a.npz").blocks("image", 100))


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"not a zip file", b"PK\x05\x06" + bytes(18), b"\x93NUMPY\x01\x00"],
    ids=["empty", "two bytes", "text", "empty zip", "npy"],
)
def test_files_that_are_no_npz_are_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError):
        ingest_source(tmp_path / "a.npz", tmp_path / "a.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated_file_is_refused(tmp_path, save, share):
    save(tmp_path / "a.npz", **make_pairs())
    raw = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(InputError, match=r"not a readable \.npz file"):
        ingest_source(tmp_path / "a.npz", tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flipped_bits_are_refused_or_harmless(tmp_path, save, order):
    """Never a traceback, never other values, and nothing left of a refused store."""
    arrays = {name: np.asarray(values, order=order) for name, values in make_pairs(8).items()}
    save(tmp_path / "a.npz", **arrays)
    raw = (tmp_path / "a.npz").read_bytes()
    positions = np.random.default_rng(0).choice(len(raw), 60, replace=False)
    refused = 0
    for position in positions:
        damaged = bytearray(raw)
        damaged[position] ^= 1 << int(position) % 8
        (tmp_path / "a.npz").write_bytes(damaged)
        target = tmp_path / f"{position}.zarr"
        try:
            store = ingest_source(tmp_path / "a.npz", target)
        except SrchError:
            refused += 1
            assert not target.exists()
            continue
        for name in [*store.modalities, *store.side]:
            np.testing.assert_array_equal(store.read(name), arrays[name])
    assert refused > len(positions) / 2


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flipped_bits_of_the_data_never_change_values(tmp_path, save, order):
    """The zip's checksum is compared although the member is read in blocks."""
    values = np.asarray(make_pairs(40)["image"], order=order)
    save(tmp_path / "a.npz", image=values)
    raw = (tmp_path / "a.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        size = archive.infolist()[0].compress_size
    begin = raw.index(b"PK\x01\x02") - size
    refused = 0
    for position in np.linspace(begin + size // 2, begin + size - 1, 12).astype(int):
        damaged = bytearray(raw)
        damaged[position] ^= 0x04
        (tmp_path / "a.npz").write_bytes(damaged)
        try:
            source = open_source(tmp_path / "a.npz")
            refuse_unreadable(source, ["image"], None)
            found = np.concatenate(list(source.blocks("image", 7)))
        except InputError as refusal:
            refused += "image" in str(refusal)
        else:  # the end of a compressed member has bits that mean nothing
            np.testing.assert_array_equal(found, values)
    assert refused >= 10


def test_foreign_members_are_skipped_by_name(tmp_path):
    file = io.BytesIO()
    np.save(file, make_pairs()["image"])
    write_members(tmp_path / "a.npz", {"image.npy": file.getvalue(), "notes.txt": b"hello"})
    source = open_source(tmp_path / "a.npz")
    assert list(source.specs()) == ["image"]
    assert source.skipped == {"notes.txt": "not an .npy member"}


def test_member_that_is_not_an_array_is_refused_by_name(tmp_path):
    write_members(tmp_path / "a.npz", {"image.npy": json.dumps([1, 2]).encode()})
    assert "is not an array" in open_source(tmp_path / "a.npz").unreadable["image"]


@pytest.mark.parametrize(
    "name", ["../escaped", "/tmp/escaped", "a/../../escaped", "..", ".", "a/b"]
)
def test_names_that_leave_the_store_are_refused(tmp_path, name):
    members = {}
    for member, values in {**make_pairs(), name: make_pairs()["image"]}.items():
        file = io.BytesIO()
        np.save(file, values)
        members[f"{member}.npy"] = file.getvalue()
    write_members(tmp_path / "a.npz", members)
    with pytest.raises(InputError, match="is no valid name of an array"):
        ingest_source(tmp_path / "a.npz", tmp_path / "stores" / "a.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a"])
def test_unknown_endings_are_refused_with_the_known_ones(tmp_path, name):
    (tmp_path / name).write_bytes(b"1,2")
    with pytest.raises(InputError, match=r"known endings: \.npz"):
        open_source(tmp_path / name)


def test_missing_source_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.npz does not exist"):
        open_source(tmp_path / "nowhere.npz")
