"""In-memory reference: the loop of the preset balanced in one process, without partitions.

It uses one pynndescent index per modality, one CSR matrix, SciPy's conjugate gradients column by
column with a Jacobi preconditioner, and NumPy for the rest, all in float32. Of srch_dist's
algorithm it shares the first codes only.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

from srch_dist.config.options import TrainConfig
from srch_dist.kernels.packed_codes import random_codes
from srch_dist.kernels.sampling import hash_rows
from srch_dist.runtime.memory import peak_bytes
from srch_dist.storage.feature_store import FeatureStore

from .scoring import mean_average_precision

Array = NDArray[Any]

# Extra neighbours in the index, beyond k; they raise its recall.
_EXTRA_NEIGHBOURS = 10
# Search exactly up to this many multiplications, as the engine does.
_EXACT_PRODUCTS = 5e11
_EDGE_VALUES = 1 << 24
_TOLERANCE = 1 + 1e-5
# Largest residual allowed for Z, whatever share of the bits changes.
_MAX_RESIDUAL = 0.1


@dataclass
class Report:
    """Measurements: seconds and peak bytes by stage, recall, CG iterations, MAP by direction."""

    seconds: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)
    cg_iterations: list[int] = field(default_factory=list)
    iterations: int = 0
    map: dict[str, float] = field(default_factory=dict)

    def record(self, stage: str, started: float) -> None:
        """Record seconds and peak memory of a stage that started at ``started``."""
        self.seconds[stage] = time.perf_counter() - started
        self.peaks[stage] = peak_bytes()


@dataclass(frozen=True)
class Edges:
    """Undirected edges (m,), once each: both ends, Σ_g C_g, and the number of graphs with it."""

    left: Array
    right: Array
    weights: Array
    multiplicity: Array


def run_reference(store: FeatureStore, config: TrainConfig, jobs: int) -> Report:
    """Train and score on a feature store.

    Parameters
    ----------
    store : FeatureStore
        With labels and a split; rows of split 0 train and are the database.
    config : TrainConfig
        Options of the loop, as for the engine.
    jobs : int
        Threads of pynndescent.
    """
    report = Report()
    split = store.read("split")
    rows = np.flatnonzero(split == 0)
    started = time.perf_counter()
    raw = {g: store.read_selected(g, rows).astype(np.float32) for g in store.modalities}
    means = {g: x.mean(axis=0, dtype=np.float64) for g, x in raw.items()}
    features = {g: unit_rows(raw.pop(g), means[g]) for g in means}
    report.record("features", started)
    exact = all(float(len(rows)) ** 2 * x.shape[1] <= _EXACT_PRODUCTS for x in features.values())
    if not exact:
        started = time.perf_counter()
        _nn_descent(
            np.random.default_rng(0).standard_normal((2000, 8), dtype=np.float32), 5, 0, jobs
        )
        report.record("compile", started)
    k = config.graph.k
    started = time.perf_counter()
    neighbours = {
        g: nearest(x, np.arange(len(x)), k) if exact else _nn_descent(x, k, config.seed, jobs)
        for g, x in features.items()
    }
    report.record("neighbours", started)
    report.recall = {
        g: recall(x, neighbours[g], k, config.graph.recall_rows) for g, x in features.items()
    }
    started = time.perf_counter()
    edges = join_edges(list(neighbours.values()), len(rows))
    report.record("graph", started)
    started = time.perf_counter()
    codes = _learn(features, edges, random_codes(config.seed, rows, config.bits), config, report)
    report.record("training", started)
    encoders = {g: ridge(x, codes, config.method.ridge) for g, x in features.items()}
    report.map = _score(store, split, means, encoders, features)
    return report


def unit_rows(raw: Array, mean: Array) -> Array:
    """Centre and normalise rows (n, d), float32, in place."""
    raw -= mean.astype(np.float32)
    length = np.sqrt(np.einsum("ij,ij->i", raw, raw))
    raw /= np.where(length > 0, length, 1.0)[:, None]
    return raw


def _nn_descent(x: Array, k: int, seed: int, jobs: int) -> Array:
    """The k nearest rows (n, k) by NN-descent; -1 where it found fewer."""
    import pynndescent

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        index = pynndescent.NNDescent(
            x,
            n_neighbors=k + 1 + _EXTRA_NEIGHBOURS,
            random_state=seed,
            n_jobs=jobs,
            compressed=True,
        )
    neighbours = index.neighbor_graph[0]
    # A row is its own nearest neighbour, unless a duplicate precedes it.
    others = np.where(neighbours == np.arange(len(x))[:, None], -1, neighbours)
    order = np.argsort(others < 0, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(others, order, axis=1)


def nearest(x: Array, rows: Array, k: int) -> Array:
    """The k nearest rows (m, k) of the rows numbered ``rows`` (m,), by exact search."""
    result = np.empty((len(rows), k), dtype=np.int64)
    norms = np.einsum("ij,ij->i", x, x)
    step = max(1, _EDGE_VALUES // len(x))
    for start in range(0, len(rows), step):
        tile = rows[start : start + step]
        distances = norms - 2 * (x[tile] @ x.T)
        distances[np.arange(len(tile)), tile] = np.inf
        found = np.argpartition(distances, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(distances, found, axis=1), axis=1, kind="stable")
        result[start : start + step] = np.take_along_axis(found, order, axis=1)
    return result


def recall(x: Array, found: Array, k: int, sample: int) -> float:
    """Recall@k on sampled rows; ties count: up to the exact k-th distance × (1 + 1e-5)."""
    rows = np.argsort(hash_rows(1, np.arange(len(x))))[:sample]
    exact = nearest(x, rows, k)

    def lengths(neighbours: Array) -> Array:
        difference = x[rows][:, None, :].astype(np.float64) - x[neighbours]
        return np.sqrt(np.einsum("ijk,ijk->ij", difference, difference))

    limit = lengths(exact).max(axis=1, keepdims=True) * _TOLERANCE
    return float(np.mean((lengths(found[rows]) <= limit) & (found[rows] >= 0)))


def join_edges(neighbours: list[Array], n: int) -> Edges:
    """Sum the union graphs of all modalities, each with its weights C_g (Eqs. 1, 6)."""
    total = scipy.sparse.csr_array((n, n), dtype=np.float32)
    count = scipy.sparse.csr_array((n, n), dtype=np.int8)
    for found in neighbours:
        left = np.repeat(np.arange(n), found.shape[1])
        right = found.ravel()
        left, right = left[right >= 0], right[right >= 0]
        ones = np.ones(2 * len(left), dtype=np.int8)
        both = (np.concatenate([left, right]), np.concatenate([right, left]))
        graph = scipy.sparse.coo_array((ones, both), shape=(n, n)).tocsr()
        graph.data[:] = 1
        degrees = np.diff(graph.indptr)
        owners = np.repeat(np.arange(n), degrees)
        products = np.sqrt(degrees[owners].astype(np.float64) * degrees[graph.indices])
        weights = (degrees.mean() / products).astype(np.float32)
        total = total + scipy.sparse.csr_array((weights, graph.indices, graph.indptr), (n, n))
        count = count + graph
    upper = scipy.sparse.triu(total, 1).tocoo()
    times = scipy.sparse.triu(count, 1).tocoo()
    return Edges(upper.coords[0], upper.coords[1], upper.data, times.data)


def _learn(
    features: Mapping[str, Array], edges: Edges, codes: Array, config: TrainConfig, report: Report
) -> Array:
    """Learn codes (n, l) by Algorithm 1 with the scaling of the preset balanced."""
    method, n = config.method, len(codes)
    z, semantic = np.zeros(codes.shape, dtype=np.float32), np.ones(len(edges.left), np.float32)
    share = 1.0
    for iteration in range(1, method.iterations + 1):
        signs = codes.astype(np.float32)
        score = np.zeros(codes.shape, dtype=np.float32)
        for x in features.values():
            left, _, right = np.linalg.svd((x.T @ signs).astype(np.float64), full_matrices=False)
            part = x @ (left @ right).astype(np.float32)
            score += part / rms(part)
        weights = edges.weights * semantic**2
        tolerance = max(config.solver.tolerance, min(_MAX_RESIDUAL, method.forcing * share))
        z, steps = solve(
            edges, weights, method.beta * len(features) / 2, signs, z, config, tolerance
        )
        report.cg_iterations.append(steps)
        lengths = edge_lengths(edges, z)
        alpha = method.lam * float(np.median(np.repeat(lengths, edges.multiplicity)))
        semantic = (alpha / (alpha + method.lam * lengths)).astype(np.float32)
        centred = z - z.mean(axis=0, dtype=np.float64).astype(np.float32)
        score = method.omega * centred / rms(centred) + score / rms(score)
        updated = np.where(score >= 0, np.int8(1), np.int8(-1))
        share = np.count_nonzero(updated != codes) / (n * codes.shape[1])
        codes, report.iterations = updated, iteration
        if share < method.threshold:
            break
    return codes


# Seven parameters: the terms of Eq. 14, its start and when to stop. There is one caller.
def solve(
    edges: Edges,
    weights: Array,
    beta: float,
    signs: Array,
    start: Array,
    config: TrainConfig,
    tolerance: float,
) -> tuple[Array, int]:
    """Solve (βI + λH) Z = βB (Eq. 14) for Z (n, l).

    Parameters
    ----------
    edges : Edges
    weights : array (m,)
        C S² of each edge.
    beta : float
    signs, start : array (n, l)
        B, and the initial Z.
    config : TrainConfig
        For λ and the maximum number of iterations.
    tolerance : float
        Relative residual.

    Returns
    -------
    tuple
        Z float32 (n, l), and the CG iterations of the slowest column.
    """
    n, lam = len(signs), np.float32(config.method.lam)
    half = scipy.sparse.coo_array((-lam * weights, (edges.left, edges.right)), shape=(n, n)).tocsr()
    matrix = half + half.T
    diagonal = (beta - matrix.sum(axis=1)).astype(np.float32)
    matrix = (matrix + scipy.sparse.diags_array(diagonal)).tocsr()
    inverse = LinearOperator((n, n), matvec=lambda v: v / diagonal, dtype=np.float32)
    z, slowest = np.empty(signs.shape, dtype=np.float32), 0
    for column in range(signs.shape[1]):
        steps = 0

        def count(_: Array) -> None:
            nonlocal steps
            steps += 1

        z[:, column], _ = cg(
            matrix,
            np.float32(beta) * signs[:, column],
            x0=start[:, column],
            rtol=tolerance,
            maxiter=config.solver.max_iterations,
            M=inverse,
            callback=count,
        )
        slowest = max(slowest, steps)
    return z, slowest


def edge_lengths(edges: Edges, z: Array) -> Array:
    """Squared edge lengths ‖z_i - z_j‖² (m,)."""
    result = np.empty(len(edges.left), dtype=np.float32)
    step = max(1, _EDGE_VALUES // z.shape[1])
    for start in range(0, len(result), step):
        part = slice(start, start + step)
        difference = z[edges.left[part]] - z[edges.right[part]]
        result[part] = np.einsum("ij,ij->i", difference, difference)
    return result


def rms(values: Array) -> Array:
    """Root mean square of all entries."""
    flat = values.ravel()
    return np.sqrt(np.mean(np.square(flat), dtype=np.float64)).astype(np.float32)


def ridge(x: Array, codes: Array, penalty: float) -> Array:
    """Ridge regression of the codes on the features, (d, l)."""
    gram = (x.T @ x).astype(np.float64)
    gram += penalty * np.trace(gram) / len(gram) * np.eye(len(gram))
    encoder: Array = scipy.linalg.solve(gram, x.T @ codes.astype(np.float32), assume_a="pos")
    return encoder


def _score(
    store: FeatureStore,
    split: Array,
    means: Mapping[str, Array],
    encoders: Mapping[str, Array],
    features: Mapping[str, Array],
) -> dict[str, float]:
    """MAP by direction, queries (split 1) against training rows (split 0)."""
    queries, labels = np.flatnonzero(split == 1), store.read("labels")
    scores = {}
    for g, x in features.items():
        raw = store.read_selected(g, queries).astype(np.float32)
        encoder = encoders[g].astype(np.float32)
        scores[g] = (unit_rows(raw, means[g]) @ encoder, x @ encoder)
    return {
        f"{g}_to_{h}": mean_average_precision(
            scores[g][0], scores[h][1], labels[queries], labels[split == 0]
        )
        for g in scores
        for h in scores
        if g != h
    }
