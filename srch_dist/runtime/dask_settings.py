"""Refuse, before work starts, Dask settings of the user that would stop every cluster.

Dask accepts such values without an error. With ``terminate: 0``, nannies kill every worker when it
starts. With ``pause: 0``, no worker starts a task. The command would wait for workers forever.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import dask
import dask.utils

from srch_dist.errors import ConfigError
from srch_dist.runtime.watchdog import NO_WORKERS_TIMEOUT, TASK_TIMEOUT

_MEMORY = "distributed.worker.memory"
_LIFETIME = "distributed.worker.lifetime"
# What a worker without a task uses at least, in bytes (about 130 MiB on Linux).
_IDLE_BYTES = 128 << 20
# A scheduler that ends sooner may end between two steps of a run.
_LEAST_IDLE_SECONDS = 600.0

# What is wrong with a value, as in "must be a number"; None if nothing is.
_Check = Callable[[Any], str | None]


def check_client_settings() -> None:
    """Check the settings that this process reads for a local and for a running cluster.

    Raises
    ------
    ConfigError : a value is invalid; the message names the setting, the value and what to write.
    """
    for key in (NO_WORKERS_TIMEOUT, TASK_TIMEOUT):
        _refuse(key, lambda value: None if value is None else _seconds(value, 0.0, "120s"))


def check_local_settings(memory_limit: int) -> None:
    """Check the settings that a cluster on this machine starts with.

    Parameters
    ----------
    memory_limit : memory limit of a worker, in bytes.

    Raises
    ------
    ConfigError : no worker could work with a setting; the message names the setting, its value
        and what to write.
    """
    check_client_settings()
    for name, share in (("target", 0.6), ("spill", 0.7), ("pause", 0.8), ("terminate", 0.95)):
        acts = name in ("pause", "terminate")
        _refuse(f"{_MEMORY}.{name}", _share(share, memory_limit if acts else None))
    _refuse(f"{_MEMORY}.monitor-interval", lambda value: _seconds(value, 0.0, "100ms"))
    _refuse(f"{_MEMORY}.max-spill", _size)
    _refuse("distributed.scheduler.allowed-failures", _failures)
    _refuse("distributed.scheduler.idle-timeout", _idle_timeout)
    for name in ("connect", "tcp"):
        _refuse(f"distributed.comm.timeouts.{name}", lambda value: _seconds(value, 0.0, "30s"))
    _refuse(f"{_LIFETIME}.duration", _lifetime)


def _refuse(key: str, check: _Check) -> None:
    value = dask.config.get(key, None)
    problem = check(value)
    if problem is not None:
        variable = "DASK_" + key.upper().replace(".", "__").replace("-", "_")
        raise ConfigError(
            f"the Dask setting {key} is {value!r}; {problem}. It comes from the variable "
            f"{variable}, a YAML file of Dask ({', '.join(dask.config.paths)}), or dask.config.set."
        )


def _share(default: float, memory_limit: int | None) -> _Check:
    """Return a function that checks a setting which is a fraction of the memory limit.

    A value is a fraction above 0 and up to 1, or False, which turns the setting off. ``default``
    is Dask's value. ``memory_limit`` is in bytes; None skips the comparison with the memory of an
    idle worker.
    """

    def check(value: Any) -> str | None:
        if value is False:
            return None
        if not _is_number(value) or not 0 < value <= 1:
            return (
                f"it must be a share of the memory limit above 0 and up to 1, such as {default}, "
                "or False, which turns it off"
            )
        # A small limit with the usual share is refused by the plan, with its figures.
        if memory_limit is not None and value < default and value * memory_limit < _IDLE_BYTES:
            return (
                f"this share of the memory limit, {memory_limit >> 20} MiB, is less than the "
                f"{_IDLE_BYTES >> 20} MiB that an idle worker uses. Write {default}, or raise "
                "--memory-limit"
            )
        return None

    return check


def _seconds(value: Any, least: float, example: str) -> str | None:
    """Return what is wrong with the duration ``value``; None if it is above ``least`` seconds."""
    try:
        seconds = dask.utils.parse_timedelta(value)
    except (ValueError, TypeError, KeyError, AttributeError):
        seconds = None
    if seconds is not None and math.isfinite(seconds) and seconds > least:
        return None
    return f"it must be a time above {least:g} s, such as {example}"


def _idle_timeout(value: Any) -> str | None:
    if value is None or value is False or value == 0:
        return None
    problem = _seconds(value, _LEAST_IDLE_SECONDS, "1h")
    return problem and f"the scheduler would stop during a run: {problem}, or null for no timeout"


def _lifetime(value: Any) -> str | None:
    if value is None or dask.config.get(f"{_LIFETIME}.restart", False):
        return None
    return f"workers would stop after this time for good. Remove it, or set {_LIFETIME}.restart"


def _failures(value: Any) -> str | None:
    if _is_number(value) and value >= 1:
        return None
    return "it must be at least 1, such as 3: with less, one lost worker ends the run"


def _size(value: Any) -> str | None:
    if value is False:
        return None
    try:
        if not isinstance(value, bool) and dask.utils.parse_bytes(value) > 0:
            return None
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return "it must be a size such as 10GiB, or False for no maximum"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
