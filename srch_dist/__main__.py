"""`srch-dist COMMAND …` and `python -m srch_dist COMMAND …`: every command under one name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from srch_dist import __version__
from srch_dist.cli.exit_codes import BAD_INPUT
from srch_dist.cli.interrupts import end_at_interrupt
from srch_dist.config.nearest import did_you_mean

# In the order of use.
COMMANDS = {
    "ingest": "convert paired features to a feature store",
    "plan": "estimate memory, disk, network and time of a training run",
    "train": "learn codes from a feature store",
    "sweep": "train every combination of a grid of options",
    "evaluate": "measure the retrieval quality of a trained model",
    "report": "write the HTML page of a run, or compare several runs",
    "encode": "encode every row of a store with a trained model",
    "search": "find the rows whose codes are nearest to a query",
    "export": "write codes and indexes for faiss, databases, Parquet and others",
    "serve": "answer searches over HTTP",
    "certificates": "make TLS certificates for a cluster",
}


def command_module(name: str) -> ModuleType:
    """Import the module that `python -m srch_dist.NAME` runs."""
    place = "srch_dist.certificates" if name == "certificates" else f"srch_dist.{name}.__main__"
    return importlib.import_module(place)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names, with the remaining arguments."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    first = words[0] if words else None
    if first in COMMANDS:
        end_at_interrupt()
        command_module(first).main(words[1:])
    elif first == "--version":
        print(f"srch-dist {__version__}")
    elif first in ("-h", "--help"):
        print(_usage())
    else:
        if first is not None:
            print(f"error: {_unknown(first)}", file=sys.stderr)
        print(_usage(), file=sys.stderr)
        sys.exit(BAD_INPUT)


def _unknown(name: str) -> str:
    return f"there is no command {name!r}{did_you_mean(name, COMMANDS)}"


def _usage() -> str:
    lines = ["usage: srch-dist COMMAND [OPTIONS]", "       srch-dist --version", ""]
    lines += [f"  {name:12} {summary}" for name, summary in COMMANDS.items()]
    lines += ["", "srch-dist COMMAND --help lists the options of a command."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
