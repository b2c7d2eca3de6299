"""Recognise label arrays and the parts of a train/test split by the names of the arrays."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

# Store name of each side array with a known meaning, by the lower-case names that sources use.
SIDE_NAMES = {
    **dict.fromkeys(("labels", "label"), "labels"),
    "split": "split",
    **dict.fromkeys(("ids", "id", "key", "keys"), "ids"),
    **dict.fromkeys(("titles", "title", "caption", "captions"), "titles"),
}
# Store names of the side arrays with a known meaning.
RESERVED = tuple(dict.fromkeys(SIDE_NAMES.values()))
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PART_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "tr"), "train"),
    **dict.fromkeys(("database", "retrieval", "gallery", "db"), "database"),
    **dict.fromkeys(("test", "testing", "tst", "te", "query", "queries", "qry"), "query"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
}
# Part names without a separator: trainimg, imgtest, Xtr.
_GLUED = re.compile(
    r"^(?P<part>train|test|query|database|retrieval)(?P<rest>.+)$"
    r"|^(?P<head>.+)(?P<tail>train|test|query|database|retrieval)$"
    r"|^(?P<one>[xytil])(?P<end>tr|te|trn|tst|db|val)$"
)
_LABEL_WORDS = frozenset(
    ("label", "labels", "lbl", "lbls", "onehot", "multihot", "groundtruth", "gnd")
)
# Label words only at the end of a name: target_class, but not class_token_embeddings.
_LAST_LABEL_WORDS = frozenset(
    ("target", "targets", "class", "classes", "category", "categories", "cate", "concept")
).union(("concepts", "annotation", "annotations", "gt", "lab", "labs"))
_STORE_NAMES = {
    **dict.fromkeys(("i", "x", "img", "imgs", "image", "images"), "image"),
    **dict.fromkeys(("t", "y", "txt", "text", "texts"), "text"),
}
# Words of lists of row numbers, beside the word of a part: param_tr, indexQuery, train_id.
_INDEX_WORDS = frozenset(
    ("param", "index", "indexes", "indices", "idx", "idxs", "ind", "inds", "id", "ids", "rows")
)
# Words that are ignored in a name, because they mean the whole array: LAll, FullText.
_ALL = ("all", "full")


def side_name(name: str) -> str | None:
    """Return the store name of a known side array, such as ``ids`` for ``key``; else None."""
    return SIDE_NAMES.get(name.lower())


def is_label_name(name: str) -> bool:
    """Whether an array of this name usually has labels: labels, img_label, LAll, L_tr, target."""
    words, _ = _split_words(name)
    words = [word for word in words if word not in _ALL]
    if not words:
        return False
    return (
        words == ["l"]
        or not _LABEL_WORDS.isdisjoint(words)
        or words[-1] in _LAST_LABEL_WORDS
        or any(
            pair in (("one", "hot"), ("multi", "hot"), ("ground", "truth"))
            for pair in itertools.pairwise(words)
        )
    )


def split_parts(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Group names of arrays that are parts of one array, such as I_tr and I_te.

    Returns
    -------
    A mapping such as ``{"i": {"train": "I_tr", "query": "I_te"}}``. Its keys are the names that the
    parts have in common. Its values map a part (train, database, query or validation) to the part's
    full name. Names that belong to no group are left out.
    """
    stems: dict[str, dict[str, str]] = {}
    for name in names:
        words, part = _split_words(name)
        stems.setdefault("_".join(words), {}).setdefault(part, name)
    found = {}
    for stem, parts in stems.items():
        if "query" in parts or "validation" in parts or {"train", "database"} <= set(parts):
            if "" in parts and "train" not in parts:  # image beside image_test
                parts["train"] = parts[""]
            named = {part: name for part, name in parts.items() if part}
            if len(named) > 1:
                found[stem] = named
    return found


def index_part(name: str) -> str | None:
    """Return the part of the split that a list of row numbers selects: ``query`` for indexQuery.

    Returns None if ``name`` is not a usual name of such a list.
    """
    words, part = _split_words(name)
    return part if part and words and set(words) <= _INDEX_WORDS else None


def store_name(name: str) -> str:
    """Suggest a store name for an array: image for XAll, text for T_tr, foo for foo_tr."""
    words, _ = _split_words(name)
    words = [word for word in words if word not in _ALL]
    return _STORE_NAMES.get("_".join(words), "_".join(words) or name)


def _split_words(name: str) -> tuple[list[str], str]:
    """Split a name into lower-case words and its part: ``I_te`` into (["i"], "query").

    The part is train, database, query or validation; "" if the name has none.
    """
    words, part = [], ""
    for word in (found.lower() for found in _WORD.findall(name)):
        glued = _GLUED.match(word)
        if word in _PART_WORDS:
            part = part or _PART_WORDS[word]
        elif glued and not part and word not in _STORE_NAMES:
            groups = {key: value for key, value in glued.groupdict().items() if value}
            inside = groups.get("part") or groups.get("tail") or groups.get("end") or ""
            part = _PART_WORDS[inside]
            words.append(groups.get("rest") or groups.get("head") or groups.get("one") or "")
        else:
            words.append(word)
    return words, part
