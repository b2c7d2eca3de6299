"""Pages about runs: their records drawn with matplotlib and set with Jinja, all in one file."""

from __future__ import annotations

from collections.abc import Sequence

from srch_dist.errors import require
from srch_dist.storage.atomic_files import write_text
from srch_dist.storage.locations import Location, locate

__all__ = ["write_page"]


def write_page(runs: Sequence[str | Location], out: str | Location) -> None:
    """Write the page of a run, or one that compares several.

    Raises
    ------
    ExtraError : the libraries of the extra ``report`` are not installed.
    StorageError : a run is absent or not finished, or the page cannot be written.
    """
    for module in ("matplotlib", "jinja2"):
        require(module, "report", "the report")
    # These import what was just found.
    from srch_dist.report.comparison import comparison_page
    from srch_dist.report.page import run_page
    from srch_dist.report.records import load_records

    known = load_records(runs)
    write_text(locate(out), run_page(known[0]) if len(known) == 1 else comparison_page(known))
