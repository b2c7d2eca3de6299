"""Validity of certificates within what a date can hold."""

from __future__ import annotations

import pytest

from srch_dist.certificates import make_certificates
from srch_dist.errors import ConfigError


@pytest.mark.parametrize("days", [-1, 0, 36_501, 3_000_000, 10**30])
def test_days_that_no_certificate_can_have_are_refused(tmp_path, days):
    with pytest.raises(ConfigError, match=rf"days is {days}, expected 1 to 36500"):
        make_certificates(tmp_path / "certificates", days)
    assert not (tmp_path / "certificates").exists()
