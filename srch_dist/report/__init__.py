"""HTML reports of runs: charts (matplotlib) and tables of their records in one file."""

from __future__ import annotations

from collections.abc import Sequence

from srch_dist.errors import require
from srch_dist.storage.atomic_files import write_text
from srch_dist.storage.locations import Location, locate
from srch_dist.storage.locks.output_lock import hold_output

__all__ = ["write_page"]


def write_page(runs: Sequence[str | Location], out: str | Location) -> None:
    """Write the report of one run, or a comparison of several, as one HTML file.

    Parameters
    ----------
    runs : run directories of finished runs.
    out : file to write; an existing file is replaced.

    Raises
    ------
    ExtraError : matplotlib or Jinja, the extra ``report``, is not installed.
    StorageError : a run does not exist or is not finished, another process writes the page, or it
        cannot be written.
    """
    for module in ("matplotlib", "jinja2"):
        require(module, "report", "the report")
    # Imported here, because these modules need matplotlib and Jinja.
    from srch_dist.report.comparison import comparison_page
    from srch_dist.report.page import run_page
    from srch_dist.report.records import load_records

    place = locate(out)
    with hold_output(place) as check_lock:
        records = load_records(runs)
        page = run_page(records[0]) if len(records) == 1 else comparison_page(records)
        check_lock()
        write_text(place, page)
