"""Stages of a training run in order: features, graph, loop, final model, baseline.

Every stage is resumable: the results of a finished stage are read from disk, and an interrupted
stage resumes after its last committed unit.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from srch_dist.algorithm.checkpoints import LoopState
from srch_dist.algorithm.encoders.cca_baseline import fit_baseline
from srch_dist.algorithm.encoders.model_stage import fit_final_model
from srch_dist.algorithm.features.sample import write_sample
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.job import Job
from srch_dist.algorithm.loop import learn_codes
from srch_dist.algorithm.neighbour_graph import GraphReport
from srch_dist.config.options import MethodConfig
from srch_dist.encode.model import save_model
from srch_dist.evaluate.retrieval import has_queries
from srch_dist.kernels.graph.adjacency import modality_weights
from srch_dist.runtime.memory import StageProfiler
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.train.resume import resume_features, resume_graph
from srch_dist.train.rows import warn_narrow_modalities
from srch_dist.train.setup import PreparedRun, replan


def run_pipeline(prepared: PreparedRun) -> None:
    """Run every unfinished stage, then mark the run as finished.

    Raises
    ------
    SrchError : the data are bad, the cluster is lost, the solver does not converge, or the codes
        collapse to few independent bits.
    """
    store, profiler = prepared.store, StageProfiler()
    statistics, graph = build_graph(prepared, profiler)
    job = replan(prepared, sum(report.mean_degree for report in graph.modalities.values()))
    weights = choose_weights(graph, job.config.method)
    with profiler.of("training"):
        _write_sample_once(job)
        learned = learn_codes(job, statistics, weights)
    job.progress.note(f"stopped: {learned.reason}")
    with profiler.of("model"):
        model, final = fit_final_model(job, store, learned, statistics, weights)
        job.check_lock()
        save_model(job.run.model, model)
    if _wants_baseline(job, store):
        with profiler.of("baseline"):
            save_model(job.run.baseline, fit_baseline(job, statistics))
    job.run.finish(
        {
            **_summary(prepared, job, learned),
            "weights": weights,
            "condensed": final,
            "zero_rows": dict(statistics.zero_rows),
            "graph": dataclasses.asdict(graph),
            "seconds": profiler.seconds,
            "peak_memory": profiler.peak(),
            "stage_peaks": profiler.peaks,
        }
    )


def build_graph(prepared: PreparedRun, profiler: StageProfiler) -> tuple[Statistics, GraphReport]:
    """Run the stages before the loop: normalise the features, then build the neighbour graph."""
    job, store = prepared.job, prepared.store
    restart = profiler.restart_workers if prepared.shared.cluster.restarts else None
    warn_narrow_modalities(store, job.config, job.progress)
    with profiler.of("features"):
        statistics = resume_features(job, store)
    job.check_lock()
    with profiler.of("graph"):
        graph = resume_graph(job, restart)
    job.check_lock()
    _note_graph(job, graph, statistics)
    return statistics, graph


def uses_sample(method: MethodConfig) -> bool:
    """Whether the run needs a fixed sample of rows, for anchors or for learning a rotation."""
    return method.rotate or method.encoder == "anchors" or method.directions != 0


def choose_weights(graph: GraphReport, method: MethodConfig) -> dict[str, float]:
    """Compute the weight of each modality by name; weights sum to the number of modalities."""
    if method.weights == "equal":
        return dict.fromkeys(graph.modalities, 1.0)
    shares = np.array([report.mutual for report in graph.modalities.values()])
    return dict(zip(graph.modalities, modality_weights(shares).tolist(), strict=True))


def _write_sample_once(job: Job) -> None:
    if uses_sample(job.config.method) and job.stages.find("sample") is None:
        job.stages.commit("sample", {"checksums": write_sample(job)}, {})


def _wants_baseline(job: Job, store: FeatureStore) -> bool:
    """Whether to train the CCA-ITQ baseline: two modalities, with labels and queries to score."""
    scored = job.config.evaluate and "labels" in store.side and has_queries(job.run, store)
    return job.config.baseline and scored and len(job.modalities) == 2


def _summary(prepared: PreparedRun, job: Job, learned: LoopState) -> dict[str, Any]:
    """Collect the values about the loop, the data and the plan for ``run.json``."""
    return {
        "reason": learned.reason,
        "iterations": learned.iteration,
        "store": dict(prepared.store.checksums),
        "rows": job.plan.rows,
        "modalities": dict(prepared.store.modalities),
        "held_out": prepared.held_out,
        "partitions": len(job.plan.partitions),
        "blocks": len(job.plan.blocks),
        "precision": job.plan.dtype.name,
    }


def _note_graph(job: Job, graph: GraphReport, statistics: Statistics) -> None:
    for g, report in graph.modalities.items():
        method = report.method
        if method == "partitioned":
            method += f" into {report.clusters} clusters with {report.leaves} leaves per row"
        job.progress.note(
            f"graph {g}: {method}, recall {report.recall:.3f}, {report.edges} edges, "
            f"mean degree {report.mean_degree:.1f}, isolated {report.isolated}, rows with a "
            f"duplicate {report.duplicates}, zero rows {statistics.zero_rows[g]}"
        )
    job.progress.note(f"graph of all modalities: connected components {graph.components}")
