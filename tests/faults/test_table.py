"""The table of docs/benchmarks/faults.md agrees with the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.faults import table

HERE = Path(__file__).parent


def test_the_page_has_the_table_of_all_cells(request):
    items = [item for item in request.session.items if item.path.parent == HERE]
    if {item.path for item in items} < set(HERE.glob("test_*.py")) or _chosen(request.config):
        pytest.skip("only some of the cells are run")
    marks = [mark.args for item in items if (mark := item.get_closest_marker("fault"))]
    page = HERE.parents[1] / "docs" / "benchmarks" / "faults.md"
    assert "\n".join(table(marks)) in page.read_text(encoding="utf-8")


def _chosen(config: pytest.Config) -> bool:
    """Whether the command line selects cells by keyword, marker or node id."""
    options = config.option
    return bool(options.keyword or options.markexpr) or any("::" in name for name in config.args)
