"""Exit codes of every command."""

BAD_INPUT = 2
# EX_IOERR of sysexits.h: a disk or store went away or is full. A retry can succeed.
NO_STORAGE = 74
# EX_TEMPFAIL of sysexits.h: nothing is wrong with the input, and a retry can succeed.
TRY_AGAIN = 75
# As a shell reports a process that SIGPIPE ended: nobody reads the output any more.
PIPE_CLOSED = 141
