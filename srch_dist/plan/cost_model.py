"""Cost model: estimate tasks, network bytes and seconds of a plan from a machine's rates.

The model needs no cluster, so a cluster can be sized before it exists. `pipelines/scale` compares
the estimates with measured runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from srch_dist.config.derived import direction_count, vector_dtype
from srch_dist.config.options import TrainConfig
from srch_dist.kernels.clusters import PROJECTED, order_clusters, routing_centres, search_clusters
from srch_dist.kernels.graph.leaves import kept_candidates, leaf_rows
from srch_dist.kernels.multigrid.aggregation import coarse_unknowns
from srch_dist.kernels.multigrid.subdomains import SUBDOMAIN_ROWS
from srch_dist.plan.rates import Rates
from srch_dist.plan.run_plan import Plan
from srch_dist.plan.store_requests import StoreRequests, store_requests
from srch_dist.runtime.tasks import FAN_IN

# Cost of aggregation, as a multiple of one sort of all edges: one matching per level, each on fewer
# edges than the matching before.
_MATCHINGS = 3
# Number of (n, l) vectors that conjugate gradients read or write per iteration.
_CG_VECTORS = 16
# Number of (n, l) vectors that the preconditioner reads or writes per iteration: two sums and two
# corrections, on all levels.
_LEVEL_VECTORS = 8
# Partitioned search: dimensions of the subspace, mean size of a leaf over its largest, and leaves
# and nodes that are compared with each row to choose the leaves it visits.
_SUBSPACE, _LEAF_FILLED, _LEAVES_TRIED = 128, 0.69, 768
# Bytes of the aggregates of a system, over the bytes of the system.
_AGGREGATES = 0.5
# Distinct edges, over the edges of all modalities: between .5 and 1 for two modalities.
_DISTINCT = 0.85
# Cost of the edge lengths in the S-step, in sparse products.
_S_STEP_PRODUCTS = 3
# Cost of the median length and of the terms of Eq. 9, in sorts of all edges.
_S_STEP_SORTS = 0.5
# Number of (n, l) float64 arrays that the B-step reads or writes beside its products: Z, scores,
# codes, signs and differences.
_CODE_ARRAYS = 10


@dataclass(frozen=True)
class StageCost:
    """Estimated cost of a stage. For a step of the loop, the cost of one iteration.

    Attributes
    ----------
    name : name of the stage, as in the plan.
    tasks : number of Dask tasks.
    network_bytes : bytes sent between workers.
    seconds : wall-clock seconds.
    loop : whether the stage is a step of the loop.
    """

    name: str
    tasks: int
    network_bytes: int
    seconds: float
    loop: bool


@dataclass(frozen=True)
class Forecast:
    """Estimated costs of a run by stage.

    Attributes
    ----------
    stages : cost of each stage, in the order in which they run.
    iterations : maximum number of iterations of the loop.
    requests : requests to the object store; None if the run is on a disk.
    """

    stages: tuple[StageCost, ...]
    iterations: int
    requests: StoreRequests | None

    @property
    def network_bytes(self) -> int:
        """Bytes sent between workers per iteration."""
        return sum(stage.network_bytes for stage in self.stages if stage.loop)

    @property
    def tasks(self) -> int:
        """Number of tasks of the run."""
        return sum(stage.tasks * self._times(stage) for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the run."""
        return sum(stage.seconds * self._times(stage) for stage in self.stages)

    def _times(self, stage: StageCost) -> int:
        return self.iterations if stage.loop else 1


def forecast(plan: Plan, dims: dict[str, int], config: TrainConfig, rates: Rates) -> Forecast:
    """Estimate the cost of each stage of a plan.

    Parameters
    ----------
    plan : plan of the run.
    dims : d_g, dimensions by modality.
    config : options of the run.
    rates : rates of one worker.
    """
    costs = _Costs(plan, dims, config, rates)
    before = (costs.features(), costs.neighbours(), costs.graph())
    loop = (costs.z(), costs.s(), costs.b())
    requests = store_requests(plan, len(dims), config) if config.in_store else None
    return Forecast((*before, *loop, costs.model()), config.method.iterations, requests)


