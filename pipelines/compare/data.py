"""Paired features, prepared exactly as the engine does, for every method alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srch_dist import FeatureStore, ingest_source, open_store
from srch_dist.algorithm.features.sample import sample_positions
from srch_dist.config.options import MethodConfig
from srch_dist.errors import InputError
from srch_dist.kernels import features as kernels
from srch_dist.kernels.retrieval_metrics import relevance

from .baselines.protocol import Features, FloatArray


def open_source(path: Path, scratch: Path) -> FeatureStore:
    """A feature store, or an .npz file ingested into ``scratch`` first."""
    if path.suffix.lower() != ".npz":
        return open_store(path)
    return ingest_source(path, scratch / f"{path.stem}.zarr")


@dataclass(frozen=True)
class RetrievalTask:
    """The training rows (split 0, also the database) and the queries (split 1) of a store.

    Attributes
    ----------
    name : of the data set. store : where the features are.
    rows : by side ("train" and "queries") the row numbers in the store.
    features : by side and modality (n, d_g) or (q, d_g): centred with the mean of the training
        rows, then of unit length.
    labels : by side, multi-hot (rows, c) or class names (rows,), as stored.
    """

    name: str
    store: FeatureStore
    rows: dict[str, NDArray[np.int64]]
    features: dict[str, dict[str, FloatArray]]
    labels: dict[str, NDArray[Any]]

    @classmethod
    def load(cls, store: FeatureStore) -> RetrievalTask:
        """Read and normalise every row.

        Raises
        ------
        InputError : no labels, no split or an empty side of it, or not two modalities.
        """
        for name in ("labels", "split"):
            if name not in store.side:
                raise InputError(f"{store.path} has no array {name!r}, which the comparison needs")
        if len(store.modalities) != 2:
            found = ", ".join(store.modalities)
            raise InputError(f"the baselines are defined for 2 modalities, {store.path}: {found}")
        split = store.read("split")
        rows = {"train": np.flatnonzero(split == 0), "queries": np.flatnonzero(split == 1)}
        for side, chosen in rows.items():
            if len(chosen) < 2:
                raise InputError(f"{store.path} has {len(chosen)} rows of its {side}, needs 2")
        features: dict[str, dict[str, FloatArray]] = {side: {} for side in rows}
        for g in store.modalities:
            raw = {side: store.read_selected(g, chosen) for side, chosen in rows.items()}
            mean = kernels.column_sums(raw["train"]).sum(axis=0) / len(raw["train"])
            for side, block in raw.items():
                kind = np.dtype(np.float64)
                features[side][g], _ = kernels.normalise(block, mean, True, True, kind)
        labels = {side: store.read_selected("labels", chosen) for side, chosen in rows.items()}
        return cls(Path(store.path).stem, store, rows, features, labels)

    @property
    def train(self) -> Features:
        """Features (n, d_g) of the training rows by modality."""
        return self.features["train"]

    @property
    def directions(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """(query modality, database modality), both ways."""
        first, second = self.store.modalities
        return (first, second), (second, first)

    @cached_property
    def class_indicators(self) -> FloatArray:
        """Labels of the training rows as (n, c), multi-hot, for supervised methods."""
        labels = self.labels["train"]
        if labels.ndim == 2:
            return np.asarray(labels != 0, dtype=np.float64)
        names, owner = np.unique(labels, return_inverse=True)
        return np.eye(len(names))[owner]

    @cached_property
    def relevant(self) -> dict[str, NDArray[np.bool_]]:
        """Which rows of a side share a label with each query, (q, n) and (q, q)."""
        queries = self.labels["queries"]
        return {side: relevance(queries, labels) for side, labels in self.labels.items()}

    @cached_property
    def anchors(self) -> NDArray[np.int64]:
        """Positions among the training rows of the sample that `write_sample` draws."""
        return sample_positions(self.rows["train"], MethodConfig().anchors)
