"""`python -m pipelines.checkouts OLD NEW --work FOLDER`: prove that NEW behaves as OLD, to the bit.

OLD and NEW are checkouts of the project. The script runs ten configurations through the command
lines of both, one after the other, and compares everything that they write: codes, models,
checkpoints, histories, scores, plans and the tables of a sweep. `compare.IGNORED` lists the fields
that may differ. The exit code is 1 where anything else differs, and 2 where a checkout or a name
is wrong. The script imports nothing of the package itself.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from pipelines.checkouts.compare import Item, compare_folders
from pipelines.checkouts.runs import Checkout, CommandError, Side, check_checkout

LOCAL = ("--workers", "2", "--memory-limit", "2GiB")
TRAIN = ("--out", "run", *LOCAL)
EMOJI = "run/emoji.zarr"
# What every finished run has, and what `encode` makes of its data.
RUN = ("run/codes.zarr", "run/model.npz", "run/evaluation.json", "run/history.jsonl")
RUN_AND_CODES = (*RUN, "encoded.zarr")
# A few iterations of a loop that does not stop early.
SHORT = ("--method.iterations", "4", "--method.threshold", "0", "--no-report")
LONG = ("--method.iterations", "8", "--method.threshold", "0", "--no-report")
SWEPT = ("0.3", "1.0", "3.0")
# The item of a configuration whose commands failed.
COMMANDS = "commands"
# A training that is killed has committed this iteration.
KILLED_FROM = 2


@dataclass(frozen=True)
class Options:
    """Run ten configurations in two checkouts and compare the results bit by bit."""

    old: Annotated[Path, tyro.conf.Positional]
    """Checkout whose behaviour is the reference."""
    new: Annotated[Path, tyro.conf.Positional]
    """Checkout to compare with it."""
    work: Path
    """New or empty folder for results and logs; about 500 MB."""
    only: tuple[str, ...] = ()
    """Names of the configurations to run; all ten when absent."""


@dataclass(frozen=True)
class Case:
    """A configuration.

    Attributes
    ----------
    work : runs the commands of one side, in ``side.folder``.
    needed : items that both sides must have.
    options : of `train` or `sweep`, beside those of the cluster.
    handed_over : whether OLD begins the run that NEW resumes.
    """

    name: str
    about: str
    work: Callable[[Case, Side], None]
    options: tuple[str, ...] = ()
    needed: tuple[str, ...] = RUN_AND_CODES
    handed_over: bool = False


def train_and_encode(case: Case, side: Side) -> None:
    """Train on the emoji set, and encode all of it."""
    side.run("train", *TRAIN, *case.options)
    _encode(side, "text", EMOJI)


def use_every_command(case: Case, side: Side) -> None:
    """As `train_and_encode`, and then plan, evaluate, search, export and report."""
    train_and_encode(case, side)
    shape = ("--pairs", "1_000_000", "--dims", "image=768,text=512", "--workers", "4")
    side.run("plan", *shape, "--memory-limit", "4GiB", "--json", output="planned.json")
    scored = ("--model", "run", "--data", EMOJI, "--json", "scores.json")
    side.run("evaluate", *scored, *LOCAL)
    asked = ("--query", "3,17", "--data", EMOJI, "--modality", "image", "--rerank", "--json")
    side.run("search", "--model", "run", "--codes", "encoded.zarr", *asked, output="found.json")
    side.run("export", "--codes", "encoded.zarr", "--format", "npy", "--out", "encoded.npy")
    side.run("report", "run")


def ingest_three(case: Case, side: Side) -> None:
    """Ingest three modalities, train on them with rows held out, and encode one."""
    source = side.scratch / "three.npz"
    write_three(source)
    side.run("ingest", str(source), "three.zarr")
    side.run("train", "--data", "three.zarr", *TRAIN, *case.options)
    _encode(side, "sound", "three.zarr")


def sweep_betas(case: Case, side: Side) -> None:
    """Sweep three values of an option."""
    grid = f"method.beta={','.join(SWEPT)}"
    side.run("sweep", "--out", "sweep", *LOCAL, *case.options, "--grid", grid)


def kill_and_resume(case: Case, side: Side) -> None:
    """Train until the loop is killed, resume, and encode.

    Raises
    ------
    CommandError : the run was finished before the kill.
    """
    run, options = side.folder / "run", (*TRAIN, *case.options)
    side.kill_when(lambda: last_iteration(run) >= KILLED_FROM, "train", *options)
    if json.loads((run / "run.json").read_bytes())["finished"]:
        raise CommandError("the run was finished before the kill; give it more iterations")
    print(
        f"{case.name} {side.folder.name}: killed after iteration {last_iteration(run)}", flush=True
    )
    side.run("train", *options, "--resume")
    _encode(side, "text", EMOJI)


def hand_over(case: Case, side: Side) -> None:
    """Old: an uninterrupted run. New: a run that OLD begins, and NEW resumes after the kill."""
    if side.begins == side.checkout:
        train_and_encode(case, side)
    else:
        kill_and_resume(case, side)


CASES = (
    Case("balanced", "emoji, preset balanced, every command", use_every_command),
    Case("paper", "emoji, preset paper", train_and_encode, ("--preset", "paper", "--no-report")),
    Case(
        "three",
        "three modalities with labels, ingested",
        ingest_three,
        ("--queries", "200", "--partition-rows", "700", *SHORT),
        ("three.zarr/sound", "run/queries.zarr", *RUN_AND_CODES),
    ),
    Case(
        "partitioned",
        "partitioned search",
        train_and_encode,
        ("--graph.method", "partitioned", "--graph.cluster-rows", "300", *SHORT),
    ),
    Case(
        "blocks",
        "three blocks, three groups of columns",
        train_and_encode,
        ("--blocks", "3", "--columns", "24", "--partition-rows", "300", *SHORT),
    ),
    Case(
        "spill",
        "the graph read from scratch files",
        train_and_encode,
        ("--spill", "on", "--partition-rows", "300", *SHORT),
    ),
    Case("float32", "float32", train_and_encode, ("--precision", "float32", *SHORT)),
    Case(
        "sweep",
        "a sweep of three points",
        sweep_betas,
        SHORT,
        (
            "sweep/results.csv",
            "sweep/results.json",
            *(f"sweep/runs/method.beta={value}/codes.zarr" for value in SWEPT),
        ),
    ),
    Case("resume", "killed in the loop, then resumed", kill_and_resume, LONG),
    Case(
        "handover",
        "started by OLD, resumed by NEW; an uninterrupted run of OLD",
        hand_over,
        # A resumed run records the rows a partition even where they were derived.
        ("--partition-rows", "800", "--columns", "32", *LONG),
        handed_over=True,
    ),
)


def _encode(side: Side, modality: str, data: str) -> None:
    codes = ("--modality", modality, "--out", "encoded.zarr")
    side.run("encode", "--model", "run", "--data", data, *codes, *LOCAL)


def last_iteration(run: Path) -> int:
    """The last committed iteration of a run; 0 before the first."""
    committed = (path.parent.name for path in run.glob("checkpoints/*/manifest.json"))
    return max((int(name) for name in committed if name.isdigit()), default=0)


def write_three(path: Path, rows: int = 2_000, classes: int = 12) -> None:
    """Write rows of three modalities around the centres of their class, with labels."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, classes, rows)
    hidden = rng.standard_normal((classes, 16))[labels] + 0.5 * rng.standard_normal((rows, 16))
    modalities = {
        name: np.tanh(hidden @ rng.standard_normal((16, dims))).astype(np.float32)
        for name, dims in {"image": 96, "text": 80, "sound": 64}.items()
    }
    np.savez(path, labels=labels, **modalities)


