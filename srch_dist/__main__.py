"""`srch-dist COMMAND …` and `python -m srch_dist COMMAND …`: all commands by one name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from srch_dist.cli.command import BAD_INPUT

# What each command does, in the order of use.
COMMANDS = {
    "ingest": "turn paired features into a feature store",
    "plan": "what a training run would take",
    "train": "learn codes from a feature store",
    "sweep": "train with every combination of a grid of options",
    "evaluate": "score a trained model",
    "report": "a page about a run, or one that compares several",
    "encode": "codes of every row of a store",
    "search": "the nearest codes of queries",
    "export": "codes and indexes for faiss, usearch, NumPy and Parquet",
    "certificates": "TLS files for a cluster",
}


def command_module(name: str) -> ModuleType:
    """The module that is run as ``python -m srch_dist.NAME``."""
    place = "srch_dist.certificates" if name == "certificates" else f"srch_dist.{name}.__main__"
    return importlib.import_module(place)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names with the others."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        command_module(given[0]).main(given[1:])
        return
    wanted = given[:1] in (["-h"], ["--help"])
    lines = ["usage: srch-dist COMMAND [OPTIONS]", ""]
    lines += [f"  {name:12} {what}" for name, what in COMMANDS.items()]
    lines += ["", "srch-dist COMMAND --help lists the options of a command."]
    if given and not wanted:
        print(f"error: there is no command {given[0]!r}", file=sys.stderr)
    print("\n".join(lines), file=sys.stdout if wanted else sys.stderr)
    sys.exit(0 if wanted else BAD_INPUT)


if __name__ == "__main__":
    main()
