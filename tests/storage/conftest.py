"""A bucket in memory."""

from __future__ import annotations

import pytest

from tests.helpers.memory_bucket import memory_bucket


@pytest.fixture
def bucket():
    with memory_bucket() as place:
        yield place
