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
        description="Local cluster: memory per worker; by default 2GiB, or less where the machine "
        "or its cgroup has less. Raise it if a plan is refused or a worker is killed."
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
    """Maximum share of rows that are zero after centring; data with more are refused, because zero
    rows have no meaningful neighbours. Raise it only if you expect such rows."""


@dataclass(frozen=True)
class GraphConfig:
    """The kNN graph of each modality (the paper's "set", Eqs. 1 and 6)."""

    k: PositiveInt = 10
    """Neighbours per row; memory, disk and time of the graph grow with it."""
    method: Literal["auto", "exact", "pynndescent", "partitioned"] = "auto"
    """Neighbour search: exact, one approximate index (pynndescent), or an index per cluster of
    rows (partitioned). auto chooses by rows and dimensions alone."""
    symmetry: Literal["union", "mutual"] = "union"
    """Keep an edge if one row is a neighbour of the other (union), or only if both are (mutual).
    mutual can leave rows without edges."""
    recall_rows: PositiveInt = 500
    """Rows sampled to measure recall@k against exact search; raise it for a smaller error."""
    recall_target: Share = 0.95
    """Partitioned search: repeat the search with overlap + 1 while recall@k is lower."""
    cluster_rows: PositiveInt = 50_000
    """Partitioned search: rows per cluster. A task holds up to overlap_max times this number of
    rows; lower it if they do not fit in memory."""
    overlap: PositiveInt = 2
    """Partitioned search: number of clusters in which each row is searched at first; recall_target
    can raise it."""
    overlap_max: PositiveInt = 4
    """Partitioned search: upper limit of overlap; raise it if recall stays below recall_target."""
    refine: bool = False
    """Partitioned search: also compare each row with its neighbours' neighbours, once; turn on if
    recall stays low at overlap_max."""
    order_rows: PositiveInt = 4096
    """Rows per cluster of the row order, which stores similar rows next to each other. Data with
    fewer than 16 clusters keep their order."""


@dataclass(frozen=True)
class MethodConfig:
    """Algorithm 1: weights of Eq. 9, stopping rule, final codes and encoder."""

    scaling: Literal["balanced", "printed"] = "balanced"
    """B-step: bring both terms of Eq. 17 to one scale (balanced), or use them as printed. As
    printed, the graph has almost no effect."""
    alpha: Positive | Literal["median"] = "median"
    """Weight of Eq. 7. median sets it in each S-step so that half of the edges have S > 1/2."""
    beta: Annotated[float, Field(ge=1e-12, allow_inf_nan=False)] = 1.0
    """Weight of Eq. 5, which ties the embedding Z to the codes B; raise it for fewer CG
    iterations."""
    lam: NotNegative = 10.0
    """The paper's lambda: weight of Eq. 4, which pulls neighbours together; 0 ignores the graph."""
    omega: NotNegative = 1.0
    """Weight of the embedding against the projections (balanced scaling only); 0 leaves the
    embedding out of the codes."""
    center_z: bool = True
    """Subtract the mean of the embedding before the B-step (balanced scaling only); off lets the
    constant vector dominate the codes."""
    weights: Literal["equal", "mutual"] = "mutual"
    """Weight of each modality: by its share of mutual neighbours (mutual), or all equal. Use equal
    if you trust all modalities alike."""
    rotate: bool = True
    """Rotate the scores towards ±1 vectors before taking signs, so that bits are less
    correlated."""
    rebase: bool = True
    """Re-weight the edges by Eq. 15 after each Z-step; off keeps S = 1."""
    drop: Annotated[float, Field(ge=0, lt=1)] = 1e-4
    """Z-step: leave out edges with lambda C S^2 below this share of beta, to save time; 0 keeps
    all."""
    forcing: Share = 1.0
    """Inexact Z-step: stop CG at forcing × (share of bits changed last), clamped to
    [solver.tolerance, 0.1]; 0 always solves to solver.tolerance."""
    iterations: PositiveInt = 20
    """Maximum number of outer iterations; raise it if the loop ends before its threshold."""
    stop: Literal["changed_bits", "objective"] = "changed_bits"
    """Stopping rule: stop when the share of changed bits, or the relative change of Eq. 9, is below
    threshold. With alpha median, Eq. 9 changes between iterations."""
    threshold: NotNegative = 1e-3
    """Threshold of the stopping rule; lower it for more iterations, 0 runs all of them."""
    directions: Annotated[int, Field(ge=0, le=MOST)] = 24
    """After the loop, compute the final codes from this number of leading principal directions of
    encoder scores and loop codes; 0 keeps the codes of the loop."""
    loop_bits: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 64
    """Bits that the loop learns if directions is not 0; memory and time of the loop grow with
    it."""
    encoder: Literal["ridge", "anchors", "projection"] = "anchors"
    """Encoder of new rows: ridge regression of B on the features (ridge), on features and
    similarities to anchor rows (anchors), or Eq. 18, sign(W X) (projection)."""
    anchors: Annotated[int, Field(ge=2, le=MOST)] = 1000
    """Number of training rows to sample as anchors; the rotation is learned from them too. Encoding
    time grows with this number."""
    ridge: Positive = 0.1
    """Ridge penalty of the encoder, in units of the mean eigenvalue of X'X; raise it for few or
    noisy rows."""


