"""`python -m srch_dist.search`: the nearest codes of queries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from srch_dist.cli.command import output, parse, run_command
from srch_dist.cli.progress import on_console
from srch_dist.encode.model import load_model
from srch_dist.errors import ConfigError, InputError
from srch_dist.search.hamming import (
    SearchResult,
    rerank,
    search_codes,
    search_index,
    stated_recall,
)
from srch_dist.search.queries import Queries, QueryRequest, read_queries
from srch_dist.storage.code_store import CodeStore, open_codes
from srch_dist.storage.feature_store import FeatureStore, open_store
from srch_dist.storage.run.open import open_run

# Candidates that are ranked again for each row asked for.
_CANDIDATES = 10


@dataclass(frozen=True)
class _Options:
    """Find the nearest codes in Hamming distance, exactly, in one pass over codes on disk."""

    model: str
    """Run directory of a finished run."""
    codes: str
    """Codes to search in, made by srch_dist.encode or exported to .npy."""
    query: str | None = None
    """Rows of the codes to take as queries, as 3,17."""
    query_file: str | None = None
    """File .npy with features (rows, dimensions) to take as queries, of the modality given."""
    text: str | None = None
    """Text to search for: for the shipped emoji set, with the extra text installed."""
    modality: str | None = None
    """What the features of a query file are of; rows asked for are then taken by these features in
    the store, and not by their codes."""
    data: str | None = None
    """Feature store that was encoded: its titles are shown, and rows may be of another modality."""
    top: int = 10
    """Rows to find for each query."""
    rerank: bool = False
    """Rank ten times as many candidates again by the queries' real-valued bits."""
    index: str | None = None
    """Index made by srch_dist.export to search in, in place of all the codes."""
    probes: int | None = None
    """Lists of an inverted index that are looked at; one in 32 when absent."""
    json: bool = False
    """Print JSON instead of tables."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Search with options from the command line."""
    run_command(lambda: _search(arguments))


def _search(arguments: Sequence[str] | None) -> None:
    options = parse(_Options, "search", arguments)
    model = load_model(open_run(options.model).path)
    codes = open_codes(options.codes)
    if codes.bits != model.bits:
        raise InputError(
            f"{codes.path} holds codes of {codes.bits} bits, the model makes {model.bits}"
        )
    store = None if options.data is None else open_store(options.data)
    if store is not None and store.rows != codes.rows:
        raise InputError(
            f"{store.path} has {store.rows} rows, {codes.path} {codes.rows}; give the store that "
            "was encoded"
        )
    if options.probes is not None and (options.index is None or options.probes < 1):
        raise ConfigError(f"probes is {options.probes}; it needs --index and is at least 1")
    request = QueryRequest(options.query, options.query_file, options.text, options.modality)
    queries = read_queries(request, model, codes, store)
    found = _find(options, codes, queries)
    if options.json:
        print(json.dumps(_record(queries, found), ensure_ascii=False))
    else:
        _print(queries, found, store)


def _find(options: _Options, codes: CodeStore, queries: Queries) -> SearchResult:
    progress = on_console()
    if options.rerank and queries.scores is None:
        raise ConfigError(
            "--rerank needs real-valued bits, which codes do not have; give features with "
            "--query-file, or --data and --modality with --query"
        )
    wanted = min(codes.rows, options.top * _CANDIDATES) if options.rerank else options.top
    if options.index is not None:
        found = search_index(options.index, queries.codes, wanted, options.probes)
        recall = stated_recall(options.index, options.probes)
        progress.note(f"{options.index}: {recall or 'exact, or of a recall that is not known'}")
        if found.rows.max() >= codes.rows:
            raise InputError(f"{options.index} holds more rows than {codes.path}")
    else:
        found = search_codes(codes, queries.codes, wanted, progress)
    if options.rerank and queries.scores is not None:
        return rerank(codes, queries.scores, found, options.top)
    return found


def _record(queries: Queries, found: SearchResult) -> list[dict[str, Any]]:
    records = []
    for place, name in enumerate(queries.names):
        results = []
        for column, row in enumerate(found.rows[place].tolist()):
            result = {"row": row, "distance": int(found.distances[place, column])}
            if found.scores is not None:
                result["score"] = float(found.scores[place, column])
            results.append(result)
        records.append({"query": name, "results": results})
    return records


def _print(queries: Queries, found: SearchResult, store: FeatureStore | None) -> None:
    beside = () if store is None else ("ids", "titles", "characters")
    shown = [name for name in beside if store is not None and name in store.side]
    console = output()
    for place, name in enumerate(queries.names):
        table = Table(title=escape(name), box=box.SIMPLE, title_justify="left")
        for heading in ("row", "distance", *(["score"] if found.scores is not None else [])):
            table.add_column(heading, justify="right")
        for heading in shown:
            table.add_column(heading)
        for column, row in enumerate(found.rows[place].tolist()):
            cells = [str(row), str(found.distances[place, column])]
            if found.scores is not None:
                cells.append(f"{found.scores[place, column]:.3f}")
            if store is not None:
                cells += [escape(str(store.read(each, row, row + 1)[0])) for each in shown]
            table.add_row(*cells)
        console.print(table)


if __name__ == "__main__":
    main()
