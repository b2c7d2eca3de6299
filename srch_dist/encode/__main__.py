"""`python -m srch_dist.encode`: encode every row of one modality with a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from srch_dist.cli.command import FLAT, print_line, run_command
from srch_dist.config.options import ClusterOptions
from srch_dist.encode.append import Appended, append_codes, delete_codes
from srch_dist.encode.batch import encode_store, open_rows
from srch_dist.encode.model import load_model
from srch_dist.encode.provenance import check_model
from srch_dist.errors import ConfigError
from srch_dist.runtime.cluster import connect_for
from srch_dist.runtime.progress import Progress
from srch_dist.storage.atomic_files import decode_text, read_bytes
from srch_dist.storage.code_store import open_codes
from srch_dist.storage.feature_store import FeatureStore
from srch_dist.storage.locations import locate
from srch_dist.storage.outputs import check_new
from srch_dist.storage.run.open import open_run


@dataclass(frozen=True)
class _Options:
    """Encode every row of one modality with a trained model. The other modality is not needed."""

    model: str
    """Run directory of a finished run, a path or s3:// URL."""
    data: str | None = None
    """What to encode: a feature store (a path or s3:// URL), or a file or folder with the rows of
    one modality that ingest can read, such as an .npy or Parquet file."""
    modality: str | None = None
    """Modality to encode the rows as; the model must have it."""
    out: str | None = None
    """Zarr array to write, a path or s3:// URL: uint8 (rows, bits / 8), little bit order. It must
    not exist yet."""
    append: str | None = None
    """Codes of this model on a local disk to append the rows to, instead of --out. A row with an
    id that is there replaces that row. An interrupted append resumes with the same line."""
    delete: str | None = None
    """Ids (row numbers, if the codes have none) of rows of --append to delete, for example a7,b3,
    or @FILE with one per line. Needs no --data."""
    array: str | None = None
    """Array or column of a file or folder to encode. By default it has the modality's name, or is
    the only one of the right width."""
    cluster: Annotated[ClusterOptions, FLAT] = field(default_factory=ClusterOptions)


def main(arguments: Sequence[str] | None = None) -> None:
    """Encode with options from the command line."""
    run_command("encode", _Options, _encode, arguments)


def _encode(options: _Options, progress: Progress) -> None:
    if options.delete is not None:
        _delete(options)
        return
    if options.data is None or options.modality is None:
        raise ConfigError("give what to encode: --data and --modality")
    if (options.out is None) == (options.append is None):
        raise ConfigError("give --out for new codes, or --append for codes that exist")
    if options.append is not None:
        done = append_codes(
            options.model, options.data, options.modality, options.append, progress, options.array
        )
        _print_change(options.append, done)
        return
    assert options.out is not None
    # Refuse a wrong run, input, modality or output before a cluster starts.
    run = open_run(options.model)
    rows = open_rows(options.data, load_model(run.path), options.modality, options.array)
    out = check_new(locate(options.out))
    with ExitStack() as stack:
        if isinstance(rows, FeatureStore):
            reads, writes = (run.path, locate(rows.path)), (out.parent,)
            stack.enter_context(connect_for(options.cluster, progress, reads, writes))
        path = encode_store(
            options.model, options.data, options.modality, options.out, progress, options.array
        )
    print_line(f"codes: {path}")


def _delete(options: _Options) -> None:
    if options.append is None or options.data is not None or options.out is not None:
        raise ConfigError("--delete needs --append CODES, and neither --data nor --out")
    assert options.delete is not None
    if options.delete.startswith("@"):
        text = decode_text(read_bytes(Path(options.delete[1:])))
        ids = [line for line in text.splitlines() if line]
    else:
        ids = options.delete.split(",")
    check_model(open_codes(options.append), load_model(open_run(options.model).path), options.model)
    _print_change(options.append, delete_codes(options.append, ids))


def _print_change(path: str, done: Appended) -> None:
    print_line(f"codes: {path} rows={done.rows} added={done.added} deleted={done.deleted}")


if __name__ == "__main__":
    main()
