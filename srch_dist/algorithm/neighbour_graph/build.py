"""The set step: search neighbours, make undirected edges (Eq. 1) and weights C (Eq. 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from dask.delayed import Delayed
from numpy.typing import NDArray

from srch_dist.algorithm.job import Job
from srch_dist.algorithm.neighbour_graph import exact, nn_descent
from srch_dist.algorithm.neighbour_graph.partitioned import SearchResult, search_partitioned
from srch_dist.algorithm.neighbour_graph.recall import recall_task, sample_task
from srch_dist.kernels.graph import adjacency as kernels
from srch_dist.kernels.permutations import inverse_permutation
from srch_dist.plan.run_plan import Plan
from srch_dist.runtime import tasks
from srch_dist.runtime.progress import ProgressStage
from srch_dist.runtime.resumable import Work, run_units, unit_tasks
from srch_dist.storage import arrays
from srch_dist.storage.run.directory import RunDirectory

# Restarts the workers that have imported the module named by its argument.
Restart = Callable[[str], None]
# Last bin of the degree histogram, in units of k; it counts all larger degrees too.
_DEGREES_SHOWN = 8
# Arrays of a partition's edges, written before the weights are known.
_EDGE_KINDS = ("indptr", "indices", "members")


@dataclass(frozen=True)
class ModalityReport:
    """Measures of the neighbour graph of one modality.

    Attributes
    ----------
    method : search method: exact, pynndescent or partitioned.
    recall : recall@k on sampled rows.
    clusters : number of clusters into which the rows are shuffled; 1 for other methods.
    leaves : number of leaves in which each row is compared; 1 for other methods.
    edges : number of distinct undirected edges.
    mean_degree : mean number of edges per row.
    isolated : number of rows without an edge.
    duplicates : number of rows with a neighbour at distance zero.
    mutual : share of the directed edges whose reverse is an edge too.
    degrees : (8 k + 1,) number of rows with degree 0, 1, …; the last bin counts 8 k and more.
    """

    method: str
    recall: float
    clusters: int
    leaves: int
    edges: int
    mean_degree: float
    isolated: int
    duplicates: int
    mutual: float
    degrees: Sequence[int]


@dataclass(frozen=True)
class GraphReport:
    """Measures by modality, and the number of connected components of the union of all graphs."""

    modalities: Mapping[str, ModalityReport]
    components: int


@dataclass(frozen=True)
class _Counts:
    """Counts of edges over some rows, and the connected components that these edges form.

    Attributes
    ----------
    degrees : (modalities,) sum of the degrees.
    histogram : (modalities, 8 k + 1) number of rows by degree; see `ModalityReport`.
    isolated, duplicates : (modalities,) numbers of rows, as in `ModalityReport`.
    mutual : (modalities,) number of directed edges whose reverse is an edge too.
    stars : (links, 2) the connected components as edges; see `component_stars`.
    """

    degrees: NDArray[np.int64]
    histogram: NDArray[np.int64]
    isolated: NDArray[np.int64]
    duplicates: NDArray[np.int64]
    mutual: NDArray[np.int64]
    stars: NDArray[np.int64]

    def __add__(self, other: _Counts) -> _Counts:
        both = np.concatenate([self.stars, other.stars])
        return _Counts(
            self.degrees + other.degrees,
            self.histogram + other.histogram,
            self.isolated + other.isolated,
            self.duplicates + other.duplicates,
            self.mutual + other.mutual,
            kernels.component_stars(both[:, 0], both[:, 1]),
        )


def set_graph(job: Job, restart: Restart | None = None) -> GraphReport:
    """Build the graph of every modality: neighbours, edges (Eq. 1) and weights C (Eq. 6).

    Parameters
    ----------
    restart : function that restarts workers after the search, to free compiled code. With None,
        no worker is restarted.

    Raises
    ------
    TrainingError : the partitioned search finds fewer than k neighbours for a row.
    """
    searched = _search(job)
    release_compiler_memory(restart)
    with job.progress.stage("edges", 2 * len(job.plan.runs)) as stage:
        counts = _write_edges(job, stage)
    return _report(job, searched, counts)


def release_compiler_memory(restart: Restart | None) -> None:
    """Restart workers that imported pynndescent, to free about 430 MiB of compiled code.

    If ``restart`` is None, do nothing.
    """
    if restart is not None:
        restart(nn_descent.COMPILED)


def _search(job: Job) -> dict[str, SearchResult]:
    """Search the neighbours in each modality that has no committed result yet."""
    run, plan, k, stages = job.run, job.plan, job.config.graph.k, job.stages
    for g in job.modalities:
        for kind, dtype in (("rows", np.int64), ("distances", np.float64)):
            path = run.neighbours(g, kind)
            arrays.ensure_array(path, (plan.rows, k), plan.partition_rows, dtype)
    known = {g: stages.find(f"neighbours.{g}") for g in job.modalities}
    searched = {
        g: SearchResult(**record.values) for g, record in known.items() if record is not None
    }
    missing = [g for g in job.modalities if g not in searched]
    samples = tasks.persist([sample_task(job, g) for g in missing])
    sampled = dict(zip(missing, samples, strict=True))
    searched |= _search_whole(job, sampled)
    for g in missing:
        if g not in searched:
            searched[g] = search_partitioned(job, g, sampled[g])
        stages.commit(f"neighbours.{g}", asdict(searched[g]), {})
    return searched


def verify_graph(job: Job) -> list[Delayed]:
    """Create tasks that compare the edges that `set_graph` wrote with their checksums."""
    return [
        tasks.task(arrays.verify_rows, job.run.edges(p, kind), 0, None, int(found[p]))
        for kind, found in job.stages.read("edges").arrays.items()
        for p in job.plan.partitions
    ]


def _search_whole(job: Job, samples: Mapping[str, Delayed]) -> dict[str, SearchResult]:
    """In one task graph, search all modalities that use exact search or one index of all rows."""
    whole = [g for g in samples if job.plan.methods[g] != "partitioned"]
    searches = [
        task
        for g in whole
        for task in unit_tasks(job.stages, f"searched.{g}", _search_works(job, g))
    ]
    with job.progress.stage("neighbours", len(searches)) as stage:
        tasks.run_all(searches, stage)
    recalls = [recall_task(job.run, g, samples[g]) for g in whole]
    with job.progress.stage("recall", len(recalls)) as stage:
        measured = tasks.run_all(recalls, stage)
    return {g: SearchResult(recall, 1, 1) for g, recall in zip(whole, measured, strict=True)}


def _search_works(job: Job, modality: str) -> list[Work]:
    run, plan, config, k = job.run, job.plan, job.config, job.config.graph.k
    if plan.methods[modality] == "exact":
        return exact.search_works(run, modality, plan, k)
    return [(nn_descent.search_whole, run, modality, plan.starts, k, config.seed)]


def _write_edges(job: Job, stage: ProgressStage) -> _Counts:
    run, modalities, plan, config = job.run, job.modalities, job.plan, job.config
    stages = job.stages
    shape = (plan.rows, len(modalities))
    arrays.ensure_array(run.degrees, shape, plan.partition_rows, np.int32)
    mutual = config.graph.symmetry == "mutual"
    works: list[Work] = [
        (_write_run, run, modalities, plan, some, config.graph.k, mutual) for some in plan.runs
    ]
    # The name contains the split into runs: a resumed run with another memory limit may split
    # differently, and must not reuse these units of work.
    runs = f"{len(plan.runs)}.{plan.runs[0].stop}"
    found = unit_tasks(stages, f"connected.{runs}", works)
    total = tasks.task(_without_stars, tasks.add_up([tasks.task(_counts, part) for part in found]))
    counts: _Counts
    counts, *parts = tasks.run_all([total, *(tasks.task(_checksums, p) for p in found)])
    stage.advance(len(works))
    mean = tasks.as_task_input(counts.degrees / plan.rows)
    works = [(_write_weights, run, plan, some, mean) for some in plan.runs]
    weights = run_units(stages, f"weighted.{runs}", works, stage)
    checksums = {kind: np.concatenate([part[kind] for part in parts]) for kind in parts[0]}
    checksums["weights"] = np.concatenate([part["weights"] for part in weights])
    stages.commit("edges", {}, checksums)
    return counts


def _write_run(
    run: RunDirectory,
    modalities: tuple[str, ...],
    plan: Plan,
    partitions: range,
    k: int,
    mutual: bool,
) -> dict[str, NDArray[Any]]:
    """Write the edges of consecutive partitions.

    The task reads the neighbours of all rows, one partition at a time. It returns a dictionary with
    the fields of `_Counts`. The dictionary also has, under the name of each array of `Adjacency`,
    the checksums of that array's partitions.
    """
    start, stop = plan.starts[partitions.start], plan.starts[partitions.stop]
    order = arrays.read_rows(run.order)
    position = inverse_permutation(order)
    keys, shared, duplicates = [], [], []
    for g in modalities:
        outgoing, incoming = _directed_keys(run, g, plan, start, stop, position)
        keys.append(kernels.symmetrise(outgoing, incoming, mutual))
        shared.append(len(np.intersect1d(outgoing, incoming, assume_unique=True)))
        nearest = arrays.read_rows(run.neighbours(g, "distances"), start, stop)[:, 0]
        duplicates.append(int(np.count_nonzero(nearest == 0)))
    adjacency = kernels.build_adjacency(keys, stop - start, plan.rows)
    keys.clear()
    degrees = kernels.degrees(adjacency)
    checksums: dict[str, list[int]] = {kind: [] for kind in _EDGE_KINDS}
    for p in partitions:
        low, high = plan.span(p)
        part = adjacency.rows(low - start, high - start)
        for kind, found in checksums.items():
            found.append(arrays.create_chunk(run.edges(p, kind), getattr(part, kind)))
        arrays.write_rows(run.degrees, low, degrees[low - start : high - start])
    counts = _Counts(
        degrees.sum(axis=0, dtype=np.int64),
        _degree_histogram(degrees, _DEGREES_SHOWN * k),
        (degrees == 0).sum(axis=0, dtype=np.int64),
        np.array(duplicates),
        np.array(shared),
        kernels.connect_rows(adjacency, start),
    )
    return {**vars(counts), **{kind: np.array(found) for kind, found in checksums.items()}}


def _degree_histogram(degrees: NDArray[np.int32], last: int) -> NDArray[np.int64]:
    """Count ``degrees`` (n, modalities) in bins 0 … ``last``, as (modalities, last + 1)."""
    columns = np.minimum(degrees, last).T
    return np.stack([np.bincount(column, minlength=last + 1) for column in columns])


def _counts(found: Mapping[str, NDArray[Any]]) -> _Counts:
    return _Counts(**{field.name: found[field.name] for field in fields(_Counts)})


def _checksums(found: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {kind: found[kind] for kind in _EDGE_KINDS}


def _directed_keys(
    run: RunDirectory,
    modality: str,
    plan: Plan,
    start: int,
    stop: int,
    position: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the directed edges of the rows ``start`` … ``stop`` - 1, as two sorted arrays of keys.

    The first array has the edges that leave these rows, the second the edges that enter them. A
    key is (row - start) * n + neighbour. ``position`` (n,) is the position of each row number in
    training order.
    """
    n = plan.rows
    outgoing: list[NDArray[Any]] = []
    incoming: list[NDArray[Any]] = []
    for p in plan.partitions:
        low, high = plan.span(p)
        found = arrays.read_rows(run.neighbours(modality, "rows"), low, high)
        rows, numbers = kernels.directed_pairs(found, low)
        neighbours = position[numbers]
        if start <= low < stop:
            outgoing.append((rows - start) * n + neighbours)
        inside = (neighbours >= start) & (neighbours < stop)
        incoming.append((neighbours[inside] - start) * n + rows[inside])
    return np.sort(np.concatenate(outgoing)), np.sort(np.concatenate(incoming))


