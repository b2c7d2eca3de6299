"""Bytes of disk that a run takes, from shapes and options alone."""

from __future__ import annotations

from srch_dist.kernels.clusters import (
    PROJECTED,
    SAMPLE_CHUNK,
    order_clusters,
    routing_clusters,
    sample_size,
)
from srch_dist.sizes import Sizes


def disk_bytes(sizes: Sizes) -> dict[str, int]:
    """The run directory at its largest, by array; see `storage.run`."""
    n, graph, count = sizes.rows, sizes.config.graph, len(sizes.dims)
    bits, loop_bits = sizes.config.bits, sizes.config.loop_bits
    edges = int(n * sizes.edges_a_row)
    routed = [sizes.dims[g] for g, method in sizes.methods.items() if method == "partitioned"]
    later = {
        "degrees": n * count * 4,
        "edges": n * 8 + edges * (8 + count * (1 + 4)),  # indptr; indices, members, weights
        # The last two, and the one that is being written.
        "checkpoints": 3 * n * (loop_bits * 4 + loop_bits // 8),
        "codes and rows": n * (bits // 8 + 8),
    }
    if sizes.spilled:
        # What a block has of each edge, its value in the system, and lengths twice in float64.
        later["graph in the loop"] = edges * (4 + 8 + 1 + 1 + 8 + 2 * 8)
    if sizes.config.method.directions:
        later["codes in training order"] = n * bits // 8
    # A second copy of the features while they are put in order; those sent to clusters, with what
    # is found there.
    ordering = n * (sizes.total * sizes.itemsize + 3 * 8)
    search = n * graph.overlap_max * (max(routed, default=0) * sizes.itemsize + 17 + 16 * graph.k)
    neighbours = n * graph.k * count * (8 + 8)  # row numbers and distances
    shuffle = max(ordering - neighbours, search if routed else 0)
    return {
        **{f"features {g}": n * d * sizes.itemsize for g, d in sizes.dims.items()},
        "order and routes": n * 8 * (1 + graph.overlap_max * len(routed)) + _points_bytes(sizes),
        "neighbours": neighbours,
        **later,
        # Scratch files are gone before these are written, and count where they are more.
        "scratch": max(0, shuffle - sum(later.values())),
    }


def _points_bytes(sizes: Sizes) -> int:
    """Sampled rows as they are clustered, in whole chunks, for the order and for each routing."""
    graph, rows, size = sizes.config.graph, sizes.rows, 0
    ordered = order_clusters(rows, graph.order_rows)
    if ordered > 1:
        size += -(-min(rows, sample_size(ordered)) // SAMPLE_CHUNK) * PROJECTED
    sampled = min(rows, sample_size(routing_clusters(rows, graph.cluster_rows)))
    for g, method in sizes.methods.items():
        if method == "partitioned":
            size += -(-sampled // SAMPLE_CHUNK) * min(sizes.dims[g], PROJECTED)
    return size * SAMPLE_CHUNK * 4
