"""The feature store of the emoji pairs that come with the package."""

from __future__ import annotations

from contextlib import suppress
from importlib import resources
from pathlib import Path

from srch_dist.errors import StorageError
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.storage import arrays
from srch_dist.storage.feature_store import FeatureStore, open_store


def shipped_store(folder: Path) -> FeatureStore:
    """The emoji pairs of the package as a feature store in a folder, such as a run directory."""
    path = folder / "emoji.zarr"
    with suppress(StorageError):  # not there, or not finished by a run that was killed
        return open_store(path)
    arrays.remove(path)
    with resources.as_file(resources.files("srch_dist") / "data" / "emoji.npz") as source:
        return ingest_source(source, path)
