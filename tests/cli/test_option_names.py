"""Wrong names get the nearest one: commands, options, choices, keys of files and of grids."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from srch_dist import __main__ as program
from srch_dist.cli.command import TrainOptions
from srch_dist.cli.option_names import refuse_unknown_names
from srch_dist.config.loading import build_config
from srch_dist.config.nearest import nearest
from srch_dist.errors import ConfigError
from srch_dist.export.formats import export_codes
from srch_dist.sweep.grid import combine


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], "did you mean train?"),
        (["train", "--graph.neighbors", "3"], "unknown option --graph.neighbors; did you mean "
         "--graph.k?"),
        (["train", "--graph.n_neighbors=3"], "did you mean --graph.k?"),
        (["train", "--graph.symmetry", "unoin"], "is 'unoin', expected union, mutual; did you mean "
         "union?"),
        (["train", "--preset", "balancd"], "did you mean balanced?"),
        (["sweep", "--epochs", "3"], "did you mean --method.iterations?"),
        (["plan", "--rates.raed", "3"], "did you mean --rates.read?"),
        (["encode", "--worker", "3"], "did you mean --workers?"),
        (["evaluate", "--tls.c", "3"], "did you mean --tls.ca?"),
        (["search", "--topk", "3"], "did you mean --top?"),
        (["export", "--format", "fais"], "did you mean faiss?"),
        (["ingest", "a", "b", "--modality", "x"], "did you mean --modalities?"),
        (["report", "--output", "x"], "did you mean --out?"),
        (["certificates", "--day", "3"], "did you mean --days?"),
    ],
)  # fmt: skip
def test_every_command_suggests_the_nearest_name(capsys, words, expected):
    with pytest.raises(SystemExit) as end:
        program.main(words)
    assert end.value.code == 2
    assert expected in capsys.readouterr().err.splitlines()[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"graph": {"neighbors": 3}}, r"graph\.neighbors; did you mean graph\.k\?"),
        ({"graph": {"method": "pynndesent"}}, r"; did you mean pynndescent\?"),
        ({"lam": 3}, r"unknown option lam; did you mean method\.lam\?"),
        ({"preset": "papr"}, r"; did you mean paper\?"),
        ({"xyzzy": 3}, "unknown option xyzzy$"),
    ],
)
def test_keys_and_values_of_a_file(values, expected):
    with pytest.raises(ConfigError, match=expected):
        build_config(values)


def test_options_of_a_grid():
    with pytest.raises(ConfigError, match=r"did you mean graph\.k\?"):
        combine(build_config({}), {"graph.neighbors": [3]})


def test_formats_of_an_export():
    with pytest.raises(ConfigError, match=r"did you mean faiss\?"):
        export_codes(None, Path("out"), "fais")


def test_every_spelling_that_the_parser_takes_passes():
    for item in dataclasses.fields(TrainOptions):
        if not isinstance(item.default_factory, type):
            refuse_unknown_names(
                TrainOptions, [f"--{item.name}", f"--{item.name.replace('_', '-')}"]
            )
    refuse_unknown_names(
        TrainOptions,
        [
            "--no-report",
            "--solver.no-warm",
            "--log-format",
            "json",
            "-v",
            "--verbose",
            "--bits=8",
            "--",
            "--x",
        ],
    )


def test_nothing_alike_is_not_suggested():
    assert nearest("xyzzy", ["bits", "graph.k"]) is None
