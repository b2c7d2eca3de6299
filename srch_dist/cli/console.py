"""Print results of a command on standard output: tables of scores, and example queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

# Width of a title in characters; and results per example query, for titles and for one-character
# titles.
_TITLE_WIDTH = 26
_TITLES, _CHARACTERS = 4, 8


def print_evaluation(console: Console, result: Mapping[str, Any]) -> None:
    """Print one table row per direction: pair recall, and with labels also MAP and precision.

    A pair is a query and its partner, the same row in the other modality.

    Parameters
    ----------
    result : the scores that `evaluate_model` returns.
    """
    queries = f"{result['queries']} queries"
    if unscored := result.get("queries_without_relevant"):
        queries += f" ({result['queries'] - unscored} scored for MAP)"
    title = (
        f"{result['bits']} bits, {queries}, database of {result['database']} rows; pairs are "
        f"ranked among all {result['database'] + result['queries']}"
    )
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
    for line in _remarks(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _remarks(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines below the table.

    They say how to get MAP if it is missing, and compare with float queries, with float vectors and
    with the baseline.
    """
    if "map" not in result:
        yield (
            "no labels: MAP needs an array 'labels' in the store, see docs/how-to/splits.md. "
            "Labels do not change the codes."
        )
    if asymmetric := result.get("asymmetric"):
        recalls = {d: pair["10"] for d, pair in asymmetric["pair_recall"].items()}
        yield f"float queries against the codes, pair R@10: {_by_direction(recalls)}"
    floats = result.get("float_pair_recall") or {}
    recalls = {direction: pair["10"] for direction, pair in floats.items()}
    # Vectors of equal width that are not aligned say nothing about codes.
    if any(recall >= result["pair_recall"][d]["10"] for d, recall in recalls.items()):
        yield f"cosine of the float vectors, pair R@10: {_by_direction(recalls)}"
        kept = _by_direction(result["neighbours_kept"]["symmetric"])
        yield f"share of the 10 nearest float vectors that the codes keep: {kept}"
    baseline = result.get("baseline") or {}
    if scores := baseline.get("map"):
        named = _by_direction(scores)
        yield f"for comparison, MAP of {baseline['method']}, {baseline['bits']} bits: {named}"


def _by_direction(scores: Mapping[str, float | None]) -> str:
    return ", ".join(
        f"{direction.replace('_to_', ' → ')} {'–' if value is None else f'{value:.3f}'}"
        for direction, value in scores.items()
    )


def print_examples(console: Console, direction: str, examples: Sequence[Mapping[str, Any]]) -> None:
    """Print the queries and retrieved rows that `gather_examples` returns for a direction."""
    console.print(f"{direction.replace('_to_', ' → ')}, nearest codes first:", markup=False)
    for example in examples:
        query = _shorten(example["query"]["text"])
        results = example["found"]
        shown = results[: _CHARACTERS if results[0].get("glyph") else _TITLES]
        console.print(
            f"  {query}{' ' * (_TITLE_WIDTH - cell_len(query))}  "
            + "  ".join(_shorten(item["text"]) for item in shown),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    console.print()


def _shorten(text: str) -> str:
    return text if cell_len(text) <= _TITLE_WIDTH else text[: _TITLE_WIDTH - 1] + "…"
