"""`srch-dist COMMAND …` and `python -m srch_dist COMMAND …`: all commands by one name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from srch_dist.cli import BAD_INPUT

# Module of each command, in the order of use, and what it does.
COMMANDS = {
    "ingest": ("ingest.__main__", "turn paired features into a feature store"),
    "plan": ("plan", "what a training run would take"),
    "train": ("train", "learn codes from a feature store"),
    "sweep": ("sweep", "train with every combination of a grid of options"),
    "evaluate": ("evaluate", "score a trained model"),
    "report": ("report", "a page about a run, or one that compares several"),
    "encode": ("encode", "codes of every row of a store"),
    "search": ("search", "the nearest codes of queries"),
    "export": ("export", "codes and indexes for faiss, usearch, NumPy and Parquet"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names with the others."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        module = importlib.import_module(f"srch_dist.{COMMANDS[given[0]][0]}")
        module.main(given[1:])
        return
    wanted = given[:1] in (["-h"], ["--help"])
    lines = ["usage: srch-dist COMMAND [OPTIONS]", ""]
    lines += [f"  {name:9} {what}" for name, (_, what) in COMMANDS.items()]
    lines += ["", "srch-dist COMMAND --help lists the options of a command."]
    if given and not wanted:
        print(f"error: there is no command {given[0]!r}", file=sys.stderr)
    print("\n".join(lines), file=sys.stdout if wanted else sys.stderr)
    sys.exit(0 if wanted else BAD_INPUT)


if __name__ == "__main__":
    main()
