"""The problem size that all memory formulas depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from srch_dist.config.options import TrainConfig


@dataclass(frozen=True)
class ProblemSize:
    """What the formulas depend on.

    Attributes
    ----------
    rows : n. partition : rows of a partition. resident : rows of the fullest worker's blocks.
    columns : columns of Z that are solved at a time. length_columns : those that edge lengths are
        worked out of at a time, at least as many. spilled : whether the graph is on disk then.
    dims : d_g by modality. itemsize : bytes of a feature value in training.
    methods : neighbour search by modality. cached : partitions of X kept by each worker.
    degree : ends of edges a row as counted; None before they are. workers : of the cluster.
    blocks : of the Z-step, over all workers.
    """

    rows: int
    partition: int
    resident: int
    columns: int
    dims: Mapping[str, int]
    itemsize: int
    methods: Mapping[str, str]
    cached: int
    config: TrainConfig
    spilled: bool = False
    degree: float | None = None
    workers: int = 1
    blocks: int = 1
    length_columns: int = 0

    @property
    def total(self) -> int:
        """Σ d_g."""
        return sum(self.dims.values())

    @property
    def parts(self) -> int:
        """Partitions."""
        return -(-self.rows // self.partition)

    @property
    def groups_at_once(self) -> int:
        """Groups of columns that are worked on at the same time; see `Plan.groups_at_once`."""
        return self.workers if self.blocks == 1 else 1

    @property
    def length_sums(self) -> tuple[int, int]:
        """Sums of edge lengths over some columns that there are at once, and how often they grow.

        Of one block the workers have one each; of several there is one of each block.
        """
        columns = self.length_columns or self.columns
        groups = len(range(0, self.config.loop_bits, max(1, columns)))
        sums = min(groups, self.groups_at_once)
        return sums, -(-groups // sums)

    @property
    def edges_a_row(self) -> float:
        """Ends of edges a row, on average: before they are counted the most there can be.

        That is 2 k for each modality's union graph.
        """
        return self.most_edges_a_row if self.degree is None else self.degree

    @property
    def most_edges_a_row(self) -> int:
        """Ends of edges a row, on average, at most."""
        both = 1 if self.config.graph.symmetry == "mutual" else 2
        return both * self.config.graph.k * len(self.dims)
