"""`CrossModalHasher`: training and encoding as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import dask.array
import distributed
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from srch_dist.cli.progress import on_console
from srch_dist.config.loading import build_config
from srch_dist.config.options import TrainConfig
from srch_dist.encode.model import load_model, save_model
from srch_dist.encode.scoring import check_modality, encode_rows
from srch_dist.errors import ConfigError, InputError, StorageError
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.kernels.packed_codes import unpack_codes
from srch_dist.kernels.retrieval_metrics import partner_recall
from srch_dist.kernels.types import Packed
from srch_dist.runtime.interruptions import resume_note
from srch_dist.runtime.main_guard import end_second_import
from srch_dist.runtime.temporary import temporary_folder
from srch_dist.search.hamming import SearchResult, search_codes
from srch_dist.storage.atomic_files import read_json, replacing_folder, write_json
from srch_dist.storage.code_store import CodeStore, open_codes
from srch_dist.storage.feature_store import FeatureStore, open_store
from srch_dist.storage.in_memory import as_array, read_rows
from srch_dist.storage.locations import local_path
from srch_dist.storage.locks.output_lock import hold_output
from srch_dist.storage.outputs import check_new
from srch_dist.train.runner import train_model

# Rows of a NumPy or Zarr array that are encoded at once.
_ROWS = 16_384
# Places that `score` counts, and queries that are compared with the database at once.
_SCORED, _SCORED_ROWS = 10, 256


class CrossModalHasher(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Cross-modal hash codes (SRCH) of paired features.

    `fit` writes the features to a store on disk, then calls `train_model`. Training runs on the
    cluster of ``scheduler``, else on that of the current Dask client, else on a new local cluster.
    In a script, call `fit` under ``if __name__ == "__main__":``, because local workers import the
    script.

    Parameters
    ----------
    bits : bits per code, a multiple of 8.
    preset : ``balanced`` or ``paper``.
    k : neighbours per row.
    seed : seed of the first codes and of all samples.
    options : further options, nested as in a YAML file: ``{"method": {"lam": 5}}``.
    out : run directory to keep; by default a temporary directory that is removed.
    scheduler, workers, memory_limit : the cluster, as in `TrainConfig`.
    verbose : whether to show the progress on standard error.

    Attributes
    ----------
    model_ : the `Model`.
    modalities_ : names of the modalities, in the order of the fitted data.
    codes_ : (n, bits / 8) uint8, codes of the training rows, packed in little bit order.
    n_features_in_ : dimensions of the first modality.
    """

    # More than six parameters: scikit-learn reads the parameters of an estimator from here, so each
    # has to be explicit.
    def __init__(
        self,
        bits: int = 32,
        *,
        preset: str = "balanced",
        k: int = 10,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        out: str | None = None,
        scheduler: str | None = None,
        workers: int | None = None,
        memory_limit: str | None = None,
        verbose: bool = False,
    ) -> None:
        self.bits = bits
        self.preset = preset
        self.k = k
        self.seed = seed
        self.options = options
        self.out = out
        self.scheduler = scheduler
        self.workers = workers
        self.memory_limit = memory_limit
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Learn codes from paired rows.

        Parameters
        ----------
        X : if ``y`` is given, features (n, d_g) of the first modality. If not, a mapping from
            modality name to features (n, d_g), a `FeatureStore`, or the path of a `FeatureStore`.
            Features are NumPy, Dask, Zarr or HDF5 arrays; tables of numbers (pandas, Polars,
            Arrow), tensors and nested lists are converted. Sparse matrices are refused.
        y : features (n, d_h) of the second modality. The modalities are then named ``x`` and ``y``.

        Raises
        ------
        SrchError : as in `train_model` and `ingest_source`.
        """
        end_second_import()
        with temporary_folder("srch-dist-fit-") as scratch:
            store = _as_store(X, y, Path(scratch))
            config = self._config(store, self.out or str(Path(scratch) / "run"))
            # Without `out`, nothing is left to resume.
            again = "fit again with options={'resume': True}" if self.out else None
            with resume_note(again):
                trained = train_model(config, on_console() if self.verbose else None)
            self.model_ = load_model(trained.run.path)
            self.codes_: Packed = trained.run.read_codes()
            self.modalities_ = tuple(store.modalities)
            self.n_features_in_ = store.modalities[self.modalities_[0]]
        return self

    def encode(self, X: Any, modality: str | None = None) -> Any:  # noqa: N803
        """Encode features of one modality with the fitted model.

        Parameters
        ----------
        X : features (n, d_g), of any kind that `fit` accepts.
        modality : name of the modality; default: the first modality of the fitted data.

        Returns
        -------
        Packed codes (n, bits / 8) uint8 in little bit order: a lazy Dask array for a Dask array,
        else a NumPy array.

        Raises
        ------
        InputError : the modality is unknown, the number of dimensions is not that of `fit`, the
            features have NaN or Inf, or their type is refused.
        """
        check_is_fitted(self, "model_")
        name = self.modalities_[0] if modality is None else modality
        X = as_array(name, X)  # noqa: N806
        if isinstance(X, dask.array.Array):
            self._check_width(X.shape, name)
            rows = X.rechunk({1: -1})
            return rows.map_blocks(
                _encode_block,
                self.model_,
                name,
                dtype=np.uint8,
                chunks=(rows.chunks[0], (self.model_.bits // 8,)),
            )
        self._check_width(X.shape, name)
        parts = [
            encode_rows(self.model_, name, read_rows(name, X, start, start + _ROWS))
            for start in range(0, X.shape[0], _ROWS)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.model_.bits // 8), np.uint8)

    def transform(self, X: Any, modality: str | None = None) -> Any:  # noqa: N803
        """Encode features as ±1 codes (n, bits) int8; see `encode`."""
        packed = self.encode(X, modality)
        if isinstance(packed, dask.array.Array):
            chunks = (packed.chunks[0], (self.model_.bits,))
            return dask.array.map_blocks(unpack_codes, packed, dtype=np.int8, chunks=chunks)
        return unpack_codes(packed)

    def search(
        self,
        X: Any,  # noqa: N803
        top: int = 10,
        modality: str | None = None,
        codes: CodeStore | Packed | None = None,
    ) -> SearchResult:
        """Find the nearest rows of queries by Hamming distance, exactly; needs the extra `search`.

        Parameters
        ----------
        X : features (q, d_g) of the queries, of any kind that `fit` accepts.
        top : results per query.
        modality : modality of the queries; default: the first fitted one.
        codes : codes to search in, as `encode` returns them or opened by `open_codes`; default: the
            codes of the training rows.

        Returns
        -------
        ``rows`` and ``distances``, each (q, top), best first.
        """
        queries = np.asarray(self.encode(X, modality))
        return search_codes(_as_codes(self.codes_ if codes is None else codes), queries, top)

    def score(self, X: Any, y: Any = None) -> float:  # noqa: N803
        """Return recall@10 of held-out pairs: how often a row's partner is among the first 10.

        Every row of the first modality queries the encoded rows of the second, and the other way
        round; the result is the mean of both. Rows at equal distance share their places.

        Parameters
        ----------
        X, y : paired features, as in `fit`.
        """
        check_is_fitted(self, "model_")
        pairs = X if isinstance(X, Mapping) else dict(zip(self.modalities_, (X, y), strict=True))
        first, second = (
            np.asarray(self.encode(pairs[name], name)) for name in self.modalities_[:2]
        )
        if len(first) != len(second):
            raise InputError(f"X has {len(first)} rows, but y has {len(second)}; give pairs")
        return float(np.mean([_partner_recall(first, second), _partner_recall(second, first)]))

    def save(self, path: str | Path) -> Path:
        """Save the fitted estimator to a new folder: the model, the codes and the parameters.

        Raises
        ------
        StorageError : the folder already exists or cannot be written.
        """
        check_is_fitted(self, "model_")
        target = local_path(path)
        with hold_output(target):
            check_new(target)
            with replacing_folder(target) as folder:
                save_model(folder / "model.npz", self.model_)
                np.save(folder / "codes.npy", self.codes_)
                described = {"format": 1, "parameters": self.get_params()}
                write_json(folder / "estimator.json", described)
        return target

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load an estimator that `save` wrote.

        Raises
        ------
        StorageError : the folder does not exist, or is damaged.
        """
        folder = local_path(path)
        described = read_json(folder / "estimator.json")
        try:
            if described["format"] != 1:
                raise StorageError(f"{folder} has format {described['format']}, expected 1")
            hasher = cls(**described["parameters"])
        except (KeyError, TypeError) as error:
            raise StorageError(f"{folder}/estimator.json is damaged: {error!r}") from None
        hasher.model_ = load_model(folder / "model.npz")
        hasher.codes_ = np.array(open_codes(folder / "codes.npy").values)
        hasher.modalities_ = tuple(hasher.model_.means)
        hasher.n_features_in_ = len(hasher.model_.means[hasher.modalities_[0]])
        return hasher

    def fit_transform(self, X: Any, y: Any = None, **_params: Any) -> NDArray[np.int8]:  # noqa: N803
        """Fit, and return the codes of the training rows as ±1 (n, bits) int8."""
        return unpack_codes(self.fit(X, y).codes_)

    def _config(self, store: FeatureStore, out: str) -> TrainConfig:
        values = dict(self.options or {})
        graph = dict(values.pop("graph", None) or {})
        parameters = {
            "bits": self.bits,
            "preset": self.preset,
            "seed": self.seed,
            "memory_limit": self.memory_limit,
            "workers": self.workers,
            "scheduler": self.scheduler or _current_scheduler(),
            "data": store.path,
            "out": out,
            "evaluate": False,
        }
        twice = sorted(set(values) & set(parameters)) + (["graph.k"] if "k" in graph else [])
        if twice:
            raise ConfigError(
                f"'options' holds {', '.join(twice)}; pass these as parameters of the estimator"
            )
        # Without `out` the folder is removed, so a report page would be lost.
        page = {"report": self.out is not None}
        return build_config({**page, **values, **parameters, "graph": {**graph, "k": self.k}})

    def _check_width(self, shape: tuple[int, ...], modality: str) -> None:
        check_modality(self.model_, modality)
        dims = len(self.model_.means[modality])
        if len(shape) != 2 or shape[1] != dims:
            raise InputError(f"{modality} has shape {shape}, expected (n, {dims}) as in fit")


