"""What a command prints when it is done: short tables and retrieved examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from srch_dist.searching import Example
from srch_dist.storage.features import FeatureStore

_WIDTH = 26
_TITLES = 4


def print_evaluation(console: Console, result: Mapping[str, Any]) -> None:
    """A row a direction: MAP, precision and recall of the true partner."""
    title = f"{result['bits']} bits, {result['queries']} queries, database {result['database']}"
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    table.add_column("direction")
    labelled = "map" in result
    headings = ["MAP", "MAP@50", "P@10", "MAP (learned codes)"] if labelled else []
    headings += ["pair R@1", "pair R@10", "pair median rank"]
    for heading in headings:
        table.add_column(heading, justify="right")
    for direction, pair in result["pair_recall"].items():
        values: list[float | None] = []
        if labelled:
            learned = result.get("train_codes", {}).get("map", {}).get(direction)
            values += [
                result["map"][direction],
                result["map_at_50"][direction],
                result["precision_at"][direction]["10"],
                learned,
            ]
        cells = ["–" if value is None else f"{value:.3f}" for value in values]
        cells += [f"{pair['1']:.3f}", f"{pair['10']:.3f}", f"{pair['median_rank']:.1f}"]
        table.add_row(direction.replace("_to_", " → "), *cells)
    console.print(table)


def print_examples(
    console: Console,
    store: FeatureStore,
    examples: Sequence[Example],
    source: str,
    target: str,
) -> None:
    """Queries and what they found, by title or, where the store has them, by character."""
    names = _names(store, source), _names(store, target)
    console.print(f"{source} → {target}, nearest codes first:", markup=False)
    for example in examples:
        query = _shorten(_name(store, names[0], example.query))
        found = [_shorten(_name(store, names[1], int(row))) for row in example.found]
        if names[1] != "characters":
            found = found[:_TITLES]
        console.print(
            f"  {query}{' ' * (_WIDTH - cell_len(query))}  {'  '.join(found)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    console.print()


def _names(store: FeatureStore, modality: str) -> str | None:
    """The side array that shows a row of a modality best."""
    wanted = ("titles", "characters") if modality == "text" else ("characters", "titles")
    return next((name for name in wanted if name in store.side), None)


def _name(store: FeatureStore, array: str | None, row: int) -> str:
    if array is None:
        return f"row {row}"
    name = str(store.read(array, row, row + 1)[0])
    # A title may list several names; the first says enough here.
    return name.split(",")[0]


def _shorten(text: str) -> str:
    return text if cell_len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
