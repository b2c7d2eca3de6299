"""Every option of a run: name, type, default and help text, declared once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

Preset = Literal["balanced", "paper"]


PositiveInt = Annotated[int, Field(ge=1)]


Share = Annotated[float, Field(ge=0, le=1)]


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class FeatureConfig:
    """How features are normalised before anything else (the same for queries later)."""

    center: bool = True
    """Subtract the mean of the training rows."""
    unit_norm: bool = True
    """Scale each row to unit length, after centring."""
    max_zero_share: Share = 0.05
    """Refuse the data when more than this share of the rows is zero after centring."""


@dataclass(frozen=True)
class GraphConfig:
    """The kNN graph of each modality (the paper's "set", Eqs. 1 and 6)."""

    k: PositiveInt = 10
    """Neighbours a row."""
    method: Literal["auto", "exact", "pynndescent", "partitioned"] = "auto"
    """How neighbours are searched: exactly, with one index, or with one a cluster of rows; auto
    decides by rows and dimensions alone."""
    symmetry: Literal["union", "mutual"] = "union"
    """Keep an edge found from either end, or only from both."""
    recall_rows: PositiveInt = 500
    """Rows sampled to measure recall@k against exact search."""
    recall_target: Share = 0.95
    """Partitioned search: the recall below which rows are searched in one cluster more."""
    cluster_rows: PositiveInt = 50_000
    """Partitioned search: rows of a cluster; a search holds at most overlap_max times as many."""
    overlap: PositiveInt = 2
    """Partitioned search: clusters that a row is searched in, at first."""
    overlap_max: PositiveInt = 4
    """Partitioned search: clusters that a row is searched in, at most."""
    refine: bool = False
    """Partitioned search: look at the neighbours of each row's neighbours once more."""
    order_rows: PositiveInt = 4096
    """Rows of a cluster of the row order; data of fewer than 16 clusters keep their order."""


@dataclass(frozen=True)
class MethodConfig:
    """Algorithm 1: the weights of Eq. 9 and how its terms are put together."""

    scaling: Literal["balanced", "printed"] = "balanced"
    """B-step: both terms of Eq. 17 brought to one scale (balanced), or as printed."""
    alpha: Positive | Literal["median"] = "median"
    """Weight of Eq. 7; median sets half of the edges above S = 1/2 at every rebase."""
    beta: Annotated[float, Field(ge=1e-12, allow_inf_nan=False)] = 1.0
    """Weight of Eq. 5, which ties the embedding Z to the codes B."""
    lam: NotNegative = 10.0
    """The paper's lambda: weight of Eq. 4, which pulls neighbours together."""
    omega: NotNegative = 1.0
    """Weight of the embedding against the projections (balanced scaling); 0 turns it off."""
    center_z: bool = True
    """Subtract the mean of the embedding before the B-step (balanced scaling)."""
    weights: Literal["equal", "mutual"] = "mutual"
    """Weight of each modality: all alike, or by its share of mutual neighbours."""
    rotate: bool = True
    """Turn the scores towards the corners of the cube before their signs are taken."""
    rebase: bool = True
    """Re-weight the edges by Eq. 15 after each Z-step; off keeps S = 1."""
    drop: Annotated[float, Field(ge=0, lt=1)] = 1e-4
    """Z-step: edges of which lambda C S^2 is below this share of beta are left out; 0 keeps all."""
    forcing: Share = 1.0
    """Z-step: the relative residual that is allowed, over the share of bits that the iteration
    before changed; between solver.tolerance, which 0 takes always, and 0.1."""
    iterations: PositiveInt = 20
    """Most outer iterations."""
    stop: Literal["changed_bits", "objective"] = "changed_bits"
    """What has to fall below the threshold: share of changed bits, or relative change of Eq. 9."""
    threshold: NotNegative = 1e-3
    """The threshold of the stopping rule."""
    directions: Annotated[int, Field(ge=0)] = 24
    """Leading directions of codes and encoded rows together that the final codes are spread from
    once the loop has ended; 0 keeps the codes of the loop."""
    loop_bits: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 64
    """Bits that the loop learns where the codes are spread from directions."""
    encoder: Literal["ridge", "anchors", "projection"] = "anchors"
    """Codes of new rows: ridge regression of B on the features, or on them and their similarities
    to anchor rows, or Eq. 18, sign(W X)."""
    anchors: Annotated[int, Field(ge=2)] = 1000
    """Training rows that serve as anchors, and from which the rotation is worked out."""
    ridge: Positive = 0.1
    """Ridge penalty, in units of the mean eigenvalue of X'X."""


@dataclass(frozen=True)
class SolverConfig:
    """Conjugate gradients for the Z-step (Eq. 14)."""

    tolerance: Annotated[float, Field(ge=1e-12, le=0.1)] = 1e-4
    """Relative residual that is asked of a column of Z at most; while more bits change than that,
    method.forcing lets it end earlier."""
    max_iterations: PositiveInt = 1000
    """Most iterations a Z-step; reaching it is an error, never a worse answer."""
    coarse: Literal["auto", "on", "off"] = "auto"
    """Precondition with aggregates of strongly coupled rows; auto does from 16,384 rows on, below
    which building them costs more than the iterations that they save."""
    warm: bool = True
    """Start from the Z of the iteration before; otherwise every Z-step starts from zero."""
    fused: PositiveInt = 10
    """Iterations in one task graph, between two looks at the residual."""


@dataclass(frozen=True)
class TlsConfig:
    """Certificates of the connections between scheduler, workers and client; all three or none."""

    ca: str | None = None
    """File of the authority's certificate; who has none of its certificates is refused."""
    cert: str | None = None
    """File of this side's certificate."""
    key: str | None = None
    """File of its key."""


@dataclass(frozen=True)
class TrainConfig:
    """Train cross-modal hash codes (SRCH) from a feature store.

    Without --data, the emoji pairs that come with the package are used. Options come from the
    preset, then from the YAML file named by --config, then from the command line.
    """

    data: str | None = None
    """Feature store made by srch_dist.ingest, a path or s3:// URL; the shipped emoji pairs when
    absent."""
    out: str | None = None
    """Run directory; a new folder under runs/ when absent. With an s3:// URL the results go there
    when the run is finished."""
    work: str | None = None
    """Run directory of a run whose results go to an s3:// URL: a folder that this command and all
    workers share; runs/BUCKET/KEY when absent."""
    resume: bool = False
    """Go on with the run in the run directory from what it has committed; starts where none is."""
    bits: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 32
    """Bits a code, a multiple of 8."""
    preset: Preset = "balanced"
    """balanced: the scale-free reading, whose graph counts; paper: equations as printed."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the first codes, of samples and of held-out queries."""
    rows: Literal["train", "all"] = "train"
    """Rows trained on: split 0 (all where the store has no split), or all."""
    queries: Annotated[int, Field(ge=0)] = 0
    """Rows held out as queries by seed, for a store without a split."""
    evaluate: bool = True
    """Score the model on the store's queries when training is done."""
    baseline: bool = True
    """Score CCA-ITQ beside it, where there are labels and two modalities."""
    report: bool = True
    """Write report.html, a page about the run, when training is done (extra report)."""
    scheduler: str | None = None
    """Running Dask cluster: address of its scheduler (tcp:// or tls://) or scheduler file; the
    variable DASK_SCHEDULER_ADDRESS when absent; without either a local cluster is started."""
    workers_min: PositiveInt = 1
    """Running cluster: workers to wait for before work begins; more may come and go later."""
    workers_wait: NotNegative = 60.0
    """Running cluster: seconds to wait at most for the scheduler, and then for the workers."""
    workers: PositiveInt | None = None
    """Worker processes of the local cluster; one a core when absent."""
    memory_limit: str = "2GiB"
    """Memory a worker of the local cluster."""
    partition_rows: PositiveInt | None = None
    """Rows a partition; derived from bytes when absent. Never changes the codes."""
    blocks: PositiveInt | None = None
    """Blocks of the Z-step; derived from memory when absent. Never changes the codes."""
    columns: PositiveInt | None = None
    """Columns of Z solved at a time; derived from memory when absent. Never changes the codes."""
    cache: Literal["auto", "off"] = "auto"
    """Whether workers keep the features in memory where the plan says that all fit."""
    spill: Literal["auto", "on"] = "auto"
    """Whether the graph is read from scratch files in the loop: where it does not fit the workers,
    or always. Never changes the codes."""
    precision: Literal["auto", "float32", "float64"] = "auto"
    """Arithmetic of training; auto takes float64 up to 2**26 feature values, else float32."""
    keep_work: bool = False
    """Keep normalised features and graph in the run directory when training is done."""
    features: FeatureConfig = field(default_factory=FeatureConfig)
    graph: GraphConfig = field(default_factory=GraphConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    solver: SolverConfig = field(default_factory=SolverConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)

    @property
    def loop_bits(self) -> int:
        """Bits that Algorithm 1 learns: those asked for, or those that they are spread from."""
        return self.method.loop_bits if self.method.directions else self.bits
