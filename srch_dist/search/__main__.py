"""`python -m srch_dist.search`: find the nearest codes of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from srch_dist.cli.command import output, run_command
from srch_dist.cli.safe_text import dump_json
from srch_dist.encode.model import load_model
from srch_dist.encode.provenance import check_model, check_store
from srch_dist.errors import ConfigError, InputError, require_all
from srch_dist.runtime.progress import Progress
from srch_dist.search.hamming import (
    PURPOSE,
    SearchResult,
    rerank,
    search_codes,
    search_index,
    stated_recall,
)
from srch_dist.search.queries import Queries, QueryRequest, read_queries
from srch_dist.search.text import ENCODER, check_encodable
from srch_dist.storage.code_store import CodeStore, open_codes
from srch_dist.storage.feature_store import FeatureStore, open_store
from srch_dist.storage.run.open import open_run

# Number of candidates that --rerank ranks for each row of the result.
_CANDIDATES = 10
# Side arrays of the store that the table shows.
_SHOWN = ("ids", "titles", "characters")


@dataclass(frozen=True)
class _Options:
    """Find the nearest codes by Hamming distance, exactly, in one pass over codes on disk."""

    model: str
    """Run directory of a finished run, a path or s3:// URL."""
    codes: str
    """Codes to search in: an array from srch_dist.encode, or a .npy file from srch_dist.export. The
    .npy file is faster for few queries."""
    query: str | None = None
    """Row numbers to use as queries, for example 3,17. With --modality and --data, the model
    encodes the features of these rows. Without them, the codes of these rows are the queries."""
    query_file: str | None = None
    """File .npy of query features (rows, dimensions); needs --modality."""
    title: str | None = None
    """Title of a row of --data, to use that row as query instead of its number. Upper case is
    ignored. A title with commas also matches by the text before its first comma."""
    text: str | None = None
    """Text to use as query. Only for models of the shipped emoji pairs; needs the extra 'text'."""
    modality: str | None = None
    """Modality of the query features; needed with --query-file."""
    data: str | None = None
    """Feature store of the codes. The table shows its titles; --query and --title read its
    features."""
    top: int = 10
    """Rows to return per query."""
    rerank: bool = False
    """Find 10 × --top candidates and sort them by the real-valued scores of the query. Improves the
    order, takes longer. Rows with equal codes stay in row order. Needs query features, not
    codes."""
    index: str | None = None
    """faiss index made by srch_dist.export, to search instead of the codes. Useful from about
    10 M rows on."""
    probes: int | None = None
    """Number of lists of an inverted file to search per query; by default 1/32 of its lists. More
    lists raise the recall and the time."""
    json: bool = False
    """Print JSON instead of tables."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Search with options from the command line."""
    run_command("search", _Options, _search, arguments)


def _search(options: _Options, progress: Progress) -> None:
    request = QueryRequest(
        options.query, options.query_file, options.text, options.modality, options.title
    )
    model = load_model(open_run(options.model).path)
    text = {}
    if options.text is not None:
        check_encodable(model, options.modality or "text")
        text = {ENCODER: "text"}
    # All missing packages at once, before the codes are read and the text encoder loads.
    require_all({"faiss": "search", **text}, PURPOSE)
    codes = open_codes(options.codes)
    check_model(codes, model, options.model)
    store = None if options.data is None else open_store(options.data)
    _check_rows(codes, store, progress)
    if options.probes is not None and (options.index is None or options.probes < 1):
        raise ConfigError(
            f"--probes is {options.probes}. It must be at least 1, and needs --index."
        )
    queries = read_queries(request, model, codes, store)
    found = _find(options, codes, queries, progress)
    if options.json:
        print(dump_json(_record(queries, found)))
    else:
        _print(queries, found, store)
        if store is None and not codes.learned:
            progress.note("hint: add --data STORE, the feature store of the codes, to show titles")


def _check_rows(codes: CodeStore, store: FeatureStore | None, progress: Progress) -> None:
    """Refuse codes with other rows than the store. Without a store, warn if codes are learned."""
    learned = (
        f"{codes.path} holds the codes that a run learned for its {codes.rows} training rows: row "
        "i is the i-th training row, not row i of the feature store. To search a store, make its "
        "codes with: python -m srch_dist.encode"
    )
    if store is None:
        if codes.learned:
            progress.warn(learned)
        return
    if codes.learned and store.rows != codes.rows:
        raise InputError(f"{store.path} has {store.rows} rows. {learned}")
    check_store(codes, store)


def _find(
    options: _Options, codes: CodeStore, queries: Queries, progress: Progress
) -> SearchResult:
    if options.rerank and queries.scores is None:
        raise ConfigError(
            "--rerank needs real-valued scores, and codes have none. Give query features with "
            "--query-file, or with --query, --data and --modality."
        )
    wanted = min(codes.rows, options.top * _CANDIDATES) if options.rerank else options.top
    if options.index is not None:
        found = search_index(options.index, queries.codes, wanted, options.probes, codes)
        recall = stated_recall(options.index, options.probes)
        progress.note(f"index: {options.index}, {recall or 'exact, or recall not measured'}")
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
    shown = [name for name in _SHOWN if store is not None and name in store.side]
    console = output()
    for place, name in enumerate(queries.names):
        table = Table(title=name, box=box.SIMPLE, title_justify="left")
        for heading in ("row", "distance", *(["score"] if found.scores is not None else [])):
            table.add_column(heading, justify="right")
        for heading in shown:
            table.add_column(heading)
        for column, row in enumerate(found.rows[place].tolist()):
            cells = [str(row), str(found.distances[place, column])]
            if found.scores is not None:
                cells.append(f"{found.scores[place, column]:.3f}")
            if store is not None:
                cells += [store.show(each, row) for each in shown]
            table.add_row(*cells)
        console.print(table)


if __name__ == "__main__":
    main()
