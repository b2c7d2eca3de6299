"""Add the rows that codes have gained to an exported index."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from srch_dist.errors import ConfigError, InputError, StorageError, require
from srch_dist.export.indexes import record_recall, save_faiss, save_usearch
from srch_dist.runtime.progress import Progress, silent
from srch_dist.search.hamming import open_index
from srch_dist.storage.atomic_files import replacing
from srch_dist.storage.code_store import CodeStore
from srch_dist.storage.locations import local_path
from srch_dist.storage.locks.output_lock import hold_output

FORMATS = ("faiss", "faiss-ivf", "usearch")
# Rows of the index that are compared with the codes.
_COMPARED = 100


def append_index(
    codes: CodeStore, out: str | Path, form: str, seed: int = 0, progress: Progress | None = None
) -> int:
    """Add codes after the last row of an index that was exported from these codes.

    The file is replaced in one step. Lists of an inverted file keep their centres; its recall is
    measured again.

    Parameters
    ----------
    codes : codes with as many rows as the index, or more.
    out : file of the index.
    form : ``faiss``, ``faiss-ivf`` or ``usearch``.
    seed : seed of the queries that measure the recall.
    progress : display of the progress; None shows nothing.

    Returns
    -------
    Number of rows that were added.

    Raises
    ------
    ConfigError : files of the format cannot grow.
    InputError : the index is not of these codes.
    StorageError : the index cannot be read or written.
    """
    progress = progress or silent()
    if form not in FORMATS:
        raise ConfigError(
            f"a file of {form} cannot grow; export it again, or append to {', '.join(FORMATS)}"
        )
    path = local_path(out)
    with ExitStack() as stack:
        check_lock = stack.enter_context(hold_output(path))
        index, held = _open_usearch(path) if form == "usearch" else _open_faiss(path, form)
        _check_rows(codes, index, held, path)
        measured = Path(f"{path}.json")
        record = stack.enter_context(replacing(measured)) if form == "faiss-ivf" else None
        partial = stack.enter_context(replacing(path))
        with progress.stage(f"append {form}", codes.rows - held) as stage:
            step = max(1, (32 << 20) * 8 // codes.bits)
            for start in range(held, codes.rows, step):
                run = np.ascontiguousarray(codes.read(start, min(start + step, codes.rows)))
                if form == "usearch":
                    index.add(np.arange(start, start + len(run), dtype=np.uint64), run)
                else:
                    index.add(run)
                stage.advance(len(run))
        if form == "usearch":
            for row in codes.deleted.tolist():
                index.remove(row)
            save_usearch(index, partial)
        else:
            save_faiss(index, partial)
        if form == "faiss-ivf":
            record_recall(codes, partial, record, seed, progress)
        check_lock()
    return codes.rows - held


def _open_faiss(path: Path, form: str) -> tuple[Any, int]:
    faiss = require("faiss", "export", "a faiss index")
    index = open_index(path)
    if isinstance(index, faiss.IndexBinaryIVF) != (form == "faiss-ivf"):
        raise ConfigError(f"{path} is not of the format {form}; give its own --format")
    return index, int(index.ntotal)


def _open_usearch(path: Path) -> tuple[Any, int]:
    usearch = require("usearch.index", "export", "a usearch index")
    if not path.is_file():
        raise StorageError(f"{path} does not exist. Write it with: python -m srch_dist.export")
    try:
        index = usearch.Index.restore(str(path))
    except (RuntimeError, ValueError) as error:
        line = str(error).strip().splitlines()[-1]
        raise StorageError(f"cannot read {path} as a usearch index: {line}") from None
    if index is None:
        raise StorageError(f"cannot read {path} as a usearch index")
    keys = np.asarray(index.keys)
    return index, int(keys.max()) + 1 if len(keys) else 0


def _check_rows(codes: CodeStore, index: Any, held: int, path: Path) -> None:
    """Raise InputError unless the index holds the first ``held`` rows of the codes."""
    bits = index.ndim if hasattr(index, "ndim") else index.d
    same = bits == codes.bits and held <= codes.rows
    if same and held:
        rows = np.unique(np.linspace(0, held - 1, min(held, _COMPARED)).astype(np.int64))
        values = codes.read_scattered(rows)
        if hasattr(index, "ndim"):
            stored = [index.get(int(row)) for row in rows]
            same = all(
                each is None or np.array_equal(np.ravel(each), value)
                for each, value in zip(stored, values, strict=True)
            )
        else:
            same = not index.search(values, 1)[0].any()
    if not same:
        raise InputError(
            f"{path} is not an index of the codes {codes.path}. Give the index that was exported "
            "from these codes, or export them again."
        )
