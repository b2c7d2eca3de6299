"""Compare codes with the float vectors that they replace, ranked by cosine.

Modalities of one aligned model, such as CLIP, have vectors of equal width that can be compared
directly. For each direction between such modalities, this module measures how often the cosine of
the stored vectors finds a query's partner, and how many of the `NEAREST` rows nearest by cosine are
also among the `NEAREST` nearest codes. The database is read once, for a sample of the queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from srch_dist.evaluate.measures import (
    ASYMMETRIC,
    SYMMETRIC,
    Counts,
    EncodedRows,
    average_pairs,
    code_distances,
    rank_partners,
)
from srch_dist.evaluate.row_sets import RowSet, rows_of
from srch_dist.kernels import retrieval_metrics
from srch_dist.kernels.features import normalise
from srch_dist.kernels.graph.neighbours import Neighbours, merge_exact
from srch_dist.kernels.sized import Sized
from srch_dist.kernels.types import IntArray, Matrix
from srch_dist.storage.feature_store import FeatureStore

# Number of float neighbours of a query.
NEAREST = 10
# Maximum number of queries to compare: one block of queries, so that the database is read once.
FLOAT_QUERIES = 1024
# Database rows per tile: cosines (1024, 4096) float64 are 32 MiB.
_TILE = 4096
# Cosines that differ by less are tied. Rounding errors of float64 products are far smaller.
_TIE = 1e-9

Direction = tuple[str, str]


@dataclass(frozen=True)
class FloatQueries(Sized):
    """Sampled queries.

    Attributes
    ----------
    rows : (q,) row numbers.
    vectors : (q, d_g) unit vectors by modality.
    pairs : directions to measure.
    """

    rows: IntArray
    vectors: Mapping[str, Matrix]
    pairs: Sequence[Direction]


@dataclass(frozen=True)
class FloatRanks(Sized):
    """Ranks of q queries in one direction; ``+`` adds the ranks of disjoint database rows.

    Attributes
    ----------
    closer, tied : (q,) number of rows whose cosine is larger than the partner's, or equal to it.
    distances : (q, k) squared distances between unit vectors of the k rows nearest by cosine,
        ascending; inf if there are fewer rows. Equal distances are ordered by row number.
    rows : (q, k) row numbers of these rows; -1 if there are fewer.
    codes : (2, q, k) distances between the codes of these rows and the query, in the symmetric and
        in the asymmetric ranking.
    """

    closer: IntArray
    tied: IntArray
    distances: Matrix
    rows: IntArray
    codes: IntArray

    def __add__(self, other: FloatRanks) -> FloatRanks:
        distances = np.concatenate([self.distances, other.distances], axis=1)
        rows = np.concatenate([self.rows, other.rows], axis=1)
        codes = np.concatenate([self.codes, other.codes], axis=2)
        order = np.lexsort((rows, distances), axis=1)[:, :NEAREST]
        return FloatRanks(
            self.closer + other.closer,
            self.tied + other.tied,
            np.take_along_axis(distances, order, 1),
            np.take_along_axis(rows, order, 1),
            np.take_along_axis(codes, order[None], 2),
        )


class RanksByDirection(dict[Direction, FloatRanks]):
    """`FloatRanks` by (modality of the queries, modality of the database)."""

    def __add__(self, other: RanksByDirection) -> RanksByDirection:
        return RanksByDirection({pair: ranks + other[pair] for pair, ranks in self.items()})


def comparable(store: FeatureStore, names: Sequence[str]) -> list[Direction]:
    """List the directions between modalities of equal width, whose cosine is defined."""
    dims = store.modalities
    return [(g, h) for g, h in permutations(names, 2) if dims[g] == dims[h]]


def read_queries(store: FeatureStore, rows: IntArray, pairs: Sequence[Direction]) -> FloatQueries:
    """Read the unit vectors of the sampled queries."""
    vectors = {g: _unit_rows(store, g, rows) for g, _ in pairs}
    return FloatQueries(rows, vectors, pairs)


def rank_block(
    queries: FloatQueries,
    query_codes: EncodedRows,
    store: FeatureStore,
    block: RowSet,
    block_codes: EncodedRows,
    is_database: bool,
) -> RanksByDirection:
    """Compute the ranks of the sampled queries among the rows of a block.

    Parameters
    ----------
    queries, query_codes : the sampled queries, and their codes.
    block, block_codes : row numbers of the block, and their codes.
    is_database : whether the block's rows can be neighbours. Rows of the query set cannot; partners
        are ranked among both.
    """
    rows = rows_of(block)
    result = RanksByDirection()
    for g, h in queries.pairs:
        vectors, left = _unit_rows(store, h, rows), queries.vectors[g]
        partner = np.einsum("ij,ij->i", left, queries.vectors[h])[:, None]
        closer, tied = np.zeros((2, len(left)), dtype=np.int64)
        for start in range(0, len(rows), _TILE):
            ahead = left @ vectors[start : start + _TILE].T - partner
            closer += np.count_nonzero(ahead > _TIE, axis=1)
            tied += np.count_nonzero(np.abs(ahead) <= _TIE, axis=1)
        best = Neighbours.empty(len(left), NEAREST)
        if is_database:
            best = merge_exact(best, left, queries.rows, vectors, rows)
        codes = _neighbour_codes(query_codes, block_codes, (g, h), np.searchsorted(rows, best.rows))
        result[g, h] = FloatRanks(closer, tied, best.distances, best.rows, codes)
    return result


def measure_floats(ranks: RanksByDirection, counts: Counts) -> dict[str, Any]:
    """Compute the measures of the sampled queries.

    Parameters
    ----------
    ranks : ranks among all rows of the database and the queries.
    counts : numbers of database rows at each code distance from the sampled queries.

    Returns
    -------
    Plain values by direction: "float_pair_recall", and "neighbours_kept" by ranking.
    """
    kept: dict[str, dict[str, float]] = {SYMMETRIC: {}, ASYMMETRIC: {}}
    pair = {}
    for (g, h), found in ranks.items():
        direction = f"{g}_to_{h}"
        pair[direction] = rank_partners(found.closer, found.tied)
        for place, (ranking, shares) in enumerate(kept.items()):
            items = counts[g, h, ranking][0]
            share = retrieval_metrics.kept_share(
                items, found.codes[place], found.rows >= 0, NEAREST
            )
            shares[direction] = float(share.mean())
    return {"float_pair_recall": average_pairs([pair]), "neighbours_kept": kept}


def _neighbour_codes(
    queries: EncodedRows, block: EncodedRows, pair: Direction, places: IntArray
) -> IntArray:
    """Compute distances (2, q, k) from queries to the codes at their k ``places`` (q, k)."""
    codes = block.codes[pair[1]]
    places = np.minimum(places, len(codes) - 1)  # missing neighbours; their values are not used
    result = np.empty((2, *places.shape), dtype=np.int64)
    for index, ranking in enumerate((SYMMETRIC, ASYMMETRIC)):
        for query in range(len(places)):
            one = queries.row(query)
            result[index, query] = code_distances(one, codes[places[query]], (*pair, ranking))[0]
    return result


def _unit_rows(store: FeatureStore, modality: str, rows: IntArray) -> Matrix:
    """Read rows (m, d_g) and scale them to unit length, each alone; zero rows stay zero."""
    values = store.read_selected(modality, rows)
    unit, _ = normalise(values, np.zeros(values.shape[1]), False, True, np.dtype(np.float64))
    return unit
