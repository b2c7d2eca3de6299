"""Handle Ctrl-C, SIGTERM and SIGHUP: the first one interrupts; repeats do not disturb the end."""

from __future__ import annotations

import atexit
import os
import signal
import stat
import sys
import time

from srch_dist.cli.exit_codes import TRY_AGAIN

# Closing a cluster takes seconds. Signals in this time are repeats; later ones mean that it hangs.
GRACE_SECONDS = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_started = 0.0


def end_at_interrupt() -> None:
    """Make SIGINT print one line and end the process, until `catch_interrupts` is called."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def _end(_signal: int, _frame: object) -> None:
    sys.stderr.write("interrupted\n")
    sys.stderr.flush()
    os._exit(TRY_AGAIN)


def catch_interrupts() -> None:
    """Raise KeyboardInterrupt at the first SIGINT, SIGTERM or SIGHUP, and ignore repeats.

    A SIGINT more than `GRACE_SECONDS` after the first signal ends the process at once. A signal
    that is already ignored stays ignored: SIGINT in a background job of a shell, SIGHUP under
    ``nohup``.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(signal_number: int, _frame: object) -> None:
    global _started
    _started = time.monotonic()
    # A machine that shuts down repeats the signal; the way out must not be interrupted too.
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _repeat)
    if signal_number == signal.SIGHUP:
        _leave_closed_terminal()
    # At its end Python forgets handlers, but not that a signal is ignored.
    atexit.register(_ignore)
    raise KeyboardInterrupt


def _ignore() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _repeat(number: int, _frame: object) -> None:
    if number == signal.SIGHUP:
        _leave_closed_terminal()
    if number == signal.SIGINT and time.monotonic() - _started > GRACE_SECONDS:
        sys.stderr.write("interrupted again: ended without closing the cluster\n")
        sys.stderr.flush()
        # Local workers end with this process.
        os._exit(TRY_AGAIN)


def _leave_closed_terminal() -> None:
    """Redirect standard output and error to /dev/null if their terminal was closed."""
    for descriptor in (1, 2):
        is_device = stat.S_ISCHR(os.fstat(descriptor).st_mode)
        if is_device and not os.isatty(descriptor):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
