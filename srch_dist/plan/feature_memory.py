"""Memory model of the passes over the features, of the model stage, and of the client.

Each function adds up the bytes of one task, in the order in which the task allocates and frees
them. Bytes per value are literal numbers: 8 for float64 and int64, 4 for float32, 1 for a ±1 code,
1/8 for a packed bit.
"""

from __future__ import annotations

from srch_dist.config.derived import direction_count
from srch_dist.kernels.clusters import PROJECTED, order_clusters, sample_size
from srch_dist.kernels.features import TILE_ROWS
from srch_dist.kernels.rbf import TILE
from srch_dist.plan.memory_model import (
    CENTRE_TILES_BYTES,
    MemoryModel,
    k_means_bytes,
    sampling_bytes,
)
from srch_dist.plan.problem import ProblemSize
from srch_dist.plan.run_plan import STORE_ORDER_BYTES
from srch_dist.runtime.tasks import FAN_IN
from srch_dist.storage.feature_store import CHUNK_BYTES

# Bytes of the widest floating-point type that a feature store may have.
_STORED_ITEMSIZE = 8
# Partial sums that one summing task has in memory: its inputs and their total.
_ADDED = FAN_IN + 1


def feature_bytes(sizes: ProblemSize) -> int:
    """Compute memory of a feature task: column sums, normalisation, Gram matrices, shuffle."""
    p, parts, item = sizes.partition_rows, sizes.partitions, sizes.itemsize
    clusters = order_clusters(sizes.rows, sizes.config.graph.order_rows)
    sums = _column_sums(sizes, clusters)
    spill = _normalise_and_spill(sizes, clusters)
    adding = _ADDED * 8 * (sizes.total_dims**2 + sizes.total_dims * sizes.config.loop_bits)
    # Bounds in the scratch files: six numbers per partition and cluster, and the rows of one file.
    bounds = 6 * 8 * (parts + clusters) + 8 * p
    # Rows from all scratch files; sorted; encoded as a chunk with its checksum.
    gather = 3 * p * sizes.widest * item + 6 * 8 * p
    return max(sums, spill, adding, bounds, gather)


def _stored_chunks(sizes: ProblemSize) -> int:
    """Compute memory of reading one chunk of the feature store: its encoded and decoded bytes."""
    return min(2 * CHUNK_BYTES, sizes.rows * sizes.widest * _STORED_ITEMSIZE)


def _column_sums(sizes: ProblemSize, clusters: int) -> int:
    """Compute memory of a task that sums columns and copies the rows sampled for k-means.

    ``clusters`` is the number of k-means clusters. With one cluster, no rows are sampled.
    """
    p, widest = sizes.partition_rows, sizes.widest
    sampled = min(1.0, sample_size(clusters) / sizes.rows) if clusters > 1 else 0.0
    memory = MemoryModel()
    memory.allocate(int(sampled * p * sizes.total_dims) * _STORED_ITEMSIZE)  # sampled rows
    rows = memory.allocate(p * widest * _STORED_ITEMSIZE)  # a modality's rows as stored
    memory.transient(rows + _stored_chunks(sizes))  # copies while rows are picked from chunks
    memory.transient(2 * p * widest * 8)  # float64 copy and magnitudes, to check the range
    return memory.peak


def _normalise_and_spill(sizes: ProblemSize, clusters: int) -> int:
    """Compute memory of a task that normalises and spills a partition, and sums its Gram matrices.

    ``clusters`` is the number of clusters to which the task assigns rows; 1 means no assignment.
    """
    p, bits, widest = sizes.partition_rows, sizes.config.loop_bits, sizes.widest
    total = sizes.total_dims
    memory, previous = MemoryModel(), 0
    for dims in sizes.dims.values():
        stored = memory.allocate(p * dims * _STORED_ITEMSIZE)  # rows as stored
        memory.transient(stored + _stored_chunks(sizes))  # copies while rows are picked from chunks
        memory.free(previous)
        wide = memory.allocate(p * dims * 8)  # float64, centred and scaled in place
        normalised = memory.allocate(p * dims * sizes.itemsize)
        memory.free(wide)
        memory.transient(normalised)  # magnitudes, to check the range
        previous = stored
    memory.free(previous)
    memory.allocate(p * bits)  # first codes
    memory.transient(3 * p * bits)  # random bits of the first codes
    if clusters > 1:
        # One modality in float64; the projections of all modalities, as a list and stacked.
        memory.transient(p * (widest + 2 * PROJECTED * len(sizes.dims)) * 8 + CENTRE_TILES_BYTES)
    memory.transient(p * (total * sizes.itemsize + 4 * 8))  # copy sorted by cluster
    memory.allocate(8 * total**2)  # Gram matrices: at most (d_g, d_h) of every pair
    memory.transient(8 * widest**2)  # product of a tile
    memory.allocate(8 * total * bits)  # X B'
    memory.transient(8 * p * bits + 8 * widest * bits)  # codes in float64, product of a tile
    return memory.peak