# The public name, so that pickles survive moves of modules.
CrossModalHasher.__module__ = "srch_dist"


def _as_codes(codes: CodeStore | Packed) -> CodeStore:
    if isinstance(codes, CodeStore):
        return codes
    values = np.ascontiguousarray(codes, np.uint8)
    return CodeStore(Path("codes"), len(values), 8 * values.shape[1], None, values)


def _partner_recall(queries: Packed, database: Packed) -> float:
    """Return the share of queries whose own row is among the first `_SCORED` of the database."""
    recalls = []
    for start in range(0, len(queries), _SCORED_ROWS):
        block = queries[start : start + _SCORED_ROWS]
        distances = np.stack([np.bitwise_count(row ^ database).sum(axis=1) for row in block])
        own = distances[np.arange(len(block)), np.arange(start, start + len(block))][:, None]
        closer = (distances < own).sum(axis=1)
        tied = (distances == own).sum(axis=1)
        recalls.append(partner_recall(closer, tied, _SCORED))
    return float(np.mean(np.concatenate(recalls)))


def _encode_block(block: NDArray[Any], model: Any, modality: str) -> Packed:
    return encode_rows(model, modality, block)


def _as_store(x: Any, y: Any, scratch: Path) -> FeatureStore:
    if isinstance(x, FeatureStore):
        return x
    if isinstance(x, str | Path):
        return open_store(x)
    if not isinstance(x, Mapping):
        if y is None:
            raise InputError("at least two modalities are needed: fit(X, y), or fit({name: array})")
        x = {"x": x, "y": y}
    elif y is not None:
        raise InputError("X is a mapping, so y must be None; add y to the mapping as a modality")
    return ingest_source(x, scratch / "features.zarr", list(x))


def _current_scheduler() -> str | None:
    """Return the scheduler address of Dask's current client; None if there is no client."""
    try:
        client = distributed.get_client()
    except ValueError:
        return None
    return str(client.scheduler_info(n_workers=0)["address"])
