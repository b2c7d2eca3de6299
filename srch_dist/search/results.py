"""Show the results of a search: as a table, as JSON, or as JSON lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from srch_dist.cli.command import output
from srch_dist.config.nearest import did_you_mean
from srch_dist.errors import ConfigError
from srch_dist.kernels.types import Array
from srch_dist.search.collection import Part
from srch_dist.search.hamming import SearchResult
from srch_dist.search.queries import Queries
from srch_dist.storage.side_text import shown_text

# Side columns that a table shows unless others are named.
_SHOWN = ("ids", "titles", "characters")


def choose_shown(parts: Sequence[Part], show: str | None) -> list[str]:
    """Return the side columns to show: those that ``show`` names, or the usual ones.

    Raises
    ------
    ConfigError : there is no store, or no store has a column.
    """
    stores = [part.store for part in parts if part.store is not None]
    known = list(dict.fromkeys(name for store in stores for name in store.side))
    if show is None:
        return [name for name in _SHOWN if name in known]
    if not stores:
        raise ConfigError("--show needs --data, the feature store of the codes")
    names = show.split(",")
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--show: {stores[0].path} has no side column {name!r}; it has "
                f"{', '.join(known) or 'none'}{did_you_mean(name, known)}"
            )
    return names


def result_records(
    queries: Queries, found: SearchResult, parts: Sequence[Part], shown: Sequence[str]
) -> list[dict[str, Any]]:
    """Return one JSON object per query: ``query``, and ``results`` with the shown columns."""
    values = [_values(part, number, found, shown) for number, part in enumerate(parts)]
    records = []
    for place, name in enumerate(queries.names):
        results = []
        for row, distance, score, part in _results_of(found, place):
            result: dict[str, Any] = {"row": row, "distance": distance}
            if score is not None:
                result["score"] = score
            if len(parts) > 1:
                result["modality"] = parts[part].codes.modality
                result["codes"] = str(parts[part].codes.path)
            result |= {key: np.asarray(each[row]).tolist() for key, each in values[part].items()}
            results.append(result)
        records.append({"query": name, "results": results})
    return records


def print_results(
    queries: Queries, found: SearchResult, parts: Sequence[Part], shown: Sequence[str]
) -> None:
    """Print one table: of one query, or of all with a column that names the query."""
    several = len(queries.names) > 1
    title = None if several else queries.names[0]
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    if several:
        table.add_column("query")
    for heading in ("row", "distance", *(["score"] if found.scores is not None else [])):
        table.add_column(heading, justify="right")
    for heading in [*(["modality"] if len(parts) > 1 else []), *shown]:
        table.add_column(heading)
    values = [_values(part, number, found, shown) for number, part in enumerate(parts)]
    for place, name in enumerate(queries.names):
        for column, (row, distance, score, part) in enumerate(_results_of(found, place)):
            cells = [name if column == 0 else ""] if several else []
            cells += [str(row), str(distance)]
            if score is not None:
                cells.append(f"{score:.3f}")
            if len(parts) > 1:
                cells.append(parts[part].codes.modality or str(parts[part].codes.path))
            known = values[part]
            cells += [shown_text(known[key][row]) if key in known else "" for key in shown]
            table.add_row(*cells, end_section=several and column == found.rows.shape[1] - 1)
    output().print(table)


def _results_of(found: SearchResult, query: int) -> Iterator[tuple[int, int, float | None, int]]:
    """Yield row, distance, score (None without re-ranking) and part of each result of a query."""
    for column, row in enumerate(found.rows[query].tolist()):
        score = None if found.scores is None else float(found.scores[query, column])
        part = 0 if found.parts is None else int(found.parts[query, column])
        yield row, int(found.distances[query, column]), score, part


def _values(
    part: Part, number: int, found: SearchResult, shown: Sequence[str]
) -> dict[str, dict[int, Array]]:
    """Read the shown columns of all found rows of a part, each row once: values by row by name."""
    if part.store is None:
        return {}
    here = found.rows if found.parts is None else found.rows[found.parts == number]
    rows = np.unique(here)
    return {
        name: dict(zip(rows.tolist(), part.store.read_selected(name, rows), strict=True))
        for name in shown
        if name in part.store.side
    }