def b_step_bytes(sizes: ProblemSize) -> int:
    """Compute memory of a B-step task: a partition, the next one read ahead, and the sums.

    A worker also holds the `persisted_bytes` of the graph and Z.
    """
    p, bits, item = sizes.partition_rows, sizes.config.loop_bits, sizes.itemsize
    total = sizes.total_dims
    z = sizes.config.embedding_columns * 4
    inputs = p * (total * item + z + bits // 8)  # X, Z, previous codes: whole chunks
    memory = MemoryModel()
    memory.allocate(inputs)
    if not sizes.cached_partitions:
        memory.allocate(inputs)  # the next partition
    sums = 8 * (total * bits + bits**2)
    memory.allocate(sums)
    memory.allocate(total * bits * item)  # projections W
    memory.allocate(2 * p * bits // 8)  # packed codes, and the bits that changed
    # A tile: scores, codes and differences in float64, products of both kinds.
    memory.transient(TILE_ROWS * bits * 8 * 6 + 8 * sizes.widest * bits * 2)
    memory.transient(3 * p * bits // 8)  # codes, encoded as a chunk with its checksum
    return max(memory.peak, _ADDED * sums)


def model_bytes(sizes: ProblemSize) -> int:
    """Compute memory of a model-stage task: encoders, final codes, or codes in store order."""
    bits = max(sizes.config.bits, sizes.config.loop_bits)
    # Row order and wanted row numbers, over all rows; codes as read and as written.
    restored = max(sizes.partition_rows * bits // 8, STORE_ORDER_BYTES)
    restore = sizes.rows * (8 + 3) + restored * (3 + 2 * 64 // bits)
    fit, spread = _fit_encoders(sizes, bits), _spread_codes(sizes, bits)
    return max(fit, spread, restore, sampling_bytes(sizes))


def _anchors(sizes: ProblemSize) -> int:
    """Return the number of anchors of an encoder; 0 for an encoder without anchors."""
    method = sizes.config.method
    return min(method.anchors, sizes.rows) if method.encoder == "anchors" else 0


def _pass_rows(sizes: ProblemSize) -> int:
    """Return the number of rows that a task after the loop reads at once.

    The number is ``partition_rows``, rounded up to a multiple of `TILE`, and at most n.
    """
    return min(-(-sizes.partition_rows // TILE) * TILE, sizes.rows)


def _similarity_bytes(sizes: ProblemSize) -> int:
    """Compute memory of the similarities between `TILE` rows and the anchors."""
    return min(TILE, sizes.rows) * _anchors(sizes) * sizes.itemsize


def _fit_encoders(sizes: ProblemSize, bits: int) -> int:
    """Compute memory of a task that sums K'K, X'K and K'B, with K the anchor similarities."""
    item, widest, anchors = sizes.itemsize, sizes.widest, _anchors(sizes)
    rows = _pass_rows(sizes)
    sums = anchors * (anchors + widest + bits) * 8
    memory = MemoryModel()
    memory.allocate(2 * rows * widest * item + rows * bits * 2)  # rows, next rows, codes
    memory.allocate(2 * anchors * widest * item)  # anchors, as read and in use
    memory.allocate(2 * _similarity_bytes(sizes))  # similarities, and distances
    memory.allocate(3 * sums)  # sums of the tile, sums so far, and their total
    return max(memory.peak, _ADDED * sums)


def _spread_codes(sizes: ProblemSize, bits: int) -> int:
    """Compute memory of a task of the final codes: scores, codes, and their products.

    The result is 0 if ``method.directions`` is 0.
    """
    if not sizes.config.method.directions:
        return 0
    item, anchors, count, total = sizes.itemsize, _anchors(sizes), len(sizes.dims), sizes.total_dims
    rows, tile = _pass_rows(sizes), min(TILE, sizes.rows)
    pairs = direction_count(sizes.config) if sizes.config.method.pair > 0 else 0
    memory = MemoryModel()
    # Model and pair directions, as read and converted to the dtype of the features.
    memory.allocate(2 * 8 * (total * (anchors + bits + pairs) + count * anchors * bits))
    memory.allocate(2 * rows * total * item + rows * bits)  # rows, next rows, codes
    memory.allocate((count + 1) * _similarity_bytes(sizes))
    # Scores of each modality, joined and mixed; codes as floating-point numbers.
    memory.allocate(tile * bits * 8 * (3 * count + 5) + 3 * tile * pairs * 8)
    products = 8 * ((count + 1) * bits + pairs) ** 2 + 8 * (total + count * anchors) * bits
    memory.allocate(3 * products)  # products of the tile, products so far, and their total
    memory.transient((_ADDED - 3) * products)  # further inputs of a summing task
    return memory.peak


def client_bytes(sizes: ProblemSize) -> int:
    """Compute the memory that the client adds to its idle size: values per row, and matrices."""
    total, bits = sizes.total_dims, max(sizes.config.bits, sizes.config.loop_bits)
    memory = MemoryModel()
    memory.allocate(k_means_bytes(sizes.rows, sizes.config))
    # Row numbers, hashes and order while rows are chosen; chosen row numbers during the run.
    memory.allocate(5 * 8 * sizes.rows)
    memory.free(4 * 8 * sizes.rows)
    memory.allocate(8 * total**2)  # Gram matrices
    memory.transient(4 * 8 * total * bits)  # X B', W, and the factors of the SVD
    if sizes.config.method.directions and sizes.config.method.pair > 0:
        memory.transient(_canonical_bytes(sizes))
    m = _anchors(sizes)
    if m:
        memory.allocate(8 * m * sum(m + 2 * d for d in sizes.dims.values()))  # anchors, their sums
        # Linear system of one encoder: without penalty, with penalty, and factored.
        memory.transient(3 * 8 * (m + sizes.widest) ** 2)
    return memory.peak


def _canonical_bytes(sizes: ProblemSize) -> int:
    """Compute memory of all canonical directions: factors, whitened matrix, SVD or eigenvectors."""
    widths = sorted(sizes.dims.values())
    if len(widths) == 2:
        narrow, wide = widths
        # Cholesky factors; whitened matrix, its copy and its factors; directions and maps.
        return 8 * (2 * (narrow**2 + wide**2) + 6 * narrow * wide)
    return 8 * 5 * sizes.total_dims**2
