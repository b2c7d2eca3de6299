"""srch-dist: out-of-core, distributed training of cross-modal hash codes."""

from srch_dist.config import TrainConfig, build_config, load_config
from srch_dist.encoding import encode_rows, encode_store
from srch_dist.errors import SrchError
from srch_dist.evaluation import evaluate_model
from srch_dist.ingest import ingest_source
from srch_dist.storage.features import FeatureStore, open_store
from srch_dist.storage.model import Model, load_model
from srch_dist.training import Trained, train_model

__all__ = [
    "FeatureStore",
    "Model",
    "SrchError",
    "TrainConfig",
    "Trained",
    "build_config",
    "encode_rows",
    "encode_store",
    "evaluate_model",
    "ingest_source",
    "load_config",
    "load_model",
    "open_store",
    "train_model",
]
