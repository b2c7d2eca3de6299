"""`python -m srch_dist.search`: find the nearest codes of queries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from srch_dist.cli.command import run_command
from srch_dist.cli.safe_text import dump_json
from srch_dist.encode.model import load_model
from srch_dist.encode.provenance import check_model, check_store
from srch_dist.errors import ConfigError, InputError, require_all
from srch_dist.runtime.progress import Progress
from srch_dist.search.collection import CANDIDATES, Part, search_parts
from srch_dist.search.filters import filter_rows
from srch_dist.search.hamming import PURPOSE, SearchResult, rerank, search_index, stated_recall
from srch_dist.search.queries import Queries, QueryRequest, read_queries
from srch_dist.search.results import choose_shown, print_results, result_records
from srch_dist.search.text import ENCODER, check_encodable
from srch_dist.storage.code_store import CodeStore, open_codes
from srch_dist.storage.feature_store import open_store
from srch_dist.storage.joined_stores import Columns, JoinedStores
from srch_dist.storage.run.open import open_run


@dataclass(frozen=True)
class _Options:
    """Find the nearest codes by Hamming distance, exactly, in one pass over codes on disk."""

    model: str
    """Run directory of a finished run, a path or s3:// URL."""
    codes: str
    """Codes to search in: an array from srch_dist.encode, or a .npy file from srch_dist.export. The
    .npy file is faster for few queries. Several, separated by commas, are searched as one: images
    and texts together."""
    query: str | None = None
    """Row numbers to use as queries, for example 3,17. With --modality and --data, the model
    encodes the features of these rows. Without them, the codes of these rows are the queries."""
    id: str | None = None
    """Ids of rows of --data to use as queries, for example a7,b3, instead of row numbers."""
    query_file: str | None = None
    """With --modality: file of query features (rows, dimensions), in a format that ingest reads."""
    array: str | None = None
    """Array or column of --query-file, if it has several that fit."""
    title: str | None = None
    """Title of a row of --data, to use that row as query instead of its number. Upper case is
    ignored. A title with commas also matches by the text before its first comma."""
    text: str | None = None
    """Text to use as query. Only for models of the shipped emoji pairs; needs the extra 'text'."""
    modality: str | None = None
    """Modality of the query features; needed with --query-file."""
    data: str | None = None
    """Feature store of the codes. The table shows its titles; --query and --title read its
    features. With several --codes: one store for all, or one for each. Codes with appended rows:
    the stores of all parts in order, separated by commas."""
    filter: str | None = None
    """Find only rows of --data for which an expression over its side columns is true, for example
    'price < 10 and kind in ("shoe", "boot")'. Needs the extra 'formats'."""
    show: str | None = None
    """Side columns of --data to show, for example url,caption; by default ids and titles."""
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
    """Print JSON instead of a table."""
    json_lines: bool = False
    """Print one line of JSON per query."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Search with options from the command line."""
    run_command("search", _Options, _search, arguments)


def _search(options: _Options, progress: Progress) -> None:
    request = QueryRequest(
        options.query,
        options.query_file,
        options.text,
        options.modality,
        options.title,
        options.id,
        options.array,
    )
    model = load_model(open_run(options.model).path)
    needed = {"faiss": "search"}
    if options.text is not None:
        check_encodable(model, options.modality or "text")
        needed[ENCODER] = "text"
    if options.filter is not None:
        needed["pyarrow"] = "formats"
    # All missing packages at once, before the codes are read and the text encoder loads.
    require_all(needed, PURPOSE)
    parts = _open_parts(options, progress)
    for part in parts:
        check_model(part.codes, model, options.model)
    if options.probes is not None and (options.index is None or options.probes < 1):
        raise ConfigError(
            f"--probes is {options.probes}. It must be at least 1, and needs --index."
        )
    shown = choose_shown(parts, options.show)
    queries = read_queries(request, model, parts[0].codes, parts[0].store)
    for text in queries.warnings:
        progress.warn(text)
    found = _find(options, _filtered(options, parts, progress), queries, progress)
    if options.json or options.json_lines:
        _print_json(options, result_records(queries, found, parts, shown if options.show else []))
        return
    print_results(queries, found, parts, shown)
    if all(part.store is None and not part.codes.learned for part in parts):
        progress.note("hint: add --data STORE, the feature store of the codes, to show titles")


