"""Product quantisation (PQ) of the canonical embedding: real-valued retrieval at equal bytes.

H. Jégou, M. Douze and C. Schmid, "Product quantization for nearest neighbor search", IEEE TPAMI
33(1), 2011; implementation: faiss ``IndexPQ``.

A random rotation is applied to the CCA embedding of both modalities (scaled by the correlations,
unit length), so that the strong directions are spread over all sub-quantisers. A row has bits/8
bytes with 256 centroids each, trained on the stacked training rows. Squared distances are
asymmetric (only the database is coded) or symmetric (queries are coded, too).

The rotation, a frame, pads the width to a multiple of the number of bytes, even beyond d_g. faiss
refuses fewer than 256 stacked training rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import faiss
import numpy as np
import numpy.typing as npt

from .cca import CosineModel, canonical_directions
from .linear_algebra import random_frame
from .protocol import Features, FloatArray


@dataclass(frozen=True)
class PqModel:
    """Embedding and trained quantiser.

    Parameters
    ----------
    embedding : CosineModel
        Produces unit-length rows of the quantiser's width.
    quantiser : faiss.ProductQuantizer
    symmetric : bool
        Code the queries, too.
    """

    embedding: CosineModel
    quantiser: faiss.ProductQuantizer
    symmetric: bool

    def encode_bytes(self, modality: str, X: FloatArray) -> npt.NDArray[np.uint8]:
        """Byte codes (m, bits/8) of the rows of ``X`` (m, d_g)."""
        rows = self.embedding.embed(modality, X).astype(np.float32)
        return np.asarray(self.quantiser.compute_codes(rows), dtype=np.uint8)

    def distances(
        self, query_modality: str, Q: FloatArray, database_modality: str, X: FloatArray
    ) -> FloatArray:
        """Squared distances (q, m) to the coded rows of ``X``; equal codes have equal distances."""
        queries = self.embedding.embed(query_modality, Q)
        if self.symmetric:
            # faiss replaces decode at import; its stubs have the original signature.
            quantiser: Any = self.quantiser
            queries = quantiser.decode(self.encode_bytes(query_modality, Q))
        codes = self.encode_bytes(database_modality, X)
        width = queries.shape[1] // codes.shape[1]
        centroids = faiss.vector_to_array(self.quantiser.centroids)
        total = np.zeros((queries.shape[0], codes.shape[0]))
        for m, table in enumerate(centroids.reshape(codes.shape[1], -1, width)):
            part = queries[:, None, m * width : (m + 1) * width]
            total += np.sum((part - table) ** 2, axis=2)[:, codes[:, m]]
        return total


@dataclass(frozen=True)
class CcaProductQuantiser:
    """PQ on CCA.

    Parameters
    ----------
    width : int
        Number of canonical directions, at most d_g.
    symmetric : bool
        Code the queries, too.
    ridge : float
        Added to the covariances, as a share of their mean eigenvalue.
    """

    width: int = 32
    symmetric: bool = False
    ridge: float = 0.1
    name: ClassVar[str] = "CCA + PQ, equal bytes"
    supervised: ClassVar[bool] = False

    def fit(
        self, features: Features, bits: int, seed: int, labels: FloatArray | None = None
    ) -> PqModel:
        """See `Method`.

        Raises
        ------
        ValueError
            If ``bits`` is not a positive multiple of 8.
        """
        directions = canonical_directions(features, self.width, self.ridge).scaled()
        return train_quantiser(features, directions, bits, seed, self.symmetric)


def train_quantiser(
    features: Features,
    directions: Mapping[str, FloatArray],
    bits: int,
    seed: int,
    symmetric: bool,
) -> PqModel:
    """Rotate the projections X W_g of both modalities at random, and train one quantiser on them.

    Parameters
    ----------
    directions : mapping of modality name to array (d_g, r)
    symmetric : bool
        Code the queries, too.

    Raises
    ------
    ValueError
        If ``bits`` is not a positive multiple of 8.
    """
    if bits < 8 or bits % 8:
        raise ValueError(
            f"product quantisation needs whole bytes, got {bits} bits. Pass a multiple of 8."
        )
    r = next(iter(directions.values())).shape[1]
    subspaces = bits // 8
    padded = -(-r // subspaces) * subspaces
    rotation = random_frame(r, padded, np.random.default_rng(seed))
    embedding = CosineModel({g: W @ rotation for g, W in directions.items()})
    rows = np.vstack([embedding.embed(g, X) for g, X in features.items()])
    quantiser = faiss.ProductQuantizer(padded, subspaces, 8)
    quantiser.cp.seed = seed
    # Suppresses a warning: small data sets have fewer rows per centroid than faiss recommends.
    quantiser.cp.min_points_per_centroid = 1
    quantiser.train(rows.astype(np.float32))
    return PqModel(embedding, quantiser, symmetric)
