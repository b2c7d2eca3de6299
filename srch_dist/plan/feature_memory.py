"""Bytes of memory of the passes over the features, and of the client.

Each function walks through one task and adds bytes in the order in which the task allocates them,
releasing them where the task does; the peak is what the plan reckons with.
"""

from __future__ import annotations

from srch_dist.kernels.clusters import PROJECTED, order_clusters, sample_size
from srch_dist.kernels.features import TILE_ROWS
from srch_dist.kernels.rbf import TILE
from srch_dist.plan.memory_model import (
    CENTRE_TILES_BYTES,
    MemoryModel,
    chosen_bytes,
    imported_bytes,
)
from srch_dist.plan.problem import ProblemSize
from srch_dist.plan.run_plan import STORE_ORDER_BYTES
from srch_dist.runtime.tasks import FAN_IN
from srch_dist.storage.feature_store import CHUNK_BYTES

# Bytes of the widest floating-point type that a feature store may have.
_STORED_ITEMSIZE = 8
# Partial sums that one task of a sum holds: its inputs and their total.
_ADDED = FAN_IN + 1


def feature_bytes(sizes: ProblemSize) -> int:
    """Memory of a task of the first passes: raw rows, normalised rows, Gram matrices, shuffle."""
    p, bits = sizes.partition, sizes.config.loop_bits
    widest, parts = max(sizes.dims.values()), sizes.parts
    clusters = order_clusters(sizes.rows, sizes.config.graph.order_rows)
    sampled = min(1.0, sample_size(clusters) / sizes.rows) if clusters > 1 else 0.0
    raw = p * widest * _STORED_ITEMSIZE
    chunks = min(2 * CHUNK_BYTES, sizes.rows * widest * _STORED_ITEMSIZE)
    sums = MemoryModel()
    sums.allocate(int(sampled * p * sizes.total) * _STORED_ITEMSIZE)  # rows that are set aside
    sums.allocate(raw)  # a modality's rows as stored
    # While they are read: chunks of the store, decoded and checked, and the rows picked from them.
    sums.transient(raw + chunks)
    sums.transient(2 * p * widest * 8)  # float64 of them and its magnitudes, for their range
    prepare, before = MemoryModel(), 0
    for dims in sizes.dims.values():
        stored = prepare.allocate(p * dims * _STORED_ITEMSIZE)  # rows as stored
        prepare.transient(stored + chunks)  # as above
        prepare.free(before)
        wide = prepare.allocate(p * dims * 8)  # float64, centred and scaled in place
        normalised = prepare.allocate(p * dims * sizes.itemsize)  # kept until the products are done
        prepare.free(wide)
        prepare.transient(normalised)  # its magnitudes, for their range
        before = stored
    prepare.free(before)
    prepare.allocate(p * bits)  # first codes
    prepare.transient(3 * p * bits)  # and the bits that they are unpacked from
    if clusters > 1:
        # The projections of the modalities, beside each other and one in float64.
        prepare.transient(p * (widest + 2 * PROJECTED * len(sizes.dims)) * 8 + CENTRE_TILES_BYTES)
    prepare.transient(p * (sizes.total * sizes.itemsize + 4 * 8))  # a copy sorted by cluster
    prepare.allocate(8 * sizes.total**2)  # Gram matrices, (d_g, d_h) of each pair, at most
    prepare.transient(8 * widest**2)  # the product of a tile
    prepare.allocate(8 * sizes.total * bits)  # X B'
    prepare.transient(8 * p * bits + 8 * widest * bits)  # float64 codes, the product of a tile
    adding = _ADDED * 8 * (sizes.total**2 + sizes.total * bits)
    # Where one file is cut for each partition, from its clusters and counts of these.
    bounds = 6 * 8 * (parts + clusters) + 8 * p
    # Rows from all files, sorted, encoded with their checksum, and as the chunk's bytes.
    gather = 3 * p * widest * sizes.itemsize + 6 * 8 * p
    return max(sums.peak, prepare.peak, adding, bounds, gather)