@dataclass(frozen=True)
class _Costs:
    """Cost formulas of one plan, one method per stage."""

    plan: Plan
    dims: dict[str, int]
    config: TrainConfig
    rates: Rates

    @property
    def total_dims(self) -> int:
        """Sum of the dimensions d_g of all modalities."""
        return sum(self.dims.values())

    @property
    def edges(self) -> int:
        """Number of directed edges; an estimate from ``rates.union`` before edges are counted."""
        if self.plan.degree is not None:
            return int(self.plan.degree * self.plan.rows)
        union = self.rates.union if self.config.graph.symmetry == "union" else 1.0
        return int(union * self.config.graph.k * len(self.dims) * self.plan.rows)

    @property
    def halo_rows(self) -> int:
        """Number of rows in the halos of all blocks together; one halo exchange sends these rows.

        The halo of a block consists of the rows of other blocks to which edges of the block lead.
        If m edges lead to random rows among the r rows of other blocks, the halo has
        r (1 - exp(-m / r)) rows.
        """
        fetched = 0.0
        for low, high in pairwise(self.plan.block_starts):
            rows = self.plan.starts[high] - self.plan.starts[low]
            others = self.plan.rows - rows
            if others:
                leaving = self.rates.crossing * self.edges * rows / self.plan.rows
                ends = leaving * others / self.plan.rows
                fetched += others * (1 - math.exp(-ends / others))
        return int(fetched)

    @property
    def fetching(self) -> int:
        """Number of workers that fetch a system of one block, to solve some of its columns."""
        groups = len(self.plan.column_groups(self.config.loop_bits))
        return min(self.plan.groups_at_once, groups) - 1

    def moved(self, parts: int, size: int) -> int:
        """Estimate the bytes that workers send to sum ``parts`` results of ``size`` bytes each."""
        elsewhere = 1 - 1 / self.plan.workers
        return int(parts * size * elsewhere)

    def cost(self, name: str, tasks: int, network: int, work: float, loop: bool) -> StageCost:
        """Estimate the cost of a stage that needs ``work`` seconds on a single worker.

        seconds = max(work / concurrent tasks + network / bandwidth, tasks × seconds per task).
        Scheduler and workers run in parallel, so the slower one decides.
        """
        workers = next(stage.at_once for stage in self.plan.stages if stage.name == name)
        traffic = network / (self.rates.network * self.plan.workers)
        seconds = max(work / workers + traffic, tasks * self.rates.task)
        return StageCost(name, tasks, network, seconds, loop)

    def features(self) -> StageCost:
        """Estimate the feature stage: means, normalisation with Gram matrices, row order."""
        n, r, bits = self.plan.rows, self.rates, self.config.loop_bits
        values, widths = n * self.total_dims, list(self.dims.values())
        grams = sum(d * h for i, d in enumerate(widths) for h in widths[i:])
        size = values * self.plan.dtype.itemsize
        clusters = order_clusters(n, self.config.graph.order_rows)
        work = (2 * values * 4 + size) / r.read + 2 * size / r.write
        work += self.assign_seconds(n, self.total_dims, clusters)
        products = 2 * n * (grams + self.total_dims * bits)
        work += values / r.normalise + self.product_seconds(products)
        parts = len(self.plan.partitions)
        network = self.moved(parts, 8 * (self.total_dims**2 + self.total_dims * bits))
        return self.cost("features", 3 * parts + 2 * _sum_tasks(parts) + 1, network, work, False)

    def assign_seconds(self, rows: int, dims: int, clusters: int) -> float:
        """Estimate the seconds to project rows and find their nearest centres, in float64."""
        if clusters == 1:
            return 0.0
        width = min(dims, PROJECTED)
        operations = 2 * rows * width * (clusters + (dims if dims > width else 0))
        return 2 * operations / self.rates.gemm + rows * clusters / self.rates.pairs

    def partitioned(self, modality: str) -> tuple[float, int]:
        """Estimate seconds and tasks of a partitioned search: shuffle, leaves, distances."""
        n, r, graph, dims = self.plan.rows, self.rates, self.config.graph, self.dims[modality]
        size, width = n * dims * self.plan.dtype.itemsize, min(dims, _SUBSPACE)
        centres = routing_centres(n, graph.cluster_rows)
        work = 2 * (2 * n * dims * centres) / r.gemm + n * centres / r.pairs
        # Features are shuffled, written by leaf, and read again for distances of candidates.
        found = n * r.leaves * 8 * graph.k
        work += (2 * size + 4 * n * width + found) / r.write + (5 * size + found) / r.read
        mean = _LEAF_FILLED * leaf_rows(graph.k)
        compared = r.leaves**2 * mean + _LEAVES_TRIED
        work += 2 * n * dims * width / r.gemm + n * compared * (2 * width / r.gemm + 1 / r.selected)
        work += n * kept_candidates(graph.k) * dims / r.distances
        clusters = search_clusters(n, graph.cluster_rows)
        return work, 2 * len(self.plan.partitions) + 4 * clusters

    def neighbours(self) -> StageCost:
        """Estimate the neighbour search of all modalities, and the recall measured on a sample.

        Exact search reads all rows once per partition. NN-descent builds one index of all rows.
        """
        n, r, parts, work, tasks = self.plan.rows, self.rates, len(self.plan.partitions), 0.0, 0
        for g, method in self.plan.methods.items():
            if method == "exact":
                read = parts * n * self.dims[g] * self.plan.dtype.itemsize
                work += n**2 * (2 * self.dims[g] / r.gemm + 1 / r.pairs) + read / r.read
                tasks += parts
            elif method == "partitioned":
                seconds, count = self.partitioned(g)
                work, tasks = work + seconds, tasks + count
            else:
                work += r.compile + n * self.dims[g] / r.descent
                tasks += 1
        sample = min(n, self.config.graph.recall_rows)
        # Recall is measured against an exact search of the sample, for every method.
        work += sample * n * sum(2 * d / r.gemm + 1 / r.pairs for d in self.dims.values())
        tasks += len(self.dims) * (parts + 3)
        return self.cost("neighbours", tasks, 0, work, False)

    def graph(self) -> StageCost:
        """Estimate the graph stage; each of its tasks reads all neighbours and merges edges."""
        n, k, count = self.plan.rows, self.config.graph.k, len(self.dims)
        runs = len(self.plan.runs)
        read = runs * n * k * count * 8 / self.rates.read
        written = self.edges * (8 + 5 * count) / self.rates.write
        work = read + written + self.edges / self.rates.edges
        return self.cost("graph", 2 * runs + _sum_tasks(runs), 0, work, False)

    def z(self) -> StageCost:
        """Estimate one Z-step: aggregation, then CG with products, updates and halo exchanges."""
        bits, blocks, r = self.config.embedding_columns, len(self.plan.blocks), self.rates
        itemsize = vector_dtype(self.config).itemsize
        n, groups = self.plan.rows, len(self.plan.column_groups(bits))
        unknowns = coarse_unknowns(n, self.config.solver.coarse)
        vectors = _CG_VECTORS + (_LEVEL_VECTORS if unknowns else 0)
        iteration = self.edges * bits / r.sparse + vectors * n * bits * itemsize / r.stream
        iteration += 2 * 2 * unknowns**2 * bits / r.gemm
        if self.plan.spilled:
            iteration += groups * self.edges * (4 + itemsize) / r.scan
        work = (r.cg_iterations + 1) * iteration + n * bits * 4 / r.write
        subdomains = -(-n // SUBDOMAIN_ROWS) if unknowns else 0
        work += _MATCHINGS * self.edges / r.edges if unknowns else 0.0
        exchange = self.halo_rows * bits * itemsize
        shared = self.moved(blocks, 2 * 8 * unknowns * bits) if blocks > 1 else 0
        # Per block: update with preconditioner, product, sums, and one pick per other block. Per
        # iteration: one task for the scalars.
        each = 1 if blocks == 1 else blocks * (3 + blocks - 1) + 1
        rounds = 1 if blocks == 1 else r.cg_iterations + 1
        network = (r.cg_iterations + 1) * (exchange + shared)
        if blocks == 1:
            # Every worker that solves columns fetches the system and its aggregates.
            system = (1 + _AGGREGATES) * _DISTINCT * self.edges * (4 + itemsize)
            network += int(self.fetching * system) + self.moved(1, n * bits * 4)
        setup = 3 * blocks + 2 * subdomains + len(self.plan.partitions)
        tasks = groups * (rounds * each + 4 * blocks) + setup
        return self.cost("Z-step", tasks, network, work, True)

    def s(self) -> StageCost:
        """Estimate one S-step: edge lengths, their median and the terms of Eq. 9."""
        bits, blocks = self.config.embedding_columns, len(self.plan.blocks)
        work = _S_STEP_PRODUCTS * self.edges * bits / self.rates.sparse
        work += _S_STEP_SORTS * self.edges / self.rates.edges
        if self.plan.spilled:
            # Each column group reads column indices, and reads and writes partial sums.
            groups = len(self.plan.length_groups(bits))
            work += groups * self.edges * (4 + 8) / self.rates.scan
            work += groups * self.edges * 8 / self.rates.write
        network = self.halo_rows * bits * 4
        if blocks == 1:
            # Z moves to the workers of its columns, their sums of lengths (float64) to one worker.
            distinct = int(_DISTINCT * self.edges)
            network = self.moved(1, self.plan.rows * bits * 4) + self.fetching * distinct * 8
            network += distinct * 4 if self.fetching else 0
        return self.cost("S-step", blocks * (blocks + 8), network, work, True)

    def b(self) -> StageCost:
        """Estimate one B-step, the pass over X: seconds of reading plus seconds of products.

        The two times are added although a thread reads ahead: a worker has one core, and this core
        also verifies the data and copies the data from the page cache.
        """
        n, bits, r = self.plan.rows, self.config.loop_bits, self.rates
        products = self.product_seconds(2 * n * bits * (2 * self.total_dims + bits))
        # Z, and packed codes before and after.
        read = n * (self.config.embedding_columns * 4 + bits / 4)
        read += 0 if self.plan.cached else n * self.total_dims * self.plan.dtype.itemsize
        parts = len(self.plan.passes)
        network = self.moved(parts, 8 * (self.total_dims * bits + bits**2))
        network += self.plan.workers * 8 * self.total_dims * bits
        work = products + read / r.read + _CODE_ARRAYS * n * bits * 8 / r.stream
        return self.cost("B-step", 2 * parts + _sum_tasks(parts), network, work, True)

    def model(self) -> StageCost:
        """Estimate the encoders and the final codes; most of the cost is similarities to anchors.

        The anchor encoder needs one pass over X. The pass sums the anchors' Gram matrix and
        cross-covariances. If ``method.directions`` is not 0, two more passes follow: the first pass
        scores all rows, and the second pass computes the final codes and X_g Bᵀ.
        """
        n, r, method, count = self.plan.rows, self.rates, self.config.method, len(self.dims)
        bits = max(self.config.bits, self.config.loop_bits)
        anchors = min(method.anchors, n) if method.encoder == "anchors" else 0
        scored = 2 if method.directions else 0
        passes = (1 if anchors else 0) + scored
        similarities = n * anchors * passes * count
        operations = 2 * n * anchors * passes * self.total_dims
        if anchors:  # X'K, half of the symmetric K'K, and K'B
            operations += 2 * n * anchors * (self.total_dims + count * (anchors // 2 + bits))
        operations += 2 * scored * n * bits * (self.total_dims + count * anchors)
        if scored and method.pair > 0:
            operations += 2 * scored * n * self.total_dims * direction_count(self.config)
        read = passes * n * self.total_dims * self.plan.dtype.itemsize
        work = self.product_seconds(operations) + similarities / r.similar + read / r.read
        parts = len(self.plan.encoded_spans)
        sums = 8 * anchors * (self.total_dims + anchors * count)
        sizes = [sums] * (1 if anchors else 0) + [8 * self.total_dims * bits] * scored
        tasks = ((count if anchors else 0) + scored) * (4 * parts + _sum_tasks(parts))
        network = sum(self.moved(parts, size) for size in sizes)
        return self.cost("model", tasks + 1, network, work, False)

    def product_seconds(self, operations: float) -> float:
        """Estimate the seconds of dense products; float64 takes twice the time of float32."""
        return operations / self.rates.gemm * (self.plan.dtype.itemsize / 4)


def _sum_tasks(parts: int) -> int:
    """Count the tasks of `tasks.add_up` for ``parts`` results: a tree with fan-in `FAN_IN`."""
    tasks = 0
    while parts > 1:
        parts = -(-parts // FAN_IN)
        tasks += parts
    return tasks
