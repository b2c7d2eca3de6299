"""Projected memory and disk against what each stage of a real run allocates and writes."""

from __future__ import annotations

import tracemalloc
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from pipelines.scale.manifolds import Manifolds
from srch_dist.algorithm.b_step import b_step, code_rule
from srch_dist.algorithm.checkpoints import LoopState
from srch_dist.algorithm.encoders.model_stage import fit_final_model
from srch_dist.algorithm.features.normalise import prepare_features
from srch_dist.algorithm.features.reader import load_features
from srch_dist.algorithm.features.sample import write_sample
from srch_dist.algorithm.iteration import Iteration
from srch_dist.algorithm.job import Job
from srch_dist.algorithm.neighbour_graph import set_graph
from srch_dist.algorithm.s_step import s_step
from srch_dist.algorithm.solver.block_graph import load_graph
from srch_dist.algorithm.w_step import w_step
from srch_dist.algorithm.z_step import z_step
from srch_dist.config.loading import build_config
from srch_dist.ingest.pipeline import ingest_source
from srch_dist.kernels.code_basis import first_basis
from srch_dist.plan.feature_memory import b_step_bytes, feature_bytes
from srch_dist.plan.memory_model import MemoryModel
from srch_dist.plan.problem import ProblemSize
from srch_dist.plan.search_memory import neighbour_bytes
from srch_dist.runtime import resumable
from srch_dist.storage import arrays
from srch_dist.storage.run.open import create_run
from tests.helpers.plans import make_plan

pytestmark = pytest.mark.slow

ROWS, DIMS, BITS = 9_000, {"image": 320, "text": 256}, 64
# Of the default method.embedding_rank.
BASIS = first_basis(BITS, 32)
MIB = 1 << 20


class Peaks(dict):
    """Peak of allocated bytes by stage, above what Python held before."""

    @contextmanager
    def of(self, name):
        tracemalloc.reset_peak()
        yield
        self[name] = tracemalloc.get_traced_memory()[1]


def planned_and_measured(folder, **options):
    """Bytes of each stage as projected and as measured, on one worker."""
    rng = np.random.default_rng(3)
    data = {g: rng.standard_normal((ROWS, d), dtype=np.float32) for g, d in DIMS.items()}
    np.savez(folder / "data.npz", **data)
    del data
    store = ingest_source(folder / "data.npz", folder / "store.zarr")
    config = build_config({"bits": BITS, "precision": "float32", **options})
    run = create_run(folder / "run", config)
    plan = make_plan(ROWS, store.modalities, config, 1, 8 << 30)
    arrays.create_array(run.rows, (ROWS,), plan.partition_rows, np.int64)
    arrays.write_rows(run.rows, 0, np.arange(ROWS))
    job, alike = Job(run, plan, config, tuple(DIMS)), dict.fromkeys(DIMS, 1.0)
    peaks = Peaks()
    tracemalloc.start()
    try:
        with peaks.of("features"):
            statistics = prepare_features(job, store)
        with peaks.of("neighbours and graph"):
            set_graph(job)
        graph = load_graph(run, plan, np.ones(len(DIMS)))
        kept = load_features(job) if plan.cached else None
        with peaks.of("Z-step"):
            z = z_step(job, graph, Iteration(1, config.solver.tolerance, BASIS), None, None)
        with peaks.of("S-step"):
            s_step(job, graph, z.groups)
        rule = code_rule(job, statistics, alike, w_step(statistics.cross_covariance), z)
        with peaks.of("B-step"):
            update = b_step(job, 1, rule, kept)
        write_sample(job)
        with peaks.of("model"):
            learned = LoopState(1, update.sums.cross_covariance, BASIS, 0.0, 1.0, "measured")
            fit_final_model(job, store, learned, statistics, alike)
    finally:
        tracemalloc.stop()
    projected = {stage.name: stage.projected_bytes for stage in plan.stages}
    search, edges = projected.pop("neighbours"), projected.pop("graph")
    projected["neighbours and graph"] = max(search, edges)
    disk = sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())
    return plan, projected, peaks, disk


@pytest.fixture(scope="module", params=["kept features", "read features"])
def compared(request, tmp_path_factory):
    """Partitions that do not divide n; several per task if the features are read."""
    cache = "auto" if request.param == "kept features" else "off"
    folder = tmp_path_factory.mktemp("peaks")
    return planned_and_measured(folder, partition_rows=1_400, cache=cache)


