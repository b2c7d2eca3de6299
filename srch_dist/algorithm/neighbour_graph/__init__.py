"""The set step: the kNN graph of each modality, from features to weighted edges (Eqs. 1, 6)."""

from srch_dist.algorithm.neighbour_graph.build import (
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
