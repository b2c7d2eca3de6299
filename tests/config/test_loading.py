"""The one source of options: presets, YAML and command line on top of each other, refusals."""

from __future__ import annotations

import dataclasses
from typing import get_type_hints

import pytest

from srch_dist.cli.command import parse_training
from srch_dist.cli.help_texts import option_texts
from srch_dist.config.identity import dump_config, to_dict
from srch_dist.config.loading import build_config, check_config, load_config
from srch_dist.config.options import ClusterOptions, TrainConfig
from srch_dist.errors import ConfigError


def test_balanced_is_the_default_and_is_as_the_readme_says():
    config = build_config({})
    assert config.preset == "balanced"
    assert (config.graph.k, config.graph.symmetry) == (10, "union")
    assert (config.features.center, config.features.unit_norm) == (True, True)
    assert dataclasses.asdict(config.method) == {
        "scaling": "balanced",
        "alpha": "median",
        "beta": 1.0,
        "lam": 10.0,
        "omega": 1.0,
        "rebase": True,
        "drop": 1e-4,
        "forcing": 1.0,
        "iterations": 20,
        "stop": "changed_bits",
        "threshold": 3e-3,
        "encoder": "anchors",
        "ridge": 0.1,
        "center_z": True,
        "weights": "mutual",
        "rotate": True,
        "embedding_rank": 32,
        "directions": "auto",
        "pair": 0.5,
        "loop_bits": 64,
        "anchors": 1000,
    }
    assert config.solver.tolerance == 1e-4


def test_paper_holds_the_constants_of_the_paper():
    config = build_config({}, "paper")
    assert (config.graph.k, config.graph.symmetry) == (10, "union")
    assert (config.features.center, config.features.unit_norm) == (True, True)
    method = config.method
    assert (method.alpha, method.beta, method.lam) == (1e-4, 1e-3, 10.0)
    assert method.drop == 0
    assert (method.scaling, method.encoder, method.rebase) == ("printed", "projection", True)
    assert (method.stop, method.threshold, method.iterations) == ("objective", 1e-5, 20)
    assert (method.weights, method.rotate, method.directions) == ("equal", False, 0)
    assert method.embedding_rank == 0
    assert config.embedding_columns == config.loop_bits == config.bits


