"""Set: the kNN graph of each modality, from normalised features to weighted edges in Zarr."""

from srch_dist.graph.build import GraphReport, set_graph

__all__ = ["GraphReport", "set_graph"]
