"""From the plan of a run to its model: features, graph, loop and final codes, each resumable."""

from __future__ import annotations

import dataclasses

import numpy as np

from srch_dist.algorithm.encoders.cca_baseline import fit_baseline
from srch_dist.algorithm.encoders.model_stage import finish_codes
from srch_dist.algorithm.features.sample import write_sample
from srch_dist.algorithm.features.statistics import Statistics
from srch_dist.algorithm.graph import GraphReport
from srch_dist.algorithm.loop import learn_codes
from srch_dist.config.options import TrainConfig
from srch_dist.encode.model import save_model
from srch_dist.evaluate.retrieval import has_queries
from srch_dist.kernels.graph.adjacency import modality_weights
from srch_dist.runtime import memory
from srch_dist.runtime.progress import Progress
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.run.directory import RunDirectory
from srch_dist.train.resume import resume_features, resume_graph
from srch_dist.train.rows import note_narrow
from srch_dist.train.setup import PreparedRun, make_plan


def set_up(
    begun: PreparedRun, progress: Progress, spent: memory.StageProfiler
) -> tuple[Statistics, GraphReport]:
    """Features and graph, as far as they are not there."""
    held, plan, config = begun.held, begun.plan, begun.config
    names = tuple(begun.store.modalities)
    restart = spent.restart_workers if begun.shared.cluster.restarts else None
    note_narrow(begun.store, config, progress)
    with spent.of("features"):
        statistics = resume_features(begun.store, held.run, plan, config, progress)
    held.lock.check()
    with spent.of("graph"):
        graph = resume_graph(held.run, names, plan, config, progress, restart)
    held.lock.check()
    _note_graph(graph, statistics, progress)
    return statistics, graph


def learn_run(begun: PreparedRun, progress: Progress) -> None:
    """Everything from features to a finished run directory, as far as it is not done."""
    held, store, config = begun.held, begun.store, begun.config
    run, modalities = held.run, tuple(store.modalities)
    spent = memory.StageProfiler()
    statistics, graph = set_up(begun, progress, spent)
    degree = sum(report.mean_degree for report in graph.modalities.values())
    plan = make_plan(begun.plan.rows, store, run, config, begun.shared, progress, degree)
    with spent.of("training"):
        stages = run.stages(config)
        if uses_sample(config) and stages.find("sample") is None:
            write_sample(run, modalities, config.method.anchors)
            stages.commit("sample", {}, {})
        weights = choose_weights(graph, config)
        learned = learn_codes(run, plan, statistics, weights, config, progress, held.lock.check)
    progress.note(f"stopped: {learned.reason}")
    with spent.of("model"):
        model, condensed = finish_codes(
            run, plan, learned, statistics, weights, store, config, progress
        )
        held.lock.check()
        save_model(run.model, model)
    if _wants_baseline(run, store, config):
        with spent.of("baseline"):
            baseline = fit_baseline(run, plan, statistics, config, progress)
            save_model(run.baseline, baseline)
    run.finish(
        {
            "reason": learned.reason,
            "iterations": learned.iteration,
            "store": dict(store.checksums),
            "rows": plan.rows,
            "modalities": dict(begun.store.modalities),
            "held_out": begun.held_out,
            "partitions": len(plan.partitions),
            "blocks": len(plan.blocks),
            "precision": plan.dtype.name,
            "weights": weights,
            "condensed": condensed,
            "zero_rows": dict(statistics.zero_rows),
            "graph": dataclasses.asdict(graph),
            "seconds": spent.seconds,
            "peak_memory": spent.peak(),
            "stage_peaks": spent.peaks,
        }
    )


def _wants_baseline(run: RunDirectory, store: FeatureStore, config: TrainConfig) -> bool:
    """Whether the baseline is going to be scored; CCA is of two modalities."""
    scored = config.evaluate and "labels" in store.side and has_queries(run, store)
    return config.baseline and scored and len(store.modalities) == 2


def uses_sample(config: TrainConfig) -> bool:
    """Whether a fixed sample of rows is needed: as anchors, or to learn a rotation or a frame."""
    method = config.method
    return method.rotate or method.encoder == "anchors" or method.directions > 0


def choose_weights(graph: GraphReport, config: TrainConfig) -> dict[str, float]:
    """How far each modality is trusted, by name; the weights sum to the number of modalities."""
    if config.method.weights == "equal":
        return dict.fromkeys(graph.modalities, 1.0)
    shares = np.array([report.mutual for report in graph.modalities.values()])
    return dict(zip(graph.modalities, modality_weights(shares).tolist(), strict=True))


def _note_graph(graph: GraphReport, statistics: Statistics, progress: Progress) -> None:
    for g, report in graph.modalities.items():
        method = report.method
        if method == "partitioned":
            method += f" into {report.clusters} clusters with overlap {report.overlap}"
        progress.note(
            f"graph {g}: {method}, recall {report.recall:.3f}, {report.edges} edges, "
            f"mean degree {report.mean_degree:.1f}, isolated {report.isolated}, rows with a "
            f"duplicate {report.duplicates}, zero rows {statistics.zero_rows[g]}"
        )
    progress.note(f"graph of all modalities: components {graph.components}")
