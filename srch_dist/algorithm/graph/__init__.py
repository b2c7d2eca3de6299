"""Set: the kNN graph of each modality, from normalised features to weighted edges in Zarr."""

from srch_dist.algorithm.graph.build import (
    GraphReport,
    ModalityReport,
    Restart,
    release_compiler_memory,
    set_graph,
    verify_graph,
)

__all__ = [
    "GraphReport",
    "ModalityReport",
    "Restart",
    "release_compiler_memory",
    "set_graph",
    "verify_graph",
]
