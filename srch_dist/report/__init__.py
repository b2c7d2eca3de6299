"""HTML reports of runs: one file with charts (matplotlib) and tables of a run's records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from srch_dist.errors import require
from srch_dist.storage.atomic_files import write_text
from srch_dist.storage.locations import Location, local_path, locate
from srch_dist.storage.locks.output_lock import hold_output
from srch_dist.storage.outputs import OutputKind, check_file, check_folder

__all__ = ["write_page", "write_report_files"]

# Bytes that contain the head of a page, up to its title.
_HEAD_BYTES = 8192


def _is_page(_path: Location, content: bytes) -> bool:
    head = content[:_HEAD_BYTES]
    return head.startswith(b"<!doctype html>") and b"srch-dist</title>" in head


_PAGE = OutputKind("report page", _is_page)


def write_page(runs: Sequence[str | Location], out: str | Location) -> None:
    """Write the report of one run, or a comparison of several runs, as one HTML file.

    Parameters
    ----------
    runs : run directories of finished runs.
    out : file to write; an existing report page is replaced.

    Raises
    ------
    ExtraError : matplotlib or Jinja is not installed; the extra ``report`` installs both.
    StorageError : a run does not exist or is not finished, another process writes the page, the
        page cannot be written, or ``out`` is a file that is no report page.
    """
    for module in ("matplotlib", "jinja2"):
        require(module, "report", "the report")
    # Imported here, because these modules need matplotlib and Jinja.
    from srch_dist.report.comparison import comparison_page
    from srch_dist.report.page import run_page
    from srch_dist.report.records import load_records

    place = check_file(locate(out), _PAGE)
    with hold_output(place) as check_lock:
        records = load_records(runs)
        page = run_page(records[0]) if len(records) == 1 else comparison_page(records)
        check_lock()
        write_text(place, page)


def write_report_files(runs: Sequence[str | Location], folder: str | Location) -> list[Path]:
    """Write the charts of a report as PDF and PNG, and its tables as CSV, Markdown and LaTeX.

    Parameters
    ----------
    runs : run directories of finished runs; several give the figures of their comparison.
    folder : local folder, created if needed. Files of the same names are replaced.

    Returns
    -------
    Paths of the files.

    Raises
    ------
    ExtraError : matplotlib, Jinja or tabulate is not installed.
    StorageError : a run does not exist or is not finished, or a file cannot be written.
    """
    for module in ("matplotlib", "jinja2", "tabulate"):
        require(module, "report", "a figure of the report")
    from srch_dist.report.figure_files import write_figures
    from srch_dist.report.records import load_records

    place = check_folder(local_path(folder))
    with hold_output(place):
        return write_figures(load_records(runs), place)
