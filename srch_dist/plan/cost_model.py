"""What a plan costs: tasks, bytes over the network and seconds, from the rates of a machine.

Plain arithmetic on a `Plan`, for clusters that nobody has at hand. Every figure is an estimate;
`pipelines/scale` compares them with runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from srch_dist.config.derived import vector_dtype
from srch_dist.config.options import TrainConfig
from srch_dist.kernels.clusters import PROJECTED, order_clusters, routing_clusters
from srch_dist.kernels.multigrid.aggregation import coarse_unknowns
from srch_dist.kernels.multigrid.subdomains import SUBDOMAIN_ROWS
from srch_dist.plan.rates import Rates
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime.tasks import FAN_IN

# Sorts of all edges that building aggregates takes: a matching a level, each of fewer nodes.
_MATCHINGS = 3


@dataclass(frozen=True)
class StageCost:
    """One stage of a run; of one iteration for the steps of the loop.

    Attributes
    ----------
    tasks : all tasks of the graph. network_bytes : between workers. seconds : of the wall clock.
    loop : whether it is a step of the loop.
    """

    name: str
    tasks: int
    network_bytes: int
    seconds: float
    loop: bool


@dataclass(frozen=True)
class Forecast:
    """Costs by stage; ``iterations`` is the most that the configuration allows."""

    stages: tuple[StageCost, ...]
    iterations: int

    @property
    def network_bytes(self) -> int:
        """Bytes between workers an iteration."""
        return sum(stage.network_bytes for stage in self.stages if stage.loop)

    @property
    def tasks(self) -> int:
        """Tasks of the whole run."""
        return sum(stage.tasks * self._times(stage) for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return sum(stage.seconds * self._times(stage) for stage in self.stages)

    def _times(self, stage: StageCost) -> int:
        return self.iterations if stage.loop else 1


def forecast(plan: Plan, dims: dict[str, int], config: TrainConfig, rates: Rates) -> Forecast:
    """Costs of each stage of ``plan`` for modalities of ``dims`` dimensions."""
    shape = _Shape(plan, dims, config, rates)
    before = (shape.features(), shape.neighbours(), shape.graph())
    loop = (shape.z(), shape.s(), shape.b())
    return Forecast((*before, *loop, shape.model()), config.method.iterations)


@dataclass(frozen=True)
class _Shape:
    """A plan with what its costs follow from."""

    plan: Plan
    dims: dict[str, int]
    config: TrainConfig
    rates: Rates

    @property
    def total(self) -> int:
        """Σ d_g."""
        return sum(self.dims.values())

    @property
    def edges(self) -> int:
        """Ends of undirected edges, as counted or as they may be expected."""
        if self.plan.degree is not None:
            return int(self.plan.degree * self.plan.rows)
        union = self.rates.union if self.config.graph.symmetry == "union" else 1.0
        return int(union * self.config.graph.k * len(self.dims) * self.plan.rows)

    @property
    def halo_rows(self) -> int:
        """Rows that all blocks together fetch in one exchange.

        A block whose m edge ends fall at random on r rows elsewhere meets r (1 - exp(-m / r)).
        """
        fetched = 0.0
        for low, high in pairwise(self.plan.block_starts):
            own = self.plan.starts[high] - self.plan.starts[low]
            others = self.plan.rows - own
            if others:
                leaving = self.rates.crossing * self.edges * own / self.plan.rows
                ends = leaving * others / self.plan.rows
                fetched += others * (1 - math.exp(-ends / others))
        return int(fetched)

    def moved(self, parts: int, size: int) -> int:
        """Bytes between workers to add ``parts`` results of ``size`` bytes."""
        elsewhere = 1 - 1 / self.plan.workers
        return int(parts * size * elsewhere)

    def cost(self, name: str, tasks: int, network: int, work: float, loop: bool) -> StageCost:
        """A stage of ``work`` seconds of one worker, shared evenly by tasks that run at once.

        The scheduler's own time overlaps with work, so the longer of the two counts.
        """
        workers = next(stage.at_once for stage in self.plan.stages if stage.name == name)
        traffic = network / (self.rates.network * self.plan.workers)
        seconds = max(work / workers + traffic, tasks * self.rates.task)
        return StageCost(name, tasks, network, seconds, loop)

    def features(self) -> StageCost:
        """Means, then normalised copies with Gram matrices, then these in training order."""
        n, r, bits = self.plan.rows, self.rates, self.config.loop_bits
        values = n * self.total
        grams = sum(
            d * h for i, d in enumerate(self.dims.values()) for h in list(self.dims.values())[i:]
        )
        size = values * self.plan.dtype.itemsize
        work = (2 * values * 4 + size) / r.read + 2 * size / r.write
        work += self.assigned(n, self.total, order_clusters(n, self.config.graph.order_rows))
        work += values / r.normalise + self.slower(2 * n * (grams + self.total * bits))
        parts = len(self.plan.partitions)
        network = self.moved(parts, 8 * (self.total**2 + self.total * bits))
        return self.cost("features", 3 * parts + 2 * _tree(parts) + 1, network, work, False)

    def assigned(self, rows: int, dims: int, clusters: int) -> float:
        """Seconds to find the nearest of several centres of each row, projected, in float64."""
        if clusters == 1:
            return 0.0
        width = min(dims, PROJECTED)
        operations = 2 * rows * width * (clusters + (dims if dims > width else 0))
        return 2 * operations / self.rates.gemm + rows * clusters / self.rates.pairs

    def partitioned(self, modality: str) -> tuple[float, int]:
        """Work and tasks of one search with the first overlap: routing, shuffles, indices."""
        n, r, graph, dims = self.plan.rows, self.rates, self.config.graph, self.dims[modality]
        clusters = routing_clusters(n, graph.cluster_rows)
        size = n * dims * self.plan.dtype.itemsize
        sent = graph.overlap * (size + n * graph.k * 16)
        work = self.assigned(n, dims, clusters) + 2 * size / r.read
        # A cluster is read once to be searched, and once to measure what was found.
        work += sent / r.write + 2 * sent / r.read + graph.overlap * n * dims / r.descent
        work += min(clusters, self.plan.workers) * r.compile
        return work, 3 * len(self.plan.partitions) + clusters

    def neighbours(self) -> StageCost:
        """Exact search reads everything once a partition; NN-descent builds one index, or many."""
        n, r, parts, work, tasks = self.plan.rows, self.rates, len(self.plan.partitions), 0.0, 0
        for g, method in self.plan.methods.items():
            if method == "exact":
                read = parts * n * self.dims[g] * self.plan.dtype.itemsize
                work += n**2 * (2 * self.dims[g] / r.gemm + 1 / r.pairs) + read / r.read
                tasks += parts
            elif method == "partitioned":
                more, count = self.partitioned(g)
                work, tasks = work + more, tasks + count
            else:
                work += r.compile + n * self.dims[g] / r.descent
                tasks += 1
        sample = min(n, self.config.graph.recall_rows)
        # The sample's recall is measured against an exact search, whatever the method.
        work += sample * n * sum(2 * d / r.gemm + 1 / r.pairs for d in self.dims.values())
        tasks += len(self.dims) * (parts + 3)
        return self.cost("neighbours", tasks, 0, work, False)

    def graph(self) -> StageCost:
        """Every run reads all neighbours and merges those that touch it."""
        n, k, count = self.plan.rows, self.config.graph.k, len(self.dims)
        runs = len(self.plan.runs)
        read = runs * n * k * count * 8 / self.rates.read
        written = self.edges * (8 + 5 * count) / self.rates.write
        work = read + written + self.edges / self.rates.edges
        return self.cost("graph", 2 * runs + _tree(runs), 0, work, False)

    def z(self) -> StageCost:
        """A product with the matrix, vector updates and an exchange of halos an iteration."""
        bits, blocks, r = self.config.loop_bits, len(self.plan.blocks), self.rates
        itemsize = vector_dtype(self.config).itemsize
        n, groups = self.plan.rows, len(self.plan.column_groups(bits))
        unknowns = coarse_unknowns(n, self.config.solver.coarse)
        # Aggregates add two sums and two corrections over all their levels.
        passes = 16 + (8 if unknowns else 0)
        iteration = self.edges * bits / r.sparse + passes * n * bits * itemsize / r.stream
        iteration += 2 * 2 * unknowns**2 * bits / r.gemm
        if self.plan.spilled:
            iteration += groups * self.edges * (4 + itemsize) / r.scan
        work = (r.cg_iterations + 1) * iteration + n * bits * 4 / r.write
        zones = -(-n // SUBDOMAIN_ROWS) if unknowns else 0
        work += _MATCHINGS * self.edges / r.edges if unknowns else 0.0
        exchange = self.halo_rows * bits * itemsize
        shared = self.moved(blocks, 2 * 8 * unknowns * bits) if blocks > 1 else 0
        # Update with preconditioner, product and sums a block, what each picks for others, and
        # one for all.
        each = 1 if blocks == 1 else blocks * (3 + blocks - 1) + 1
        rounds = 1 if blocks == 1 else r.cg_iterations + 1
        network = (r.cg_iterations + 1) * (exchange + shared)
        setup = 3 * blocks + 2 * zones + len(self.plan.partitions)
        tasks = groups * (rounds * each + 4 * blocks) + setup
        return self.cost("Z-step", tasks, network, work, True)

    def s(self) -> StageCost:
        """Edge lengths, their median and the terms of Eq. 9: some three products' worth."""
        bits, blocks = self.config.loop_bits, len(self.plan.blocks)
        work = 3 * self.edges * bits / self.rates.sparse
        if self.plan.spilled:
            # Columns, and the lengths of the groups before as they are read and written.
            groups = len(self.plan.length_groups(bits))
            work += groups * self.edges * (4 + 8) / self.rates.scan
            work += groups * self.edges * 8 / self.rates.write
        return self.cost("S-step", blocks * (blocks + 8), self.halo_rows * bits * 4, work, True)

    def b(self) -> StageCost:
        """The pass over X.

        Reading overlaps with the products, but a worker has one core, and bytes that are in the
        page cache are checked and copied by it: both count.
        """
        n, bits, r = self.plan.rows, self.config.loop_bits, self.rates
        products = self.slower(2 * n * bits * (2 * self.total + bits))
        beside = n * bits * (4 + 1 / 4)  # Z, and codes before and after
        read = beside + (0 if self.plan.cached else n * self.total * self.plan.dtype.itemsize)
        parts = len(self.plan.passes)
        network = self.moved(parts, 8 * (self.total * bits + bits**2))
        network += self.plan.workers * 8 * self.total * bits
        work = products + read / r.read
        return self.cost("B-step", 2 * parts + _tree(parts), network, work, True)

    def model(self) -> StageCost:
        """Passes for the encoders and the final codes: similarities to anchors are most of it."""
        n, r, method, count = self.plan.rows, self.rates, self.config.method, len(self.dims)
        bits = max(self.config.bits, self.config.loop_bits)
        anchors = min(method.anchors, n) if method.encoder == "anchors" else 0
        # One pass for the sums of the anchors, and where codes are spread from directions one
        # for their scores, one for the codes with the anchors' sums.
        scored = 2 if method.directions else 0
        passes = (1 if anchors else 0) + scored
        near = n * anchors * passes * count
        operations = 2 * n * anchors * passes * self.total
        if anchors:  # X'K, half of K'K, and K'B
            operations += 2 * n * anchors * (self.total + count * (anchors // 2 + bits))
        operations += 2 * scored * n * bits * (self.total + count * anchors)
        read = passes * n * self.total * self.plan.dtype.itemsize
        work = self.slower(operations) + near / r.similar + read / r.read
        parts = len(self.plan.encoded_spans)
        sums = 8 * anchors * (self.total + anchors * count)
        sizes = [sums] * (1 if anchors else 0) + [8 * self.total * bits] * scored
        tasks = ((count if anchors else 0) + scored) * (4 * parts + _tree(parts))
        network = sum(self.moved(parts, size) for size in sizes)
        return self.cost("model", tasks + 1, network, work, False)

    def slower(self, operations: float) -> float:
        """Seconds of dense products; float64 takes twice as long as float32."""
        return operations / self.rates.gemm * (self.plan.dtype.itemsize / 4)


def _tree(parts: int) -> int:
    """Tasks of `tasks.add_up` for ``parts`` results: a tree with `FAN_IN` inputs a task."""
    tasks = 0
    while parts > 1:
        parts = -(-parts // FAN_IN)
        tasks += parts
    return tasks
