"""srch-dist: out-of-core, distributed training of cross-modal hash codes.

The public names are imported when they are first used: loading a model and encoding a row needs
NumPy alone, and neither Dask nor Zarr.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srch_dist.config import TrainConfig, build_config, load_config
    from srch_dist.encoding import encode_store
    from srch_dist.errors import SrchError
    from srch_dist.estimator import CrossModalHasher
    from srch_dist.evaluation import evaluate_model
    from srch_dist.exporting import export_codes
    from srch_dist.hamming import search_codes
    from srch_dist.ingest import ingest_source
    from srch_dist.reporting import write_page
    from srch_dist.scoring import QueryEncoder, encode_rows
    from srch_dist.storage.codes import CodeStore, open_codes
    from srch_dist.storage.features import FeatureStore, open_store
    from srch_dist.storage.model import Model, load_model
    from srch_dist.sweeping import sweep_options
    from srch_dist.training import Trained, train_model

__all__ = [
    "CodeStore",
    "CrossModalHasher",
    "FeatureStore",
    "Model",
    "QueryEncoder",
    "SrchError",
    "TrainConfig",
    "Trained",
    "build_config",
    "encode_rows",
    "encode_store",
    "evaluate_model",
    "export_codes",
    "ingest_source",
    "load_config",
    "load_model",
    "open_codes",
    "open_store",
    "search_codes",
    "sweep_options",
    "train_model",
    "write_page",
]

_PLACES = {
    **dict.fromkeys(("TrainConfig", "build_config", "load_config"), "config"),
    **dict.fromkeys(("CodeStore", "open_codes"), "storage.codes"),
    **dict.fromkeys(("FeatureStore", "open_store"), "storage.features"),
    **dict.fromkeys(("Model", "load_model"), "storage.model"),
    **dict.fromkeys(("QueryEncoder", "encode_rows"), "scoring"),
    **dict.fromkeys(("Trained", "train_model"), "training"),
    "CrossModalHasher": "estimator",
    "SrchError": "errors",
    "encode_store": "encoding",
    "evaluate_model": "evaluation",
    "export_codes": "exporting",
    "ingest_source": "ingest",
    "search_codes": "hamming",
    "sweep_options": "sweeping",
    "write_page": "reporting",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'srch_dist' has no attribute {name!r}")
    return getattr(importlib.import_module(f"srch_dist.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
