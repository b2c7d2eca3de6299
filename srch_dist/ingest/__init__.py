"""From the files people have to a feature store: one module a source format, one writer."""

from srch_dist.ingest.store import ingest_source

__all__ = ["ingest_source"]