def run_case(case: Case, old: Checkout, new: Checkout, work: Path) -> list[Item]:
    """Run a configuration in both checkouts and compare the two folders."""
    folder = work / case.name
    print(f"{case.name}: {case.about}", flush=True)
    for checkout in (old, new):
        begins = old if case.handed_over else checkout
        side = Side(checkout, begins, folder / checkout.name, folder / "scratch")
        side.folder.mkdir(parents=True)
        side.scratch.mkdir(exist_ok=True)
        start = time.monotonic()
        try:
            case.work(case, side)
        except CommandError as error:
            return [Item(COMMANDS, f"{checkout.name}: {error}")]
        seconds = time.monotonic() - start
        print(f"{case.name} {checkout.name}: ran in {seconds:.0f} s", flush=True)
    return compare_folders(folder / old.name, folder / new.name, case.needed)


def table(results: Sequence[tuple[Case, Sequence[Item]]]) -> str:
    """A line a configuration: its name, the items compared, and ``equal`` or what differs first."""
    lines = [("configuration", "compared", "result")]
    for case, items in results:
        different = [item for item in items if item.difference is not None]
        named = dict.fromkeys(Path(name).stem for name in case.needed)
        compared = f"{', '.join(named)} and {len(items) - len(case.needed)} others"
        if items[0].name == COMMANDS:
            compared = "nothing"
        result = "equal"
        if different:
            first = f"{different[0].name}: {different[0].difference}"
            result = f"{len(different)} of {len(items)} differ; {first}"
        lines.append((case.name, compared, result))
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}".rstrip() for a, b, c in lines)


def main(options: Options) -> int:
    """Run the configurations and print the table; the exit code is 1 on any difference."""
    known = [case.name for case in CASES]
    if unknown := [name for name in options.only if name not in known]:
        return _refuse(f"no configuration {unknown[0]}; expected one of {', '.join(known)}")
    work = options.work.resolve()
    if work.exists() and (not work.is_dir() or any(work.iterdir())):
        return _refuse(f"{work} is not an empty folder; name a new one with --work")
    old, new = Checkout("old", options.old.resolve()), Checkout("new", options.new.resolve())
    try:
        for checkout in (old, new):
            check_checkout(checkout, work / "scratch")
    except CommandError as error:
        return _refuse(str(error))
    start = time.monotonic()
    chosen = [case for case in CASES if case.name in (options.only or known)]
    results = [(case, run_case(case, old, new, work)) for case in chosen]
    print(f"\n{table(results)}\n")
    different = sum(any(item.difference for item in items) for _, items in results)
    seconds = time.monotonic() - start
    print(f"{len(results) - different} of {len(results)} equal, {seconds:.0f} s")
    return 1 if different else 0


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _stop(_signal: int, _frame: object) -> None:
    # SIGTERM must reach the code that ends the commands.
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main(tyro.cli(Options, prog="python -m pipelines.checkouts")))
