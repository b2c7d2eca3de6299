"""Small paired arrays to ingest, and progress that records or interrupts an ingest."""

from __future__ import annotations

from io import StringIO

import numpy as np
from rich.console import Console

from srch_dist.ingest.pipeline import ingest_source

ROWS = 23


def make_pairs(rows: int = ROWS, **others) -> dict[str, np.ndarray]:
    """Two modalities; ``others`` are added, or taken out where None."""
    rng = np.random.default_rng(1)
    arrays = {
        "image": rng.normal(size=(rows, 6)).astype(np.float32),
        "text": rng.normal(size=(rows, 4)),
    }
    return {name: values for name, values in {**arrays, **others}.items() if values is not None}


class Interrupting:
    """Progress that ends the ingest after some blocks, and counts them."""

    def __init__(self, blocks: int):
        self.left, self.notes = blocks, []

    def stage(self, _name, _total):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_details):
        return None

    def note(self, message):
        self.notes.append(message)

    def show(self, _item):
        return None

    def advance(self, _steps=1):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


class Recording(Interrupting):
    """Progress that keeps what it is shown as text."""

    def show(self, item):
        page = Console(width=200, file=StringIO())
        page.print(item)
        self.notes += page.file.getvalue().splitlines()


def notes_of(tmp_path, arrays, saved=True, **options):
    """What an ingest says."""
    progress = Recording(0)
    if saved:
        np.savez(tmp_path / "source.npz", **arrays)
    ingest_source(
        tmp_path / "source.npz" if saved else arrays,
        tmp_path / "store.zarr",
        progress=progress,
        **options,
    )
    return progress.notes
