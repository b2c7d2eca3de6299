"""Write tables as CSV, Markdown and LaTeX, for papers and notes."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from srch_dist.errors import require

# Formats of a table by the ending of its file; those of tabulate have their name there.
_TABULATE = {".md": "github", ".tex": "latex_booktabs"}
ENDINGS = (".csv", *_TABULATE)


def table_text(columns: Sequence[str], rows: Sequence[Sequence[str]], ending: str) -> str:
    """Return a table of text cells in the format of a file ending.

    Cells are taken as they are: numbers keep their digits.

    Raises
    ------
    ExtraError : the package tabulate is not installed.
    """
    if ending == ".csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        return text.getvalue()
    tabulate = require("tabulate", "report", "a table as Markdown or LaTeX")
    if ending == ".md":  # a pipe would end the cell
        rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    formatted = tabulate.tabulate(rows, columns, tablefmt=_TABULATE[ending], disable_numparse=True)
    return f"{formatted}\n"
