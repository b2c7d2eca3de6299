"""srch-dist: out-of-core, distributed training of cross-modal hash codes.

Public names are imported on first use. Loading a model and encoding rows therefore imports NumPy
alone, without Dask or Zarr.

The package logs to the logger ``srch_dist``: results of stages at INFO, advice at WARNING, start
and end of stages at DEBUG. It prints nothing unless the application configures `logging`.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srch_dist.config.loading import build_config, load_config
    from srch_dist.config.options import TrainConfig
    from srch_dist.encode.append import Appended, append_codes, delete_codes
    from srch_dist.encode.batch import encode_store
    from srch_dist.encode.model import Model, load_model
    from srch_dist.encode.scoring import QueryEncoder, encode_rows
    from srch_dist.errors import SrchError
    from srch_dist.evaluate.retrieval import evaluate_model
    from srch_dist.export.append import append_index
    from srch_dist.export.formats import export_codes
    from srch_dist.ingest.pipeline import ingest_source
    from srch_dist.report import write_page, write_report_files
    from srch_dist.runtime.progress import Progress
    from srch_dist.search.hamming import SearchResult, search_codes
    from srch_dist.storage.code_store import CodeStore, open_codes
    from srch_dist.storage.feature_store import FeatureStore, open_store
    from srch_dist.sweep.runner import sweep_options
    from srch_dist.train.estimator import CrossModalHasher
    from srch_dist.train.runner import Trained, train_model

__version__ = "0.1.0"

__all__ = [
    "Appended",
    "CodeStore",
    "CrossModalHasher",
    "FeatureStore",
    "Model",
    "Progress",
    "QueryEncoder",
    "SearchResult",
    "SrchError",
    "TrainConfig",
    "Trained",
    "append_codes",
    "append_index",
    "build_config",
    "delete_codes",
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
    "write_report_files",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())

# The module of each public name, below this package.
_MODULES = {
    **dict.fromkeys(("Appended", "append_codes", "delete_codes"), "encode.append"),
    **dict.fromkeys(("build_config", "load_config"), "config.loading"),
    **dict.fromkeys(("CodeStore", "open_codes"), "storage.code_store"),
    **dict.fromkeys(("FeatureStore", "open_store"), "storage.feature_store"),
    **dict.fromkeys(("Model", "load_model"), "encode.model"),
    **dict.fromkeys(("QueryEncoder", "encode_rows"), "encode.scoring"),
    **dict.fromkeys(("SearchResult", "search_codes"), "search.hamming"),
    **dict.fromkeys(("Trained", "train_model"), "train.runner"),
    "Anchors": "encode.model",  # a pickled Model contains it; not for direct use
    "CrossModalHasher": "train.estimator",
    "SrchError": "errors",
    "TrainConfig": "config.options",
    "append_index": "export.append",
    "encode_store": "encode.batch",
    "evaluate_model": "evaluate.retrieval",
    "export_codes": "export.formats",
    "ingest_source": "ingest.pipeline",
    "Progress": "runtime.progress",
    "sweep_options": "sweep.runner",
    **dict.fromkeys(("write_page", "write_report_files"), "report"),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'srch_dist' has no attribute {name!r}")
    return getattr(importlib.import_module(f"srch_dist.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
