"""Dense reference of Algorithm 1, written from the paper's equations.

It shares no code with `srch_dist`. Samples are rows: features (n, d_g), W_g (l, d_g), Z and
B (n, l). Edges are pairs i < j. S and C_g are (edges of modality g,) in the order of `edges_of`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

# Codes may differ where a score is this close to zero: srch_dist stores Z and C as float32.
SCORE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Options:
    """Options of the method; with ``alpha`` None, α follows the median edge length."""

    k: int = 10
    symmetry: Literal["union", "mutual"] = "union"
    printed: bool = False
    alpha: float | None = None
    beta: float = 1.0
    lam: float = 10.0
    omega: float = 1.0
    rebase: bool = True
    drop: float = 1e-4
    iterations: int = 20
    stop: Literal["changed_bits", "objective"] = "changed_bits"
    threshold: float = 3e-3
    ridge: float = 0.1
    trust_mutual: bool = False
    center_z: bool = True
    rotation_rows: tuple[int, ...] = ()


BALANCED = Options()
PAPER = Options(printed=True, alpha=1e-4, beta=1e-3, drop=0.0, stop="objective", threshold=1e-5)


@dataclass
class Trained:
    """Result of a run: ``w`` is from one more W-step, ``scores`` are from the last B-step."""

    codes: np.ndarray
    scores: np.ndarray
    z: np.ndarray
    w: dict[str, np.ndarray]
    encoders: dict[str, np.ndarray]
    terms: list[dict[str, float]] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)
    alphas: list[float] = field(default_factory=list)


def paired_features(seed, n, dims, classes=5, noise=0.6):
    """Modalities that map the same noisy class centres through different random matrices."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(classes, 6))[rng.integers(0, classes, n)]
    latent = latent + noise * rng.normal(size=latent.shape)
    return {
        f"m{i}": latent @ rng.normal(size=(6, d)) + noise * rng.normal(size=(n, d))
        for i, d in enumerate(dims)
    }


def normalise(x, center=True, unit_norm=True):
    x = np.asarray(x, dtype=np.float64)
    if center:
        x = x - x.mean(axis=0)
    return x / np.linalg.norm(x, axis=1, keepdims=True) if unit_norm else x


def squared_distances(x):
    difference = x[:, None, :] - x[None, :, :]
    return np.einsum("ijk,ijk->ij", difference, difference)


def nearest(x, k):
    """The k nearest other rows (n, k) of each row; ties go to the lower row number."""
    distances = squared_distances(x)
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


def adjacency(neighbours, symmetry="union"):
    """Eq. 1, made undirected, as a boolean (n, n)."""
    n = len(neighbours)
    directed = np.zeros((n, n), dtype=bool)
    directed[np.arange(n)[:, None], neighbours] = True
    return directed & directed.T if symmetry == "mutual" else directed | directed.T


def mutual_trust(neighbours):
    """Modality weights, proportional to the cube of the share of mutual edges, capped at 0.65."""
    shares = []
    for rows in neighbours:
        directed = np.zeros((len(rows), len(rows)), dtype=bool)
        directed[np.arange(len(rows))[:, None], rows] = True
        shares.append(min((directed & directed.T).sum() / directed.sum(), 0.65))
    cubes = np.array(shares) ** 3
    return len(cubes) * cubes / cubes.sum()


def edges_of(graph):
    """Both ends (edges,), (edges,) of each undirected edge, once, in row order."""
    return np.nonzero(np.triu(graph, 1))


def edge_weights(graph):
    """C_g of Eq. 6 along `edges_of`."""
    degrees = graph.sum(axis=1)
    i, j = edges_of(graph)
    return degrees.mean() / np.sqrt(degrees[i] * degrees[j])


def laplacian(graph, values):
    """Σ values_(i,j) (e_i - e_j)(e_i - e_j)' over the edges (Eq. 13)."""
    i, j = edges_of(graph)
    incidence = np.zeros((len(i), len(graph)))
    incidence[np.arange(len(i)), i] = 1.0
    incidence[np.arange(len(i)), j] = -1.0
    return incidence.T @ (values[:, None] * incidence)


def edge_lengths(graph, z):
    i, j = edges_of(graph)
    return ((z[i] - z[j]) ** 2).sum(axis=1)


