"""Find the known name nearest to a wrong name of a command, an option, a value or a YAML key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# What the options are called elsewhere.
_SYNONYMS = {
    "neighbors": "graph.k",
    "neighbours": "graph.k",
    "n_neighbors": "graph.k",
    "knn": "graph.k",
    "k": "graph.k",
    "lambda": "method.lam",
    "epochs": "method.iterations",
    "max_iter": "method.iterations",
    "random_state": "seed",
    "code_length": "bits",
    "n_bits": "bits",
    "nbits": "bits",
    "n_jobs": "workers",
    "memory": "memory_limit",
    "output": "out",
    "store": "data",
    "input": "data",
    "database": "codes",
    "run": "model",
}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to the wrong name ``name``; None if none is similar.

    Leading dashes, case and the difference between ``-`` and ``_`` are ignored. A name without its
    section also matches: ``beta`` for ``method.beta``.
    """
    names = {one.lstrip("-").replace("-", "_").lower(): one for one in known}
    wanted = name.lstrip("-").replace("-", "_").lower()
    last = wanted.rpartition(".")[2]
    for word in (wanted, last):
        if (synonym := _SYNONYMS.get(word)) in names:
            return names[str(synonym)]
    if found := difflib.get_close_matches(wanted, names, n=1):
        return names[found[0]]
    same = [one for one in names if one.rpartition(".")[2] == last]
    if same:
        return names[same[0]]
    prefixed = [one for one in names if len(wanted) > 2 and one.startswith(wanted)]
    return names[prefixed[0]] if prefixed else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the clause "; did you mean NAME?" to append to a message; "" if no name is similar."""
    near = nearest(name, known)
    return "" if near is None else f"; did you mean {near}?"