def _open_parts(options: _Options, progress: Progress) -> list[Part]:
    """Open the codes and their stores, and check that their rows are the same."""
    codes = [open_codes(path) for path in options.codes.split(",")]
    paths = [] if options.data is None else options.data.split(",")
    if len(codes) > 1 and len(paths) not in (0, 1, len(codes)):
        raise ConfigError(
            f"--data names {len(paths)} stores for {len(codes)} --codes; give one for all, or one "
            "for each"
        )
    if len(codes) > 1 and options.index is not None:
        raise ConfigError("--index holds one --codes; search several codes without it")
    if options.filter is not None and not paths:
        raise ConfigError("--filter needs --data, the feature store with the columns")
    opened = [open_store(path) for path in paths]
    stores: list[Columns | None] = [*opened] or [None] * len(codes)
    if len(codes) == 1 and len(opened) > 1:
        stores = [JoinedStores(opened)]
    elif len(opened) == 1:
        stores = [*opened] * len(codes)
    for each, store in zip(codes, stores, strict=True):
        _check_rows(each, store, progress)
    return [Part(each, store) for each, store in zip(codes, stores, strict=True)]


def _filtered(options: _Options, parts: list[Part], progress: Progress) -> list[Part]:
    """Return the parts with the rows that --filter allows."""
    if options.filter is None:
        return parts
    masks = {}
    for part in parts:
        if part.store is not None and part.store.path not in masks:
            masks[part.store.path] = filter_rows(part.store, options.filter)
    allowed = [None if part.store is None else masks[part.store.path] for part in parts]
    count = sum(int(mask.sum()) for mask in allowed if mask is not None)
    progress.note(f"filter: {count} of {sum(part.codes.rows for part in parts)} rows may be found")
    return [replace(part, allowed=mask) for part, mask in zip(parts, allowed, strict=True)]


def _check_rows(codes: CodeStore, store: Columns | None, progress: Progress) -> None:
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
    options: _Options, parts: list[Part], queries: Queries, progress: Progress
) -> SearchResult:
    if options.rerank and queries.scores is None:
        raise ConfigError(
            "--rerank needs real-valued scores, and codes have none. Give query features with "
            "--query-file, or with --query, --data and --modality."
        )
    rows = sum(part.codes.rows for part in parts)
    if not 1 <= options.top <= rows:
        raise ConfigError(f"top is {options.top}, expected 1 to {rows}, the number of rows")
    scores = queries.scores if options.rerank else None
    start = time.perf_counter()
    if options.index is None:
        found = search_parts(parts, queries.codes, options.top, scores, progress)
        how = "exact"
    else:
        codes, allowed = parts[0].codes, parts[0].allowed
        wanted = min(codes.rows, options.top * CANDIDATES) if options.rerank else options.top
        found = search_index(options.index, queries.codes, wanted, options.probes, codes, allowed)
        if scores is not None:
            found = rerank(codes, scores, found, min(options.top, found.rows.shape[1]))
        recall = stated_recall(options.index, options.probes)
        how = f"{options.index}, {recall or 'exact, or recall not measured'}"
        progress.note(f"index: {how}")
    seconds = time.perf_counter() - start
    progress.note(f"search: queries={len(queries.names)} rows={rows} seconds={seconds:.3f} {how}")
    return found


def _print_json(options: _Options, records: list[dict[str, object]]) -> None:
    if not options.json_lines:
        print(dump_json(records))
        return
    for record in records:
        print(dump_json(record))


if __name__ == "__main__":
    main()
