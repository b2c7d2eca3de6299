"""Declare every option of a run once: its name, type, range, default and help text.

The docstring under a field is its help text on the command line and in docs/options.md. The order
of the fields is the order of `config.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

Preset = Literal["balanced", "paper"]
# Upper limit of counts, such as rows: bytes of so many values still fit in int64.
MOST = 1 << 48
PositiveInt = Annotated[int, Field(ge=1, le=MOST)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

# Options of every command that uses a cluster. `ClusterOptions` and `TrainConfig` share their texts
# through these types. Not through a base class, whose fields would come first in `config.yaml`.
Scheduler = Annotated[
    str | None,
    Field(
        description="Running Dask cluster: scheduler address (tcp:// or tls://) or scheduler file. "
        "Default: the variable DASK_SCHEDULER_ADDRESS; without it, a local cluster is started."
    ),
]
Workers = Annotated[
    PositiveInt | None,
    Field(
        description="Local cluster: number of one-thread worker processes; by default one per CPU "
        "that this process may use (affinity, cgroup)."
    ),
]
MemoryLimit = Annotated[
    str | None,
    Field(
        description="Local cluster: memory per worker, such as 4GiB; by default 2GiB, or less if "
        "the machine or the cgroup has too little. Raise the limit if a plan is refused or a "
        "worker is killed."
    ),
]


@dataclass(frozen=True)
class FeatureConfig:
    """Normalisation of features before training; queries are normalised in the same way."""

    center: bool = True
    """Subtract the mean of the training rows; turn off only for already centred features."""
    unit_norm: bool = True
    """Scale each row to unit length after centring; turn off only if lengths carry meaning."""
    max_zero_share: Share = 0.05
    """Maximum share (0 to 1) of rows that are zero after centring. Data with more zero rows are
    refused, because zero rows have no meaningful neighbours. Raise this share only if you expect
    zero rows."""


@dataclass(frozen=True)
class GraphConfig:
    """The kNN graph of each modality (the paper's "set", Eqs. 1 and 6)."""

    k: PositiveInt = 10
    """Neighbours per row; memory, disk and time of the graph grow with this number."""
    method: Literal["auto", "exact", "pynndescent", "partitioned"] = "auto"
    """Neighbour search. exact compares all rows. partitioned compares rows in small groups that
    overlap, out of core. pynndescent builds one approximate index in memory. auto chooses exact or
    partitioned by the numbers of rows and dimensions alone."""
    symmetry: Literal["union", "mutual"] = "union"
    """union keeps an edge if at least one of its rows is a neighbour of the other. mutual keeps an
    edge only if each row is a neighbour of the other; some rows can then have no edges."""
    recall_rows: PositiveInt = 500
    """Number of rows sampled to measure recall@k against exact search; raise this number for a
    smaller sampling error."""
    recall_target: Share = 0.95
    """Partitioned search: while recall@k (0 to 1) is below this value, repeat the search with a
    quarter more leaves per row."""
    cluster_rows: PositiveInt = 50_000
    """Partitioned search: most rows of a cluster, which a task holds in memory. Lower it if they do
    not fit."""
    leaves: PositiveInt = 8
    """Partitioned search: fewest leaves, groups of about 22 near rows, in which each row is
    compared. More are chosen if the sampled rows need them for graph.recall_target."""
    leaves_max: Annotated[int, Field(ge=1, le=128)] = 24
    """Partitioned search: most leaves in which each row is compared, up to 128; raise it if
    recall@k stays below graph.recall_target."""
    order_rows: PositiveInt = 4096
    """Training stores similar rows next to each other, in clusters of about this number of rows.
    Data with fewer than 16 clusters keep the order of the store."""


@dataclass(frozen=True)
class MethodConfig:
    """Algorithm 1: weights of Eq. 9, stopping rule, final codes and encoder."""

    scaling: Literal["balanced", "printed"] = "balanced"
    """Scale of the two terms of Eq. 17, embedding and projections. balanced gives both the same
    size; printed uses the paper's factors, with which the graph has almost no effect."""
    alpha: Positive | Literal["median"] = "median"
    """Weight of Eq. 7, which keeps the edge weights S near 1. median chooses this weight in each
    S-step so that half of the edges have S > 1/2."""
    beta: Annotated[float, Field(ge=1e-12, allow_inf_nan=False)] = 1.0
    """Weight of Eq. 5, which ties the embedding Z to the codes B; raise this weight for fewer
    CG iterations."""
    lam: NotNegative = 10.0
    """The paper's lambda: weight of Eq. 4, which pulls neighbours together; 0 ignores the graph."""
    omega: NotNegative = 1.0
    """With balanced scaling: weight of the embedding Z relative to the projections W X; 0 leaves
    the embedding out of the codes."""
    center_z: bool = True
    """With balanced scaling: subtract the mean of the embedding Z before the B-step. If off, the
    mean can dominate the codes."""
    weights: Literal["equal", "mutual"] = "mutual"
    """Weights of the modalities. mutual gives a modality more weight if a larger share of its
    neighbour pairs is mutual. equal gives all modalities the same weight; use equal if you trust
    all modalities equally."""
    rotate: bool = True
    """Rotate the real-valued scores of the bits towards ±1 vectors before their signs become
    bits, so that bits are less correlated."""
    rebase: bool = True
    """Re-weight the edges by Eq. 15 after each Z-step; off keeps all edge weights S = 1."""
    embedding_rank: Annotated[int, Field(ge=0, le=4096)] = 32
    """Z-step: solve for the embedding Z of this number of leading principal directions of the
    codes; 0 solves for all columns. Time and memory of Z- and S-step grow with this number."""
    drop: Annotated[float, Field(ge=0, lt=1)] = 1e-4
    """Z-step: to save time, leave out edges whose weight lambda C S^2 (Eq. 9) is below this value
    times beta; 0 keeps all edges."""
    forcing: Share = 1.0
    """Inexact Z-step: stop CG at a residual of this value × (share of bits that the last B-step
    changed), clamped to [solver.tolerance, 0.1]; 0 always solves to solver.tolerance."""
    iterations: PositiveInt = 20
    """Maximum number of iterations of the loop; raise this number if the loop ends before
    method.threshold is reached."""
    stop: Literal["changed_bits", "objective"] = "changed_bits"
    """Stop the loop when the share of changed bits (changed_bits), or the relative change of Eq. 9
    (objective), is below method.threshold. With method.alpha median, Eq. 9 itself changes between
    iterations."""
    threshold: NotNegative = 3e-3
    """Threshold of method.stop; lower it for more iterations. With 0, the loop runs all
    method.iterations."""
    directions: Annotated[int, Field(ge=0, le=MOST)] | Literal["auto"] = "auto"
    """After the loop, compute the final codes from this number of leading principal directions of
    encoder scores, loop codes and pair directions; auto is 4 times the square root of bits. 0 keeps
    the codes of the loop."""
    pair: Share = 0.5
    """Class or pair: weight (0 to 1) in the final codes of directions in which the halves of a pair
    agree, beside directions that the graph smooths. Raise it to find the exact partner, lower it to
    find items of the same class."""
    loop_bits: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 64
    """Bits per code that the loop learns if method.directions is not 0; memory and time of the
    loop grow with this number."""
    encoder: Literal["ridge", "anchors", "projection"] = "anchors"
    """Encoder of new rows. ridge: ridge regression of the codes on the features. anchors: ridge
    regression on the features and on similarities to anchor rows. projection: Eq. 18, sign(W X)."""
    anchors: Annotated[int, Field(ge=2, le=MOST)] = 1000
    """Number of training rows to sample as anchors of the encoder; method.rotate uses the same
    sample. Encoding time grows with this number."""
    ridge: Positive = 0.1
    """Ridge penalty of the encoder, in units of the mean eigenvalue of the Gram matrix of the
    encoder's inputs; raise this penalty for few or noisy rows."""


@dataclass(frozen=True)
class SolverConfig:
    """Conjugate gradients (CG) for the Z-step (Eq. 14)."""

    tolerance: Annotated[float, Field(ge=1e-12, le=0.1)] = 1e-4
    """Relative residual at which a column of Z counts as solved; method.forcing allows a larger
    residual while many bits change."""
    max_iterations: PositiveInt = 1000
    """Maximum number of CG iterations of a Z-step. If CG needs more iterations, training stops
    with an error."""
    coarse: Literal["auto", "on", "off"] = "auto"
    """Multilevel preconditioner from aggregates of strongly coupled rows. auto turns it on from
    16,384 rows; for fewer rows, the setup costs more time than the preconditioner saves."""
    warm: bool = True
    """Start CG from the Z of the previous iteration; off starts from zero and needs more
    iterations."""
    fused: PositiveInt = 10
    """Number of CG iterations in one task graph; the residual is checked after each graph. Raise
    this number if the scheduler is slow."""


@dataclass(frozen=True)
class TlsConfig:
    """TLS between scheduler, workers and client: set all three files or none."""

    ca: str | None = None
    """PEM file with the certificate of the authority; processes without a certificate from this
    authority are refused."""
    cert: str | None = None
    """PEM file with the certificate of this command."""
    key: str | None = None
    """PEM file with the private key of this command."""


@dataclass(frozen=True)
class ClusterOptions:
    """The Dask cluster that does the work: a running cluster, or one that this command starts."""

    scheduler: Scheduler = None
    workers: Workers = None
    memory_limit: MemoryLimit = None
    tls: TlsConfig = field(default_factory=TlsConfig)


@dataclass(frozen=True)
class TrainConfig:
    """Train cross-modal hash codes (SRCH) from a feature store.

    Without --data, train on the emoji pairs that the package ships. The YAML file of --config
    overrides the preset, and the command line overrides both.
    """

    data: str | None = None
    """Path or s3:// URL of a feature store made by srch_dist.ingest; by default the shipped emoji
    pairs."""
    out: str | None = None
    """Run directory, or s3:// URL of a run that lives in an object store alone; by default a new
    folder under runs/."""
    work: str | None = None
    """If --out is an s3:// URL: train in this folder, on a disk that this command and all workers
    share, and upload only the results; by default the whole run is in the object store."""
    resume: bool = False
    """Resume the run in the run directory from its last commit; if there is no run, start one."""
    bits: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 32
    """Bits per code, a multiple of 8; more bits usually rank better and need more space."""
    preset: Preset = "balanced"
    """balanced: both terms of Eq. 17 have the same size, so that the graph has an effect. paper:
    equations and constants as printed in the paper."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the first codes, of samples and of held-out queries."""
    rows: Literal["train", "all"] = "train"
    """Rows to train on. train: the rows of split 0, or all rows if the store has no split. all: all
    rows."""
    queries: Annotated[int, Field(ge=0, le=MOST)] = 0
    """Number of rows to hold out as queries, chosen by --seed; only for a store without a split."""
    evaluate: bool = True
    """Score the model on the query rows (split 1, or the rows that --queries holds out)."""
    baseline: bool = True
    """Also fit and score the baseline CCA-ITQ, if the store has labels and two modalities."""
    report: bool = True
    """Write report.html, a page about the run, after training; this needs the extra 'report'."""
    scheduler: Scheduler = None
    workers_min: PositiveInt = 1
    """Running cluster: number of workers to wait for before work begins; workers may join and leave
    later."""
    workers_wait: NotNegative = 60.0
    """Running cluster: seconds to wait for the scheduler, then for the workers; raise this
    time if scheduler or workers start slowly."""
    workers: Workers = None
    memory_limit: MemoryLimit = None
    partition_rows: PositiveInt | None = None
    """Rows per partition; by default about 32 MiB of features. Never changes the codes."""
    blocks: PositiveInt | None = None
    """Number of row blocks in the Z-step; by default the smallest number with which the Z-step fits
    in memory. Never changes the codes."""
    columns: PositiveInt | None = None
    """Number of columns of the embedding Z that the Z-step solves together; by default the largest
    number that fits in memory. Never changes the codes."""
    cache: Literal["auto", "off"] = "auto"
    """Keep features in worker memory when the plan says they fit (auto), or read them in every
    iteration (off). Never changes the codes."""
    scratch: str | None = None
    """Run in an object store: largest cache of objects on each worker's disk, such as 20GiB; by
    default what the plan needs. 0 turns the cache off. Never changes the codes."""
    spill: Literal["auto", "on"] = "auto"
    """Read the graph from scratch files during the loop: only if the graph does not fit in worker
    memory (auto), or always (on). Never changes the codes."""
    precision: Literal["auto", "float32", "float64"] = "auto"
    """Floating-point type of training; auto is float64 up to 2**26 feature values, else float32."""
    keep_work: bool = False
    """Keep normalised features and graph in the run directory after training; they are large."""
    features: FeatureConfig = field(default_factory=FeatureConfig)
    graph: GraphConfig = field(default_factory=GraphConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    solver: SolverConfig = field(default_factory=SolverConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)

    @property
    def in_store(self) -> bool:
        """Whether the run lives in an object store alone."""
        return self.work is None and (self.out or "").startswith("s3://")

    @property
    def loop_bits(self) -> int:
        """Number of bits in Algorithm 1: ``method.loop_bits``, or ``bits`` if directions is 0."""
        return self.method.loop_bits if self.method.directions else self.bits

    @property
    def embedding_columns(self) -> int:
        """Number of columns in which Z is solved and stored; see ``method.embedding_rank``."""
        return min(self.method.embedding_rank or self.loop_bits, self.loop_bits)
