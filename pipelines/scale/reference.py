"""The in-memory reference: the loop of `balanced` in one process, everything held at once.

One pynndescent index a modality, one CSR, SciPy's conjugate gradients column by column (with the
diagonal as preconditioner), NumPy for the rest, float32. It shares with the engine the first codes
and nothing else of the algorithm.
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

# Neighbours beyond k that the index keeps, which raises its recall.
_SPARE = 10
# Up to this many multiplications neighbours are searched exactly, as the engine does.
_EXACT_PRODUCTS = 5e11
_TILE = 1024
_EDGE_VALUES = 1 << 24
_TOLERANCE = 1 + 1e-5
# Residual that Z is allowed at most, however many bits change.
_LOOSEST = 0.1


@dataclass
class Report:
    """What was measured: seconds and peak bytes by stage, recall, CG iterations, MAP."""

    seconds: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)
    cg_iterations: list[int] = field(default_factory=list)
    iterations: int = 0
    map: dict[str, float] = field(default_factory=dict)

    def done(self, stage: str, started: float) -> None:
        """Note a stage that began at ``started``."""
        self.seconds[stage] = time.perf_counter() - started
        self.peaks[stage] = peak_bytes()


@dataclass(frozen=True)
class Edges:
    """Undirected edges (m,), each once: both ends, Σ C_g, and how many graphs hold it."""

    left: Array
    right: Array
    weights: Array
    multiplicity: Array


def run_reference(store: FeatureStore, config: TrainConfig, jobs: int) -> Report:
    """Train and score on the rows of ``store``; ``jobs`` threads of pynndescent."""
    report = Report()
    split = store.read("split")
    rows = np.flatnonzero(split == 0)
    started = time.perf_counter()
    raw = {g: store.read_selected(g, rows).astype(np.float32) for g in store.modalities}
    means = {g: x.mean(axis=0, dtype=np.float64) for g, x in raw.items()}
    features = {g: unit_rows(raw.pop(g), means[g]) for g in means}
    report.done("features", started)
    exact = all(float(len(rows)) ** 2 * x.shape[1] <= _EXACT_PRODUCTS for x in features.values())
    if not exact:
        started = time.perf_counter()
        _descend(np.random.default_rng(0).standard_normal((2000, 8), dtype=np.float32), 5, 0, jobs)
        report.done("compile", started)
    k = config.graph.k
    started = time.perf_counter()
    neighbours = {
        g: nearest(x, np.arange(len(x)), k) if exact else _descend(x, k, config.seed, jobs)
        for g, x in features.items()
    }
    report.done("neighbours", started)
    report.recall = {
        g: recall(x, neighbours[g], k, config.graph.recall_rows) for g, x in features.items()
    }
    started = time.perf_counter()
    edges = join_edges(list(neighbours.values()), len(rows))
    report.done("graph", started)
    started = time.perf_counter()
    codes = _learn(features, edges, random_codes(config.seed, rows, config.bits), config, report)
    report.done("training", started)
    encoders = {g: ridge(x, codes, config.method.ridge) for g, x in features.items()}
    report.map = _score(store, split, means, encoders, features)
    return report


def unit_rows(raw: Array, mean: Array) -> Array:
    """Rows (n, d) without the mean, of unit length, float32; worked on in place."""
    raw -= mean.astype(np.float32)
    length = np.sqrt(np.einsum("ij,ij->i", raw, raw))
    raw /= np.where(length > 0, length, 1.0)[:, None]
    return raw


def _descend(x: Array, k: int, seed: int, jobs: int) -> Array:
    """The k nearest rows (n, k) by NN-descent."""
    import pynndescent

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        index = pynndescent.NNDescent(
            x, n_neighbors=k + 1 + _SPARE, random_state=seed, n_jobs=jobs, compressed=True
        )
    found = index.neighbor_graph[0]
    # A row is its own nearest, unless a duplicate comes first.
    other = np.where(found == np.arange(len(x))[:, None], -1, found)
    order = np.argsort(other < 0, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(other, order, axis=1)


def nearest(x: Array, rows: Array, k: int) -> Array:
    """The k nearest rows (m, k) of the rows numbered ``rows`` (m,), by search of all."""
    result = np.empty((len(rows), k), dtype=np.int64)
    norms = np.einsum("ij,ij->i", x, x)
    step = max(1, _EDGE_VALUES // len(x))
    for start in range(0, len(rows), step):
        own = rows[start : start + step]
        distances = norms - 2 * (x[own] @ x.T)
        distances[np.arange(len(own)), own] = np.inf
        found = np.argpartition(distances, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(distances, found, axis=1), axis=1, kind="stable")
        result[start : start + step] = np.take_along_axis(found, order, axis=1)
    return result


def recall(x: Array, found: Array, k: int, sample: int) -> float:
    """Recall@k on sampled rows: a neighbour counts up to the exact k-th distance × (1 + 1e-5)."""
    rows = np.argsort(hash_rows(1, np.arange(len(x))))[:sample]
    exact = nearest(x, rows, k)

    def lengths(neighbours: Array) -> Array:
        difference = x[rows][:, None, :].astype(np.float64) - x[neighbours]
        return np.sqrt(np.einsum("ijk,ijk->ij", difference, difference))

    limit = lengths(exact).max(axis=1, keepdims=True) * _TOLERANCE
    return float(np.mean((lengths(found[rows]) <= limit) & (found[rows] >= 0)))


def join_edges(neighbours: list[Array], n: int) -> Edges:
    """The union graph of each modality, its weights C, and their sum over the modalities."""
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
    """Algorithm 1 with the balanced scales; the learned codes (n, l)."""
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
        tolerance = max(config.solver.tolerance, min(_LOOSEST, method.forcing * share))
        z, steps = solve(
            edges, weights, method.beta * len(features) / 2, signs, z, config, tolerance
        )
        report.cg_iterations.append(steps)
        lengths = edge_lengths(edges, z)
        alpha = method.lam * float(np.median(np.repeat(lengths, edges.multiplicity)))
        semantic = (alpha / (alpha + method.lam * lengths)).astype(np.float32)
        centred = z - z.mean(axis=0, dtype=np.float64).astype(np.float32)
        score = method.omega * centred / rms(centred) + score / rms(score)
        after = np.where(score >= 0, np.int8(1), np.int8(-1))
        share = np.count_nonzero(after != codes) / (n * codes.shape[1])
        codes, report.iterations = after, iteration
        if share < method.threshold:
            break
    return codes


def solve(
    edges: Edges,
    weights: Array,
    beta: float,
    signs: Array,
    start: Array,
    config: TrainConfig,
    tolerance: float,
) -> tuple[Array, int]:
    """Z (n, l) of (βI + λH) Z = βB to a ``tolerance``, and the iterations of the slowest column."""
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
    """‖z_i - z_j‖² (m,)."""
    result = np.empty(len(edges.left), dtype=np.float32)
    step = max(1, _EDGE_VALUES // z.shape[1])
    for start in range(0, len(result), step):
        part = slice(start, start + step)
        difference = z[edges.left[part]] - z[edges.right[part]]
        result[part] = np.einsum("ij,ij->i", difference, difference)
    return result


def rms(values: Array) -> Array:
    """Root of the mean square of all entries."""
    flat = values.ravel()
    return np.sqrt(np.mean(np.square(flat), dtype=np.float64)).astype(np.float32)


def ridge(x: Array, codes: Array, penalty: float) -> Array:
    """Ridge regression of the codes on the features, (d, l)."""
    gram = (x.T @ x).astype(np.float64)
    gram += penalty * np.trace(gram) / len(gram) * np.eye(len(gram))
    found: Array = scipy.linalg.solve(gram, x.T @ codes.astype(np.float32), assume_a="pos")
    return found


def _score(
    store: FeatureStore,
    split: Array,
    means: Mapping[str, Array],
    encoders: Mapping[str, Array],
    features: Mapping[str, Array],
) -> dict[str, float]:
    queries, labels = np.flatnonzero(split == 1), store.read("labels")
    coded = {}
    for g, x in features.items():
        raw = store.read_selected(g, queries).astype(np.float32)
        encoder = encoders[g].astype(np.float32)
        coded[g] = (unit_rows(raw, means[g]) @ encoder, x @ encoder)
    return {
        f"{g}_to_{h}": mean_average_precision(
            coded[g][0], coded[h][1], labels[queries], labels[split == 0]
        )
        for g in coded
        for h in coded
        if g != h
    }
