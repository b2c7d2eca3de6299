"""Bytes of disk that a run takes, from shapes and options alone."""

from __future__ import annotations

from srch_dist.kernels.clusters import (
    PROJECTED,
    SAMPLE_CHUNK,
    order_clusters,
    routing_clusters,
    sample_size,
)
from srch_dist.plan.problem import ProblemSize

# Options, plan, history, metadata of arrays and headers of records: not of the rows.
_HEADERS_BYTES = 256 << 10


def disk_bytes(sizes: ProblemSize) -> dict[str, int]:
    """The run directory at its largest, by array; see `storage.run`."""
    # The last chunk of an array is as large as the others.
    n = sizes.parts * sizes.partition
    graph, count = sizes.config.graph, len(sizes.dims)
    bits, loop_bits = sizes.config.bits, sizes.config.loop_bits
    edges = int(sizes.rows * sizes.edges_a_row)
    routed = [sizes.dims[g] for g, method in sizes.methods.items() if method == "partitioned"]
    loop = {
        # The last two, and the one that is being written.
        "checkpoints": 3 * n * (loop_bits * 4 + loop_bits // 8),
        "codes and rows": n * (bits // 8 + 8),
        "sums and model": _model_bytes(sizes),
    }
    if sizes.spilled:
        # What a block has of each edge, its value in the system, lengths of two iterations, and
        # their sums over some columns, which are written anew where others are added.
        sums, times = sizes.length_sums
        lengths = 2 * 4 + 8 * sums * min(times, 2)
        loop["graph in the loop"] = edges * (4 + 8 + 1 + 1 + 8 + lengths)
    if sizes.config.method.directions:
        loop["codes in training order"] = n * bits // 8
    later = {
        "degrees": n * count * 4,
        "edges": n * 8 + edges * (8 + count * (1 + 4)),  # indptr; indices, members, weights
        **loop,
    }
    # What units of the graph record of its components, two numbers an edge at most.
    records = 2 * 8 * edges
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
        "scratch": max(0, shuffle - sum(later.values()), records - sum(loop.values())),
    }


def _model_bytes(sizes: ProblemSize) -> int:
    """Gram matrices, the sample, both models, and the sums that the last one is fitted to."""
    method, widths = sizes.config.method, list(sizes.dims.values())
    loop_bits, bits = sizes.config.loop_bits, sizes.config.bits
    m = min(method.anchors, sizes.rows)
    grams = sum(d * e for i, d in enumerate(widths) for e in widths[i:])
    anchors = len(widths) * m if method.encoder == "anchors" else 0

    def model(width: int) -> int:
        fitted = m * sizes.total if anchors else 0
        return (2 * width + 1) * sizes.total + fitted + anchors * width

    values = grams + (loop_bits + 1) * sizes.total + model(bits)
    if method.directions:
        values += model(loop_bits) + (sizes.total + anchors) * bits
    # Each value as float64; a header each for the arrays.
    return 8 * values + m * (sizes.total * sizes.itemsize + 8) + _HEADERS_BYTES


def _points_bytes(sizes: ProblemSize) -> int:
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
