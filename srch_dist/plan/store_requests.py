"""Requests of a run that lives in an object store alone: estimate GET and PUT from the plan.

Stores charge by request: a GET reads a chunk or its array's metadata (also HEAD), a PUT writes an
object (also LIST). DELETE is free. The estimates hold for workers whose cache is empty: a cached
chunk needs the same request, which then moves no content. Heartbeats of the lock, one per 5 s, and
the pages of a scheduler are not counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from srch_dist.config.options import TrainConfig
from srch_dist.kernels.clusters import order_clusters, search_clusters
from srch_dist.plan.run_plan import Plan
from srch_dist.storage.scratch_objects import PART_BYTES

# Dollars per request of Amazon S3 Standard (us-east-1): GET and HEAD; PUT and LIST.
_GET_PRICE, _PUT_PRICE = 0.4e-6, 5e-6
# Requests of records, of checks at the start, and of an iteration's manifest and history.
_RUN_GETS, _RUN_PUTS = 70, 107
_ITERATION_GETS, _ITERATION_PUTS = 25, 12
# Arrays of a partition's edges, and requests that write one: metadata, and a chunk.
_EDGE_ARRAYS = 4
# Columns of a shuffled row besides its features: place, row number, cluster.
_SHUFFLED = 3


@dataclass(frozen=True)
class StoreRequests:
    """Estimated requests of a run: ``gets`` (GET, HEAD) and ``puts`` (PUT, LIST)."""

    gets: int
    puts: int

    @property
    def dollars(self) -> float:
        """Cost at the prices of Amazon S3 Standard."""
        return self.gets * _GET_PRICE + self.puts * _PUT_PRICE

    def __add__(self, other: StoreRequests) -> StoreRequests:
        return StoreRequests(self.gets + other.gets, self.puts + other.puts)


def store_requests(plan: Plan, modalities: int, config: TrainConfig) -> StoreRequests:
    """Estimate the requests of a whole run, with the largest number of iterations.

    Parameters
    ----------
    plan : plan of the run.
    modalities : number of modalities.
    config : options of the run.
    """
    total = StoreRequests(_RUN_GETS, _RUN_PUTS) + _features(plan, modalities, config)
    for method in plan.methods.values():
        total += _search(plan, method, config)
    total += _graph(plan, modalities)
    if plan.spilled:
        total += _spilled(plan, config)
    iteration = _iteration(plan, modalities, config.loop_bits)
    for _ in range(config.method.iterations):
        total += iteration
    return total + _model(plan, modalities, config)


def _features(plan: Plan, modalities: int, config: TrainConfig) -> StoreRequests:
    """Two passes over the data, and the shuffle into training order."""
    parts = len(plan.partitions)
    # With one cluster, a partition keeps its rows. Else every partition gets rows of every other.
    pairs = parts if order_clusters(plan.rows, config.graph.order_rows) == 1 else parts**2
    columns = _SHUFFLED + modalities
    shuffle = parts**2 + columns * pairs
    gets = 6 * parts + shuffle + (modalities + 2) * parts
    return StoreRequests(gets, (1 + columns + 1 + modalities + 2 + 1) * parts)


def _search(plan: Plan, method: str, config: TrainConfig) -> StoreRequests:
    """The neighbour search of one modality, with its recall."""
    parts = len(plan.partitions)
    gets, puts = 12 * parts, 3 * parts
    if method == "exact":
        gets += 3 * parts**2
    elif method == "partitioned":
        clusters = search_clusters(plan.rows, config.graph.cluster_rows)
        # The training order puts near rows together: a partition has rows of few clusters, and a
        # cluster visits leaves of few clusters. All pairs are an upper bound.
        pairs = clusters * min(parts, 2 * math.ceil(parts / clusters) + 1)
        gets += 8 * parts + 2 * clusters * parts + 7 * pairs + 28 * clusters**2
        puts += 7 * parts + 16 * clusters
    return StoreRequests(gets, puts)


def _graph(plan: Plan, modalities: int) -> StoreRequests:
    """Merge of the neighbours to edges, their weights, and loading them for the loop."""
    parts, runs = len(plan.partitions), len(plan.runs)
    merged = 2 * runs * modalities * parts + 2 * modalities * parts + 2 * runs * (1 + parts)
    written = (_EDGE_ARRAYS + 1) * parts
    loaded = 6 * parts + 10 * parts
    return StoreRequests(merged + written + loaded, (2 * _EDGE_ARRAYS + 1) * parts + 2 * runs)


def _iteration(plan: Plan, modalities: int, bits: int) -> StoreRequests:
    """One iteration: Z-, S- and B-step and the checkpoint."""
    parts, blocks = len(plan.partitions), len(plan.blocks)
    groups, passes = len(plan.column_groups(bits)), len(plan.length_groups(bits))
    chunks = parts * groups
    in_memory = groups == 1 and not plan.spilled
    right_sides = groups * (blocks + parts)
    guesses = groups * blocks + chunks
    stored = chunks + parts + chunks  # opened for writing; read again for checksums
    lengths = (passes * blocks + chunks) * (1 if in_memory else 2)
    codes = 3 * parts + parts + chunks
    if not plan.cached:
        codes += modalities * (len(plan.passes) + parts)
    gets = right_sides + guesses + stored + lengths + codes + groups + 2 * modalities
    return StoreRequests(gets + _ITERATION_GETS, chunks + groups + parts + _ITERATION_PUTS)


def _spilled(plan: Plan, config: TrainConfig) -> StoreRequests:
    """The graph in scratch objects: a worker uploads each in parts, and downloads it once."""
    passes = len(plan.length_groups(config.loop_bits))
    each = len(plan.blocks) * (2 + passes + 3)  # system, sums of lengths; listings of old ones
    objects = 4 * len(plan.blocks) + config.method.iterations * each
    parts = config.method.iterations * plan.disk.get("graph in the loop", 0) // PART_BYTES
    return StoreRequests(2 * objects, objects + parts)


def _model(plan: Plan, modalities: int, config: TrainConfig) -> StoreRequests:
    """The sample, the encoders and the final codes."""
    parts, method = len(plan.partitions), config.method
    passes = (method.encoder == "anchors") + (2 if method.directions else 0)
    gets = passes * (2 * modalities + 2) * parts + (2 * modalities + 1) * parts
    gets += modalities * parts * (1 if plan.cached else 0)
    return StoreRequests(gets, len(plan.encoded_spans) + 2)