def _write_weights(
    run: RunDirectory, plan: Plan, partitions: range, mean: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """Write the weights C (Eq. 6) of consecutive partitions and return their checksums.

    The task reads the degrees of all rows once. ``mean`` (modalities,) is the mean degree.
    """
    degrees = arrays.read_rows(run.degrees)
    checksums = []
    for p in partitions:
        indptr, indices, members = (arrays.read_rows(run.edges(p, kind)) for kind in _EDGE_KINDS)
        adjacency = kernels.Adjacency(indptr, indices, members)
        own = degrees[slice(*plan.span(p))]
        weights = kernels.edge_weights(adjacency, own, degrees[indices], mean)
        checksums.append(arrays.create_chunk(run.edges(p, "weights"), weights))
    return {"weights": np.array(checksums)}


def _without_stars(counts: _Counts) -> _Counts:
    """Replace the stars (m, 2) by the array [[m, 0]]: the client needs only the number m."""
    number = np.array([[len(counts.stars), 0]])
    return replace(counts, stars=number)


def _report(job: Job, searched: Mapping[str, SearchResult], counts: _Counts) -> GraphReport:
    plan, k = job.plan, job.config.graph.k
    reports = {
        g: ModalityReport(
            method=plan.methods[g],
            recall=searched[g].recall,
            clusters=searched[g].clusters,
            leaves=searched[g].leaves,
            edges=int(counts.degrees[i]) // 2,
            mean_degree=float(counts.degrees[i]) / plan.rows,
            isolated=int(counts.isolated[i]),
            duplicates=int(counts.duplicates[i]),
            mutual=float(counts.mutual[i]) / (plan.rows * k),
            degrees=counts.histogram[i].tolist(),
        )
        for i, g in enumerate(job.modalities)
    }
    return GraphReport(reports, plan.rows - int(counts.stars[0, 0]))
