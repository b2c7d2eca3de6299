"""Paired features with the engine's preprocessing, the same for every method."""

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
    """Open a feature store; an .npz file is first ingested into the folder ``scratch``."""
    if path.suffix.lower() != ".npz":
        return open_store(path)
    return ingest_source(path, scratch / f"{path.stem}.zarr")


@dataclass(frozen=True)
class RetrievalTask:
    """Training rows (split 0, also the database) and queries (split 1) of a feature store.

    Attributes
    ----------
    name : str
        Name of the data set.
    store : FeatureStore
    rows : dict
        Row numbers in the store by side, ``"train"`` or ``"queries"``.
    features : dict
        float64 (n, d_g) or (q, d_g) by side and modality; centred with the mean of the training
        rows, then normalised to unit length.
    labels : dict
        Multi-hot (rows, c) or class names (rows,) by side, as stored.
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
        InputError
            The store lacks labels or a split, has fewer than 2 training rows or queries, or does
            not have exactly 2 modalities.
        """
        for name in ("labels", "split"):
            if name not in store.side:
                raise InputError(f"{store.path} has no array {name!r}. The comparison needs it.")
        if len(store.modalities) != 2:
            names = ", ".join(store.modalities)
            raise InputError(
                f"{store.path} has {len(store.modalities)} modalities ({names}). "
                "The comparison needs exactly 2."
            )
        split = store.read("split")
        rows = {"train": np.flatnonzero(split == 0), "queries": np.flatnonzero(split == 1)}
        for value, (side, numbers) in enumerate(rows.items()):
            if len(numbers) < 2:
                raise InputError(
                    f"{store.path}: {len(numbers)} rows with split {value} ({side}). "
                    "The comparison needs at least 2."
                )
        features: dict[str, dict[str, FloatArray]] = {side: {} for side in rows}
        for g in store.modalities:
            raw = {side: store.read_selected(g, numbers) for side, numbers in rows.items()}
            mean = kernels.column_sums(raw["train"]).sum(axis=0) / len(raw["train"])
            for side, block in raw.items():
                kind = np.dtype(np.float64)
                features[side][g], _ = kernels.normalise(block, mean, True, True, kind)
        labels = {side: store.read_selected("labels", numbers) for side, numbers in rows.items()}
        return cls(Path(store.path).stem, store, rows, features, labels)

    @property
    def train(self) -> Features:
        """Features (n, d_g) of the training rows, by modality."""
        return self.features["train"]

    @property
    def directions(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """(query modality, database modality) of both directions."""
        first, second = self.store.modalities
        return (first, second), (second, first)

    @cached_property
    def class_indicators(self) -> FloatArray:
        """Labels of the training rows for supervised methods, multi-hot (n, c)."""
        labels = self.labels["train"]
        if labels.ndim == 2:
            return np.asarray(labels != 0, dtype=np.float64)
        names, classes = np.unique(labels, return_inverse=True)
        return np.eye(len(names))[classes]

    @cached_property
    def relevant(self) -> dict[str, NDArray[np.bool_]]:
        """Relevance by side: whether a row shares a label with a query, (q, n) and (q, q)."""
        queries = self.labels["queries"]
        return {side: relevance(queries, labels) for side, labels in self.labels.items()}

    @cached_property
    def anchors(self) -> NDArray[np.int64]:
        """Positions of the anchors among the training rows, as `write_sample` draws them."""
        return sample_positions(self.rows["train"], MethodConfig().anchors)