def code_bytes(sizes: ProblemSize) -> int:
    """Memory of a task of the B-step: a partition, the next one being read, and the sums.

    Graph and Z stay where the Z-step left them; see `kept_bytes`.
    """
    p, bits, dtype = sizes.partition, sizes.config.loop_bits, sizes.itemsize
    widest = max(sizes.dims.values())
    inputs = p * (sizes.total * dtype + bits * 4 + bits // 8)  # X, Z, codes before: whole chunks
    task = MemoryModel()
    task.allocate(inputs)
    if not sizes.cached:
        task.allocate(inputs)  # of the next partition
    task.allocate(8 * (sizes.total * bits + bits**2))  # sums
    task.allocate(sizes.total * bits * dtype)  # projections
    task.allocate(2 * p * bits // 8)  # codes, and the bits that changed
    # A tile: scores, codes and differences in float64, products of both kinds.
    task.transient(TILE_ROWS * bits * 8 * 6 + 8 * widest * bits * 2)
    task.transient(3 * p * bits // 8)  # codes, encoded and as the chunk's bytes
    adding = _ADDED * 8 * (sizes.total * bits + bits**2)
    return max(task.peak, adding)


def model_bytes(sizes: ProblemSize) -> int:
    """Memory of a task of the passes after the loop: encoders, final codes, their order."""
    method, bits = sizes.config.method, max(sizes.config.bits, sizes.config.loop_bits)
    item, widest, count = sizes.itemsize, max(sizes.dims.values()), len(sizes.dims)
    step = min(-(-sizes.partition // TILE) * TILE, sizes.rows)
    tile = min(TILE, sizes.rows)
    anchors = min(method.anchors, sizes.rows) if method.encoder == "anchors" else 0
    near = tile * anchors * item  # similarities to the anchors
    sums = anchors * (anchors + widest + bits) * 8
    fit = MemoryModel()
    fit.allocate(2 * step * widest * item + step * bits * 2)  # rows and the next, codes
    fit.allocate(2 * anchors * widest * item)  # anchors, as read
    fit.allocate(2 * near)  # and distances, or what they are sums of
    fit.allocate(3 * sums)  # of the tile, so far, and both together
    spread = MemoryModel()
    if method.directions:
        # The model as read and in the precision of the features; features and the next.
        spread.allocate(2 * 8 * (sizes.total * (anchors + bits) + count * anchors * bits))
        spread.allocate(2 * step * sizes.total * item + step * bits)
        spread.allocate((count + 1) * near)
        # Scores of each modality, beside each other and mixed; codes as numbers.
        spread.allocate(tile * bits * 8 * (3 * count + 5))
        products = 8 * ((count + 1) * bits) ** 2 + 8 * (sizes.total + count * anchors) * bits
        spread.allocate(3 * products)
        spread.transient((_ADDED - 3) * products)  # a task of their sum holds more of them
    # The order of all rows and which are wanted; codes as read and as written.
    restored = max(sizes.partition * bits // 8, STORE_ORDER_BYTES)
    restore = sizes.rows * (8 + 3) + restored * (3 + 2 * 64 // bits)
    return max(fit.peak, _ADDED * sums, spread.peak, restore, chosen_bytes(sizes))


def client_bytes(sizes: ProblemSize) -> int:
    """Memory of the client, beyond its idle size: a few numbers a row, and matrices of d and l."""
    method, bits = sizes.config.method, max(sizes.config.bits, sizes.config.loop_bits)
    task = MemoryModel()
    task.allocate(imported_bytes(sizes.rows, sizes.methods, sizes.config))
    task.allocate(
        5 * 8 * sizes.rows
    )  # row numbers, their hashes, and the order while one is chosen
    task.free(4 * 8 * sizes.rows)
    task.allocate(8 * sizes.total**2)  # Gram matrices
    task.transient(4 * 8 * sizes.total * bits)  # X B', W and the factors of the SVD
    if method.encoder == "anchors":
        m = min(method.anchors, sizes.rows)
        task.allocate(8 * m * sum(m + 2 * d for d in sizes.dims.values()))  # anchors and their sums
        # The system of an encoder, with its penalty, and factored.
        task.transient(3 * 8 * (m + max(sizes.dims.values())) ** 2)
    return task.peak
