"""Write files of every format that ingest reads, each with the library of the format."""

from __future__ import annotations

import io

import h5py
import hdf5storage
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import scipy.io
import scipy.sparse
import zarr

from srch_dist.ingest.unreadable import refuse_unreadable

ROWS = 23
TITLES = [f"{row} – 🦊 ß" for row in range(ROWS)]


def make_pairs(rows: int = ROWS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {
        "image": rng.normal(size=(rows, 6)).astype(np.float32),
        "text": rng.normal(size=(rows, 4)).astype(np.float16),
        "split": np.arange(rows, dtype=np.uint8) % 2,
        "titles": np.array(TITLES[:rows]),
    }


def lists(values: np.ndarray, fixed: bool = True) -> pa.Array:
    flat = pa.array(values.ravel())
    if fixed:
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1])
    return pa.ListArray.from_arrays(offsets, flat)


def table(pairs: dict[str, np.ndarray], fixed: bool = True) -> pa.Table:
    columns = {
        name: lists(values, fixed) if values.ndim == 2 else pa.array(values.tolist())
        for name, values in pairs.items()
    }
    columns["split"] = pa.array(pairs["split"])
    return pa.table(columns)


def write_npy(path, pairs):
    path.mkdir()
    for name, values in pairs.items():
        np.save(path / f"{name}.npy", values)


def write_columns(path, pairs):
    """Like `write_npy`, but column-major and big-endian."""
    path.mkdir()
    for name, values in pairs.items():
        swapped = values.astype(values.dtype.newbyteorder(">"))
        np.save(path / f"{name}.npy", np.asfortranarray(swapped))


def write_clip_retrieval(path, pairs):
    for shard, rows in enumerate([range(10), range(10, 11), range(11, ROWS)]):
        for folder, name in (("img_emb", "image"), ("text_emb", "text")):
            (path / folder).mkdir(parents=True, exist_ok=True)
            np.save(path / folder / f"{folder}_{shard}.npy", pairs[name][rows])
        (path / "metadata").mkdir(exist_ok=True)
        side = {"caption": pairs["titles"][rows].tolist(), "split": pa.array(pairs["split"][rows])}
        pq.write_table(pa.table(side), path / "metadata" / f"metadata_{shard}.parquet")


def write_parquet(path, pairs):
    pq.write_table(table(pairs), path, row_group_size=7)


def write_parquet_shards(path, pairs):
    path.mkdir()
    whole = table(pairs, fixed=False)
    for part, start in enumerate((0, 9, 18)):
        name = f"train-{part:05d}-of-00003.parquet"
        pq.write_table(whole.slice(start, 9), path / name)


def write_feather(path, pairs):
    pyarrow.feather.write_feather(table(pairs), path, chunksize=5, compression="lz4")


def write_arrow_stream(path, pairs):
    whole = table(pairs)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, whole.schema) as stream:
        stream.write_table(whole, max_chunksize=6)


def write_hdf5(path, pairs):
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=pairs["image"], chunks=(4, 3), compression="gzip")
        file["text"] = pairs["text"]
        file["split"] = pairs["split"]
        file["titles"] = pairs["titles"].tolist()


def write_mat_v5(path, pairs):
    scipy.io.savemat(path, for_matlab(pairs), do_compression=True, oned_as="column")


def write_mat_v73(path, pairs):
    hdf5storage.savemat(str(path), for_matlab(pairs), format="7.3", oned_as="column")


def for_matlab(pairs):
    cells = np.empty((ROWS, 1), dtype=object)
    cells[:, 0] = pairs["titles"].tolist()
    return {**pairs, "text": pairs["text"].astype(np.float64), "titles": cells}


def write_zarr(path, pairs, version=3):
    group = zarr.create_group(str(path), zarr_format=version)
    for name, values in pairs.items():
        text = values.dtype.kind == "U"
        kind = np.dtypes.StringDType() if text else values.dtype
        array = group.create_array(
            name, shape=values.shape, chunks=(5, *values.shape[1:]), dtype=kind
        )
        array.with_config({"write_empty_chunks": True})[:] = values


def write_zarr_v2(path, pairs):
    write_zarr(path, pairs, 2)


WRITERS = {
    "npy": write_npy,
    "columns": write_columns,
    "clip": write_clip_retrieval,
    "a.parquet": write_parquet,
    "shards": write_parquet_shards,
    "a.feather": write_feather,
    "stream.arrow": write_arrow_stream,
    "a.h5": write_hdf5,
    "v5.mat": write_mat_v5,
    "v73.mat": write_mat_v73,
    "a.zarr": write_zarr,
    "v2.zarr": write_zarr_v2,
}


def whole(source, name: str) -> np.ndarray:
    refuse_unreadable(source, [name], None)
    return np.concatenate(list(source.blocks(name, 7)))


def io_bytes(content: dict) -> bytes:
    """An uncompressed .mat file of version 5."""
    file = io.BytesIO()
    scipy.io.savemat(file, content)
    return file.getvalue()