def lower_median(values):
    """Lower median of the values; if it is zero, the smallest positive value."""
    values = np.sort(values)
    middle = values[(len(values) - 1) // 2]
    if middle > 0:
        return middle
    positive = values[values > 0]
    return positive[0] if len(positive) else np.inf


def w_step(x, b):
    """Eq. 11: Q U' from the compact SVD of X B'."""
    u, _, qt = np.linalg.svd(x.T @ b, full_matrices=False)
    return qt.T @ u.T


def without_weak_edges(h, least):
    """H without the edges whose weight is below ``least``."""
    weights = np.diag(np.diag(h)) - h
    kept = np.where(weights >= least, weights, 0.0)
    return np.diag(kept.sum(axis=1)) - kept


def z_step(h, b, beta, lam, drop=0.0):
    """Eq. 14 by a dense solve, with β as printed; rounded to float32, as srch_dist stores it."""
    if drop and lam:
        h = without_weak_edges(h, drop * beta / lam)
    z = np.linalg.solve(beta * np.eye(len(b)) + lam * h, beta * b)
    return z.astype(np.float32).astype(np.float64)


def s_step(graphs, z, options):
    """α and S of Eq. 15, along the edges of each modality."""
    lengths = {g: edge_lengths(graph, z) for g, graph in graphs.items()}
    if not options.rebase:
        return np.inf, {g: np.ones(len(d)) for g, d in lengths.items()}
    alpha = options.alpha
    if alpha is None:
        alpha = options.lam * lower_median(np.concatenate(list(lengths.values())))
    if np.isinf(alpha) or options.lam == 0:
        return alpha, {g: np.ones(len(d)) for g, d in lengths.items()}
    return alpha, {g: alpha / (alpha + options.lam * d) for g, d in lengths.items()}


def scores(x, w, z, options, trust=None):
    """The argument of the sign in Eq. 17, (n, l)."""
    trust = trust or dict.fromkeys(x, 1.0)
    if options.printed:
        return options.beta * len(x) / 2 * z + sum(2 * x[g] @ w[g].T for g in x)
    centred = z - z.mean(axis=0) if options.center_z else z
    projected = sum(trust[g] * x[g] @ w[g].T / rms(x[g] @ w[g].T) for g in x)
    total = options.omega * centred / rms(centred) + projected / rms(projected)
    if options.rotation_rows:
        sample = total[list(options.rotation_rows)]
        product = sample.T @ sign(sample)
        least = 1e-3 * np.trace(product) / len(product)
        u, _, vt = np.linalg.svd(product + least * np.eye(len(product)))
        total = total @ (u @ vt)
    return total


def rms(values):
    return np.sqrt(np.mean(values**2))


def sign(values):
    return np.where(values >= 0, 1, -1)


def objective(x, w, z, s, b, graphs, alpha, options, trust=None):
    """The terms of Eq. 9 as printed, except for the weights of the modalities' graphs."""
    trust = trust or dict.fromkeys(x, 1.0)
    c = {g: trust[g] * edge_weights(graph) for g, graph in graphs.items()}
    lengths = {g: edge_lengths(graph, z) for g, graph in graphs.items()}
    spread = sum(np.sum(c[g] * (s[g] - 1) ** 2) for g in x)
    return {
        "quantisation": sum(np.sum((x[g] @ w[g].T - b) ** 2) for g in x),
        "reconstruction": sum(np.sum((x[g] - b @ w[g]) ** 2) for g in x),
        "semantic": options.lam * sum(np.sum(c[g] * s[g] ** 2 * lengths[g]) for g in x),
        "sparsity": 0.0 if np.isinf(alpha) else alpha * spread,
        "embedding": options.beta * sum(0.5 * np.sum((z - b) ** 2) for _ in x),
    }


def ridge_encoder(x, b, ridge):
    gram = x.T @ x
    penalty = ridge * np.trace(gram) / len(gram)
    return (np.linalg.inv(gram + penalty * np.eye(len(gram))) @ x.T @ b).T


def anchor_map(x, rows):
    """[x, s (k - mean k)], k the Gaussian similarities to ``rows`` of x, at 3 times x's trace."""
    squared = squared_distances(x[rows])
    width = np.median(np.sort(squared, axis=1)[:, 10])
    difference = x[:, None, :] - x[rows][None, :, :]
    near = np.exp(-np.einsum("ijk,ijk->ij", difference, difference) / width)
    near = near - near.mean(axis=0)
    return np.hstack([x, near * np.sqrt(3 * np.sum(x**2) / np.sum(near**2))])


def encoded(x, b, encoder, ridge, rows):
    """Scores of the training rows by an encoder that is fitted to codes b."""
    if encoder == "projection":
        return x @ w_step(x, b).T
    mapped = anchor_map(x, rows) if encoder == "anchors" else x
    return mapped @ ridge_encoder(mapped, b, ridge).T


def class_part(scores_by_modality, b, trust):
    """Scores and codes ``b`` (n, l) in equal parts, centred, with rows of mean squared length 1."""
    told = sum(trust[g] * t / rms(t) for g, t in scores_by_modality.items())
    told, learned = told - told.mean(axis=0), b - b.mean(axis=0)
    total = told / np.linalg.norm(told) + learned / np.linalg.norm(learned)
    return total / np.linalg.norm(total) * np.sqrt(len(b))


def pair_maps(x, trust, count):
    """Maps (d_g, count) to the canonical directions of two modalities (ridge 1), times correlation.

    Scaled so that rows of all of them have the mean squared length of the largest correlation.
    """
    (g, left), (h, right) = x.items()
    roots = {}
    for name, rows in x.items():
        gram = rows.T @ rows
        values, vectors = np.linalg.eigh(gram + np.trace(gram) / len(gram) * np.eye(len(gram)))
        roots[name] = vectors / np.sqrt(values) @ vectors.T
    u, rho, vt = np.linalg.svd(roots[g] @ left.T @ right @ roots[h], full_matrices=False)
    maps = {g: trust[g] * roots[g] @ u * rho, h: trust[h] * roots[h] @ vt.T * rho}
    total = sum(x[name] @ a for name, a in maps.items())
    factor = rho[0] * np.sqrt(len(left)) / np.linalg.norm(total)
    return {name: factor * a[:, :count] for name, a in maps.items()}


def condensed(classes, pairs, pair, rows, count, start):
    """Scores (n, bits) whose signs are the final codes, in the order in which bits say most.

    ``classes`` are `class_part`, ``pairs`` (n, k) are weighed with ``pair``. A frame spreads the
    ``count`` leading directions over the bits; it starts as ``start`` (l + k, bits) and is learned
    on ``rows``.
    """
    total = np.hstack([(1 - pair) * classes, pair * (pairs - pairs.mean(axis=0))])
    basis = np.linalg.svd(total, full_matrices=False)[2][:count].T
    v, frame = total @ basis, polar(basis.T @ start)
    for _ in range(50):
        product = v[rows].T @ sign(v[rows] @ frame)
        frame = polar(product + 1e-3 * np.linalg.norm(product) / np.sqrt(count) * frame)
    return (v @ frame)[:, order_of(sign(v[rows] @ frame), v[rows])]


def order_of(b, v):
    """Greedy order of the columns of b (m, l): each next explains most of v, first of equals."""
    left, rest, order = b - b.mean(axis=0), v, []
    while len(order) < b.shape[1]:
        squares = np.sum(left**2, axis=0)
        if (squares <= 1e-10 * len(b)).all():
            break
        usable = np.where(squares > 1e-10 * len(b), squares, np.inf)
        gains = np.sum((left.T @ rest) ** 2, axis=1) / usable
        best = int(np.argmax(gains >= (1 - 1e-9) * gains.max()))
        order.append(best)
        q = left[:, best] / np.linalg.norm(left[:, best])
        left, rest = left - np.outer(q, q @ left), rest - np.outer(q, q @ rest)
        left[:, best] = 0.0
    return [*order, *(j for j in range(b.shape[1]) if j not in order)]


def polar(matrix):
    u, _, vt = np.linalg.svd(matrix, full_matrices=False)
    return u @ vt


def full_laplacian(graphs, s, trust=None):
    """H = Σ_g H_g with edge weights C_g S², times the modality weights."""
    trust = trust or dict.fromkeys(graphs, 1.0)
    return sum(
        laplacian(graph, trust[g] * edge_weights(graph) * s[g] ** 2) for g, graph in graphs.items()
    )


def unit_weights(graphs):
    """S = 1 for every edge."""
    return {g: np.ones(len(edges_of(graph)[0])) for g, graph in graphs.items()}


def train(features, b, options):
    """Algorithm 1 from raw features by modality and the first codes ``b`` (n, l)."""
    x = {g: normalise(values) for g, values in features.items()}
    found = {g: nearest(x[g], options.k) for g in x}
    graphs = {g: adjacency(rows, options.symmetry) for g, rows in found.items()}
    weights = mutual_trust(list(found.values())) if options.trust_mutual else np.ones(len(x))
    trust = dict(zip(x, weights, strict=True))
    b = np.asarray(b, dtype=np.float64)
    s = unit_weights(graphs)
    beta = options.beta * len(x) / 2
    result = Trained(b, b, b, {}, {})
    before = np.inf
    for _ in range(options.iterations):
        w = {g: w_step(x[g], b) for g in x}
        h = full_laplacian(graphs, s, trust)
        z = z_step(h, b, beta, options.lam, options.drop)
        alpha, s = s_step(graphs, z, options)
        result.scores = scores(x, w, z, options, trust)
        changed = np.mean(sign(result.scores) != b)
        b = sign(result.scores).astype(np.float64)
        result.z = z
        result.alphas.append(alpha)
        result.changed.append(changed)
        result.terms.append(objective(x, w, z, s, b, graphs, alpha, options, trust))
        total = sum(result.terms[-1].values())
        if options.stop == "changed_bits" and changed < options.threshold:
            break
        if options.stop == "objective" and abs(before - total) < options.threshold * abs(before):
            break
        before = total
    result.codes = b
    result.w = {g: w_step(x[g], b) for g in x}
    result.encoders = {g: ridge_encoder(x[g], b, options.ridge) for g in x}
    return result