@pytest.mark.parametrize("preset", ["balanced", "paper"])
def test_yaml_round_trip_gives_the_same_configuration(tmp_path, preset):
    values = {"bits": 48, "data": "a b.zarr", "graph": {"k": 7}, "method": {"threshold": 1e-7}}
    config = build_config(values, preset)
    (tmp_path / "c.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "c.yaml") == config
    assert build_config(to_dict(config)) == config


def test_later_sources_win_preset_then_yaml_then_command_line(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("preset: paper\nbits: 64\nmethod: {lam: 5, iterations: 3}\n")
    config = parse_training(["--config", str(file), "--method.lam", "2", "--seed", "4"])
    assert config.preset == "paper"
    assert config.method.beta == 1e-3  # of the preset
    assert (config.bits, config.method.iterations) == (64, 3)  # of the file
    assert (config.method.lam, config.seed) == (2.0, 4)  # of the command line


def test_preset_of_the_command_line_replaces_that_of_the_file_but_not_its_values(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("preset: paper\nmethod: {lam: 5}\n")
    for arguments in (["--preset", "balanced"], ["--preset=balanced"]):
        config = parse_training([*arguments, "--config", str(file)])
        assert (config.preset, config.method.scaling) == ("balanced", "balanced")
        assert (config.method.alpha, config.method.lam) == ("median", 5.0)


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("method: {alpha: 1e-4, threshold: 1e-6}\n")  # YAML 1.1 wants 1.0e-4
    method = load_config(file).method
    assert (method.alpha, method.threshold) == (1e-4, 1e-6)


def test_off_and_on_are_what_the_option_takes_them_for(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "cache: off\nsolver: {coarse: off, warm: no}\nmethod: {rotate: off}\n"
        "features: {center: on}\nreport: false\n"
    )
    config = load_config(file)
    assert (config.cache, config.solver.coarse) == ("off", "off")
    assert (config.solver.warm, config.method.rotate, config.report) == (False,) * 3
    assert config.features.center is True
    file.write_text(dump_config(config))
    assert load_config(file) == config


@pytest.mark.parametrize(
    ("name", "instead"),
    [("overlap", "graph.leaves"), ("overlap_max", "graph.leaves_max"), ("refine", "Remove it")],
)
def test_removed_options_name_what_replaces_them(name, instead):
    with pytest.raises(ConfigError, match=rf"graph\.{name} is no longer an option.*{instead}"):
        build_config({"graph": {name: 2}})


def test_options_of_the_cluster_are_those_of_training():
    """Declared once: names, types, defaults and texts agree."""
    training, hints = TrainConfig(), get_type_hints(TrainConfig, include_extras=True)
    texts = option_texts(TrainConfig)
    for name, hint in get_type_hints(ClusterOptions, include_extras=True).items():
        assert hint == hints[name]
        assert getattr(ClusterOptions(), name) == getattr(training, name)
        assert option_texts(ClusterOptions).get(name) == texts.get(name)
        assert texts.get(name) or name == "tls"


def test_empty_file_is_the_default(tmp_path):
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert load_config(tmp_path / "c.yaml") == build_config({})


def test_configuration_cannot_be_changed():
    config = build_config({})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.bits = 64  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "unknown", "nearest"),
    [
        ({"bit": 16}, "bit", "bits"),
        ({"worker": 3}, "worker", "workers"),
        ({"graf": {"k": 3}}, "graf", "graph"),
        ({"graph": {"symmetri": "union"}}, "graph.symmetri", "graph.symmetry"),
        ({"method": {"lambda": 3}}, "method.lambda", "method.lam"),
        ({"solver": {"tolerence": 1}}, "solver.tolerence", "solver.tolerance"),
        ({"features": {"centre": True}}, "features.centre", "features.center"),
    ],
)
def test_unknown_option_is_refused_with_the_nearest_name(values, unknown, nearest):
    with pytest.raises(ConfigError) as refusal:
        build_config(values)
    assert f"unknown option {unknown};" in str(refusal.value)
    assert f"did you mean {nearest}?" in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"bits": 12}, "bits"),
        ({"bits": 0}, "bits"),
        ({"bits": -8}, "bits"),
        ({"bits": "many"}, "bits"),
        ({"bits": 32.5}, "bits"),
        ({"seed": -1}, "seed"),
        ({"queries": -1}, "queries"),
        ({"workers": 0}, "workers"),
        ({"partition_rows": 0}, "partition_rows"),
        ({"blocks": 0}, "blocks"),
        ({"rows": "some"}, "rows"),
        ({"precision": "float16"}, "precision"),
        ({"data": 5}, "data"),
        ({"graph": {"k": 0}}, "graph.k"),
        ({"graph": {"symmetry": "both"}}, "graph.symmetry"),
        ({"graph": {"method": "faiss"}}, "graph.method"),
        ({"method": {"lam": -1}}, "method.lam"),
        ({"method": {"lam": float("nan")}}, "method.lam"),
        ({"method": {"beta": 0}}, "method.beta"),
        ({"method": {"beta": float("inf")}}, "method.beta"),
        ({"method": {"alpha": "mean"}}, "method.alpha"),
        ({"method": {"alpha": 0}}, "method.alpha"),
        ({"method": {"iterations": 0}}, "method.iterations"),
        ({"method": {"threshold": -1}}, "method.threshold"),
        ({"features": {"max_zero_share": 1.5}}, "features.max_zero_share"),
        ({"features": {"center": "perhaps"}}, "features.center"),
        ({"solver": {"tolerance": 0}}, "solver.tolerance"),
        ({"solver": "fast"}, "solver"),
        ({"graph": [1]}, "graph"),
    ],
)
def test_wrong_type_or_range_is_refused_by_name_with_the_value(values, name):
    with pytest.raises(ConfigError) as refusal:
        build_config(values)
    value = values
    for part in name.split("."):
        value = value[part]
    assert str(refusal.value).startswith(name)
    assert f"is {value!r}" in str(refusal.value)


@pytest.mark.parametrize("preset", ["fancy", "", 3, []])
def test_unknown_preset_is_refused_with_the_known_ones(preset):
    with pytest.raises(ConfigError, match="known presets: balanced, paper"):
        build_config({"preset": preset})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"bits: [", "not valid YAML"),
        (b"- bits\n- 32\n", "holds a list"),
        (b"just text", "holds a str"),
        (b"bits: \xff\xfe", "cannot read the options file"),
        (b"bits: 12", "multiple of 8"),
        (b"!!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_unusable_file_is_refused_with_its_name(tmp_path, content, message):
    file = tmp_path / "broken.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as refusal:
        load_config(file)
    assert str(file) in str(refusal.value)


def test_missing_file_is_refused_with_its_name(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_preset_of_a_configuration_made_directly_is_meant():
    assert check_config(TrainConfig(preset="paper")).method == build_config({}, "paper").method
    assert check_config(TrainConfig()).method == build_config({}).method


def test_values_of_a_configuration_made_directly_are_checked():
    with pytest.raises(ConfigError, match="bits is 12"):
        check_config(TrainConfig(bits=12))


def test_resolved_file_of_one_preset_is_not_read_as_another(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(build_config({})), encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"preset 'paper' would have no effect: .* for preset 'balanced'"
    ):
        load_config(file, "paper")


@pytest.mark.parametrize("values", [{"solver": {"tolerance": 10}}, {"method": {"beta": 1e-300}}])
def test_values_that_would_silence_the_graph_are_refused(values):
    with pytest.raises(ConfigError, match=r"greater than|less than"):
        build_config(values)
