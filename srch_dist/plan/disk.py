"""Disk model: bytes of a run directory by array, from shapes and options."""

from __future__ import annotations

import math

from srch_dist.kernels.clusters import (
    PROJECTED,
    SAMPLE_CHUNK,
    order_clusters,
    sample_size,
)
from srch_dist.kernels.graph.leaves import NODE_ROWS, leaf_rows
from srch_dist.kernels.graph.principal import SEARCH_DIMS
from srch_dist.plan.problem import ProblemSize
from srch_dist.plan.run_plan import Plan

# Bytes of options, plan, history, array metadata and record headers, for any number of rows.
_METADATA_BYTES = 256 << 10
# Checkpoints that are on disk at once: the last two, and the next one while it is written.
_CHECKPOINTS = 3
# A worker's share of features and blocks, over the mean share.
_CACHE_SLACK = 1.25


def disk_bytes(sizes: ProblemSize) -> dict[str, int]:
    """Compute the size in bytes of each array at the time when the run directory is largest.

    Rows are rounded up to whole partitions, since the last chunk of an array has full size.
    """
    n = sizes.partitions * sizes.partition_rows
    graph, count = sizes.config.graph, len(sizes.dims)
    edges = int(sizes.rows * sizes.mean_degree)
    routed = [sizes.dims[g] for g, method in sizes.methods.items() if method == "partitioned"]
    loop = _loop_bytes(sizes, n, edges)
    later = {
        "degrees": n * count * 4,
        "edges": n * 8 + edges * (8 + count * (1 + 4)),  # indptr; indices, flags, weights
        **loop,
    }
    # Connected components: at most two row numbers per edge, in the records of finished tasks.
    components = 2 * 8 * edges
    # Shuffle into the row order: a second copy of the features, with three numbers per row.
    ordering = n * (sizes.total_dims * sizes.itemsize + 3 * 8)
    search = n * _search_row(sizes, max(routed, default=0))
    neighbours = n * graph.k * count * (8 + 8)  # row numbers and distances
    shuffle = max(ordering - neighbours, search if routed else 0)
    return {
        **{f"features {g}": n * d * sizes.itemsize for g, d in sizes.dims.items()},
        "order and samples": n * 8 + _points_bytes(sizes),
        "neighbours": neighbours,
        **later,
        # Scratch files are removed before later arrays are written, so only bytes beyond the size
        # of the later arrays count.
        "scratch": max(0, shuffle - sum(later.values()), components - sum(loop.values())),
    }


def cache_bytes(plan: Plan) -> int:
    """Compute the bytes that one worker's cache needs, so that the loop downloads nothing twice.

    A worker reads its share of the features and, if the graph is not in memory, its blocks.
    """
    features = sum(size for name, size in plan.disk.items() if name.startswith("features "))
    graph = plan.disk.get("graph in the loop", 0)
    shared = features + (graph if len(plan.blocks) > 1 else 0)
    # With one block, every worker reads all of it.
    own = graph if len(plan.blocks) == 1 else 0
    return math.ceil(_CACHE_SLACK * (shared / plan.workers + own))


def _search_row(sizes: ProblemSize, dims: int) -> int:
    """Compute bytes per row of the partitioned search's scratch files, when they are largest."""
    graph, row = sizes.config.graph, dims * sizes.itemsize
    # Features by leaf, points, position and number; centroids of leaves and nodes.
    least = leaf_rows(graph.k) // 2
    point = 4 * (min(dims, SEARCH_DIMS) + 1)
    kept = row + point + 2 * 8 + -(-(point + 8) // least) + point // (NODE_ROWS // 2)
    shuffled = row + 3 * 8  # removed when the leaves are written
    visits = graph.leaves_max * (12 + 4 + 8 * graph.k)  # leaves visited, and candidates found
    nearest = 8 + 2 * 8 * graph.k
    return kept + max(shuffled, visits, nearest)


def _loop_bytes(sizes: ProblemSize, n: int, edges: int) -> dict[str, int]:
    """Compute the size in bytes of each array of the loop and of the model stage.

    ``n`` is the number of rows, rounded up to whole partitions.
    """
    bits, loop_bits = sizes.config.bits, sizes.config.loop_bits
    loop = {
        "checkpoints": _CHECKPOINTS * n * (sizes.config.embedding_columns * 4 + loop_bits // 8),
        "codes and rows": n * (bits // 8 + 8),
        "sums and model": _model_bytes(sizes),
    }
    if sizes.spilled:
        # Per edge: column, weight, multiplicity and flag; value in the system; edge lengths of two
        # iterations. Each pass over columns writes its partial sums of lengths again.
        sums, passes = sizes.length_sums
        lengths = 2 * 4 + 8 * sums * min(passes, 2)
        loop["graph in the loop"] = edges * (4 + 8 + 1 + 1 + 8 + lengths)
    if sizes.config.method.directions:
        loop["codes in training order"] = n * bits // 8
    return loop


def _model_bytes(sizes: ProblemSize) -> int:
    """Compute the size in bytes of Gram matrices, sampled rows, models, and sums for encoders."""
    method, widths = sizes.config.method, list(sizes.dims.values())
    loop_bits, bits = sizes.config.loop_bits, sizes.config.bits
    m = min(method.anchors, sizes.rows)
    grams = sum(d * e for i, d in enumerate(widths) for e in widths[i:])
    anchors = len(widths) * m if method.encoder == "anchors" else 0

    def model(width: int) -> int:
        fitted = m * sizes.total_dims if anchors else 0
        return (2 * width + 1) * sizes.total_dims + fitted + anchors * width

    values = grams + (loop_bits + 1) * sizes.total_dims + model(bits)
    if method.directions:
        values += model(loop_bits) + (sizes.total_dims + anchors) * bits
    sample = m * (sizes.total_dims * sizes.itemsize + 8)
    return 8 * values + sample + _METADATA_BYTES


def _points_bytes(sizes: ProblemSize) -> int:
    """Compute the size in bytes of the float32 rows that k-means samples for the row order."""
    clusters = order_clusters(sizes.rows, sizes.config.graph.order_rows)
    if clusters == 1:
        return 0
    sampled = min(sizes.rows, sample_size(clusters))
    return -(-sampled // SAMPLE_CHUNK) * PROJECTED * SAMPLE_CHUNK * 4
