"""Ids of rows to encode, which become the keys of their codes."""

from __future__ import annotations

import numpy as np

from srch_dist.encode.inputs import FileInput
from srch_dist.ingest.naming import side_name
from srch_dist.kernels.types import Array
from srch_dist.storage import arrays
from srch_dist.storage._text_codec import TEXT
from srch_dist.storage.code_store import IDS
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.locations import Location


def read_ids(rows: FeatureStore | FileInput) -> Array | None:
    """Read the ids (n,) of rows as texts; None if they have none.

    A store's ids are its array ``ids``. A file's are a column of a usual name, such as ``key``.
    """
    if isinstance(rows, FeatureStore):
        if "ids" not in rows.side:
            return None
        values = rows.read("ids")
    else:
        named = [name for name in rows.source.specs() if side_name(name) == "ids"]
        if not named or rows.source.specs()[named[0]][0] != (rows.rows,):
            return None
        values = rows.read_side(named[0])
    if values.reshape(len(values), -1).shape[1] != 1:
        return None
    return np.array([str(value) for value in values.ravel().tolist()], TEXT)


def write_ids(path: Location, ids: Array, chunk_rows: int) -> None:
    """Write the ids of all rows beside their codes, in the same chunks of rows."""
    arrays.create_array(path / IDS, ids.shape, chunk_rows, TEXT)
    arrays.write_rows(path / IDS, 0, ids)
