"""`ProblemSize`: shapes, options and partitioning of a run, the input of the plan's formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from srch_dist.config.options import TrainConfig


@dataclass(frozen=True)
class ProblemSize:
    """Shapes, options and partitioning of a run.

    A directed edge is one entry of the joint graph's CSR matrix; an undirected edge is two entries.

    Attributes
    ----------
    rows : number n of rows to train on.
    partition_rows : number of rows of a partition; the last partition may have fewer.
    dims : d_g, dimensions by modality.
    itemsize : bytes of a feature value in training.
    methods : neighbour search by modality: "exact", "pynndescent" or "partitioned".
    config : options of the run.
    workers : number of worker processes.
    degree : mean number of directed edges per row; None until the edges are counted.
    blocks : number of blocks of rows in the Z-step, of all workers together.
    resident_rows : number of rows in the blocks of one worker, maximum over the workers.
    columns : number of columns of Z in one solve.
    length_columns : number of columns of Z in one pass of the S-step, at least ``columns``. 0 means
        ``columns``.
    spilled : whether the loop reads the graph from scratch files.
    cached_partitions : number of partitions of X that each worker keeps in memory.
    """

    rows: int
    partition_rows: int
    dims: Mapping[str, int]
    itemsize: int
    methods: Mapping[str, str]
    config: TrainConfig
    workers: int = 1
    degree: float | None = None
    blocks: int = 1
    resident_rows: int = 0
    columns: int = 0
    length_columns: int = 0
    spilled: bool = False
    cached_partitions: int = 0

    @property
    def total_dims(self) -> int:
        """Sum of the dimensions d_g of all modalities."""
        return sum(self.dims.values())

    @property
    def widest(self) -> int:
        """Largest dimension d_g of a modality."""
        return max(self.dims.values())

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return -(-self.rows // self.partition_rows)

    @property
    def groups_at_once(self) -> int:
        """Number of column groups that are solved at the same time."""
        return groups_at_once(self.blocks, self.workers)

    @property
    def length_sums(self) -> tuple[int, int]:
        """Number of partial sums of a block's edge lengths, and number of S-step passes per sum.

        With one block, every worker has a partial sum. With several blocks, each block has one sum.
        """
        columns = self.length_columns or self.columns
        groups = len(range(0, self.config.embedding_columns, max(1, columns)))
        sums = min(groups, self.groups_at_once)
        return sums, -(-groups // sums)

    @property
    def mean_degree(self) -> float:
        """Mean number of directed edges per row; `degree_bound` until the edges are counted."""
        return self.degree_bound if self.degree is None else self.degree

    @property
    def degree_bound(self) -> int:
        """Upper bound of the mean degree: 2 k (union) or k (mutual graph) per modality, summed.

        k is ``graph.k``, the number of neighbours per row.
        """
        directions = 1 if self.config.graph.symmetry == "mutual" else 2
        return directions * self.config.graph.k * len(self.dims)


def groups_at_once(blocks: int, workers: int) -> int:
    """Return the number of column groups that are solved at the same time.

    With one block, each worker solves a group. With several blocks, all workers solve one group.
    """
    return workers if blocks == 1 else 1
