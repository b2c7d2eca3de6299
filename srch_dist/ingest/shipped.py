"""The emoji pairs shipped with the package, as a feature store."""

from __future__ import annotations

from contextlib import suppress
from importlib import resources

from srch_dist.errors import StorageError
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.storage import arrays
from srch_dist.storage.feature_store import FeatureStore, open_store
from srch_dist.storage.locations import Location


def shipped_store(folder: Location) -> FeatureStore:
    """Open the feature store ``emoji.zarr`` in ``folder``; create the store if it is absent."""
    path = folder / "emoji.zarr"
    with suppress(StorageError):  # it does not exist, or a killed run left it unfinished
        return open_store(path)
    arrays.remove(path)
    with resources.as_file(resources.files("srch_dist.ingest") / "data" / "emoji.npz") as source:
        return ingest_source(source, path)