def test_partitioned_search_stays_below_its_projected_bytes(tmp_path, monkeypatch):
    """On curved rows: their search reads more rows of other clusters than that of random rows."""
    peaks, run_unit = Peaks(), resumable._run_unit

    def watch(stages, name, number, function, *arguments):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            return run_unit(stages, name, number, function, *arguments)
        finally:
            peak = tracemalloc.get_traced_memory()[1] - before
            peaks[function.__name__] = max(peak, peaks.get(function.__name__, 0))

    monkeypatch.setattr(resumable, "_run_unit", watch)
    rows = Manifolds(DIMS).block(0, 6_000)
    np.savez(tmp_path / "data.npz", **{g: rows[g] for g in DIMS})
    store = ingest_source(tmp_path / "data.npz", tmp_path / "store.zarr")
    graph = {"method": "partitioned", "cluster_rows": 3_000}
    config = build_config({"precision": "float32", "partition_rows": 1_400, "graph": graph})
    run = create_run(tmp_path / "run", config)
    plan = make_plan(len(rows["image"]), store.modalities, config, 1, 8 << 30)
    arrays.create_array(run.rows, (plan.rows,), plan.partition_rows, np.int64)
    arrays.write_rows(run.rows, 0, np.arange(plan.rows))
    job = Job(run, plan, config, tuple(DIMS))
    tracemalloc.start()
    try:
        prepare_features(job, store)
        peaks.clear()
        set_graph(job)
    finally:
        tracemalloc.stop()
    projected = next(stage.projected_bytes for stage in plan.stages if stage.name == "neighbours")
    searching = [
        peak for name, peak in peaks.items() if name not in ("_write_run", "_write_weights")
    ]
    assert projected / 4 <= max(searching) <= projected, peaks


def test_partitions_do_not_divide_the_rows(compared):
    plan, *_ = compared
    assert plan.rows % plan.partition_rows != 0
    assert plan.cached or max(map(len, plan.passes)) > 1


@pytest.mark.parametrize(
    "stage", ["features", "neighbours and graph", "Z-step", "S-step", "B-step", "model"]
)
def test_every_stage_stays_below_its_projected_bytes_and_within_a_factor_of_them(compared, stage):
    _, projected, measured, _ = compared
    assert measured[stage] <= projected[stage]
    assert projected[stage] <= 2.5 * measured[stage]


def test_planned_disk_holds_the_run_and_little_more(compared):
    """Without the third checkpoint, and with fewer edges than the bound of the degree."""
    plan, _, _, disk = compared
    assert disk <= plan.disk_bytes
    checkpoints = plan.disk["checkpoints"]
    assert disk >= 0.8 * (plan.disk_bytes - checkpoints)


def test_disk_of_the_features_is_their_size():
    for rows, dims in ((1_000, {"a": 3, "b": 5}), (77, {"a": 1, "b": 1})):
        plan = make_plan(rows, dims, build_config({"precision": "float32"}), 1, 8 << 30)
        for g, d in dims.items():
            assert plan.disk[f"features {g}"] == 4 * rows * d
        assert plan.disk["checkpoints"] == 3 * rows * (4 * 32 + 8)


def test_memory_model_remembers_its_peak():
    memory = MemoryModel()
    memory.allocate(5)
    memory.free(memory.allocate(10))
    memory.transient(7)
    memory.allocate(1)
    assert (memory.current, memory.peak) == (6, 15)


def test_client_needs_a_few_numbers_a_row_and_matrices_of_the_dimensions():
    config = build_config({"bits": 64})

    def client(rows, dims):
        return make_plan(rows, dims, config, 2, 1 << 40).client_bytes

    few, many = client(10_000, {"a": 8, "b": 8}), client(4_000_000, {"a": 8, "b": 8})
    assert 8 * 3_990_000 <= many - few <= 64 * 3_990_000
    assert client(10_000, {"a": 2_000, "b": 2_000}) >= 8 * 4_000**2


def test_bytes_are_those_of_the_widest_modality_and_grow_with_the_partition():
    sizes = ProblemSize(
        rows=10_000,
        partition_rows=1_000,
        dims={"a": 100, "b": 10},
        itemsize=4,
        methods={"a": "exact", "b": "exact"},
        config=build_config({}),
        resident_rows=10_000,
        columns=64,
    )
    longer = replace(sizes, partition_rows=2_000)
    for formula in (feature_bytes, neighbour_bytes, b_step_bytes):
        assert formula(longer) > formula(sizes) > 1_000 * 110 * 4
