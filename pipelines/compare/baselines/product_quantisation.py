"""Product quantisation of the canonical embedding: what real values reach at equal bytes.

H. Jégou, M. Douze and C. Schmid, "Product quantization for nearest neighbor search", IEEE TPAMI
33(1), 2011; implementation: faiss ``IndexPQ``.

The CCA embedding of both modalities (scaled by the correlations, unit length) is turned by a
random rotation, so that every sub-quantiser has its share of the strong directions, and coded with
bits/8 bytes a row, 256 centroids each, trained on the stacked training rows. Squared distances
are asymmetric (query as it is, database coded) or symmetric (both coded).

The width is rounded up to a multiple of the number of bytes by the rotation (a frame), also where
d_g is smaller than that; fewer than 256 stacked training rows are refused by faiss.
"""

from __future__ import annotations

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
        Gives unit-length rows of the quantiser's width.
    quantiser : faiss.ProductQuantizer
    symmetric : bool
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
            # faiss gives decode another signature at import than its stubs have.
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
        Canonical directions used, at most d_g.
    symmetric : bool
        Code the queries too.
    ridge : float
        Of the covariances, as a share of the mean eigenvalue.
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
        if bits < 8 or bits % 8:
            raise ValueError(f"product quantisation spends whole bytes, found {bits} bits")
        directions = canonical_directions(features, self.width, self.ridge).scaled()
        r = next(iter(directions.values())).shape[1]
        pieces = bits // 8
        padded = -(-r // pieces) * pieces
        turn = random_frame(r, padded, np.random.default_rng(seed))
        embedding = CosineModel({g: W @ turn for g, W in directions.items()})
        rows = np.vstack([embedding.embed(g, X) for g, X in features.items()])
        quantiser = faiss.ProductQuantizer(padded, pieces, 8)
        quantiser.cp.seed = seed
        # The development sets have fewer rows a centroid than faiss likes; it would only warn.
        quantiser.cp.min_points_per_centroid = 1
        quantiser.train(rows.astype(np.float32))
        return PqModel(embedding, quantiser, self.symmetric)