@dataclass(frozen=True)
class SolverConfig:
    """Conjugate gradients (CG) for the Z-step (Eq. 14)."""

    tolerance: Annotated[float, Field(ge=1e-12, le=0.1)] = 1e-4
    """Relative residual at which a column of Z is solved; method.forcing allows more while many
    bits change."""
    max_iterations: PositiveInt = 1000
    """Maximum number of CG iterations of a Z-step; reaching it is an error, never a worse
    result."""
    coarse: Literal["auto", "on", "off"] = "auto"
    """Multilevel preconditioner from aggregates of strongly coupled rows. auto turns it on from
    16,384 rows, below which its setup costs more than it saves."""
    warm: bool = True
    """Start CG from the Z of the previous iteration; off starts from zero and needs more
    iterations."""
    fused: PositiveInt = 10
    """CG iterations per task graph, between two checks of the residual; raise it if the scheduler
    is slow."""


@dataclass(frozen=True)
class TlsConfig:
    """TLS between scheduler, workers and client: name all three files or none."""

    ca: str | None = None
    """PEM file of the authority's certificate; peers without a certificate from this authority are
    refused."""
    cert: str | None = None
    """PEM file of this side's certificate."""
    key: str | None = None
    """PEM file of this side's private key."""


@dataclass(frozen=True)
class ClusterOptions:
    """The Dask cluster that does the work: a running one, or a local one for this command."""

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
    """Feature store made by srch_dist.ingest, a path or s3:// URL; by default the shipped emoji
    pairs."""
    out: str | None = None
    """Run directory; by default a new folder under runs/. With an s3:// URL, the results are
    uploaded there when the run has finished."""
    work: str | None = None
    """With an s3:// URL as out: run directory on a disk that this command and all workers share;
    by default runs/BUCKET/KEY."""
    resume: bool = False
    """Resume the run in the run directory from its last commit; start one if there is none."""
    bits: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 32
    """Bits per code, a multiple of 8; more bits usually rank better and need more space."""
    preset: Preset = "balanced"
    """balanced: terms at one scale, so that the graph has an effect. paper: equations and constants
    as printed."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the first codes, of samples and of held-out queries."""
    rows: Literal["train", "all"] = "train"
    """Rows to train on: split 0 (train; all rows if the store has no split), or all rows."""
    queries: Annotated[int, Field(ge=0, le=MOST)] = 0
    """Rows to hold out as queries, chosen by seed; only for a store without a split."""
    evaluate: bool = True
    """Score the model on the store's queries after training."""
    baseline: bool = True
    """Score CCA-ITQ too, if the store has labels and exactly two modalities."""
    report: bool = True
    """Write report.html, a page about the run, after training; needs the extra report."""
    scheduler: Scheduler = None
    workers_min: PositiveInt = 1
    """Running cluster: workers to wait for before work begins; others may join and leave later."""
    workers_wait: NotNegative = 60.0
    """Running cluster: seconds to wait for the scheduler, then for the workers; raise it if they
    start slowly."""
    workers: Workers = None
    memory_limit: MemoryLimit = None
    partition_rows: PositiveInt | None = None
    """Rows per partition; by default about 32 MiB of features. Never changes the codes."""
    blocks: PositiveInt | None = None
    """Number of blocks of the Z-step; by default the smallest that fits in memory. Never changes
    the codes."""
    columns: PositiveInt | None = None
    """Number of columns of Z solved together; by default the largest that fits in memory. Never
    changes the codes."""
    cache: Literal["auto", "off"] = "auto"
    """Keep features in worker memory when the plan says they fit (auto), or read them in every
    iteration (off). Never changes the codes."""
    spill: Literal["auto", "on"] = "auto"
    """Read the graph from scratch files in the loop if it does not fit in worker memory (auto), or
    always (on). Never changes the codes."""
    precision: Literal["auto", "float32", "float64"] = "auto"
    """Arithmetic of training; auto uses float64 up to 2**26 feature values, else float32."""
    keep_work: bool = False
    """Keep normalised features and graph in the run directory after training; they are large."""
    features: FeatureConfig = field(default_factory=FeatureConfig)
    graph: GraphConfig = field(default_factory=GraphConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    solver: SolverConfig = field(default_factory=SolverConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)

    @property
    def loop_bits(self) -> int:
        """Number of bits in Algorithm 1: ``method.loop_bits``, or ``bits`` if directions is 0."""
        return self.method.loop_bits if self.method.directions else self.bits
