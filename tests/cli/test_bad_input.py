"""Bad input through the commands' own entry points: what is said, and what is left behind.

Everything here is refused before a cluster is needed, or runs with one that is stood in for.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from srch_dist.encode import __main__ as encode
from srch_dist.errors import ConfigError
from srch_dist.evaluate import __main__ as evaluate
from srch_dist.ingest import __main__ as ingest
from srch_dist.runtime.cluster import connect
from srch_dist.search import __main__ as search
from srch_dist.train import __main__ as train
from tests.helpers.runs import DIMS, ROWS, make_pairs, no_cluster

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Commands run here, without a cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("srch_dist.runtime.cluster.connect", no_cluster)
    return tmp_path


@pytest.fixture
def refused(folder, capsys):
    """A function that runs a command and returns its message, having checked how it ended."""

    def run(command, *arguments) -> str:
        before = sorted(path.name for path in folder.iterdir())
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            command.main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        assert end.value.code == 2
        assert output.out == ""
        assert "Traceback" not in output.err
        last = output.err.splitlines()[-1]
        assert last.startswith("error: ")
        assert output.err.count("error: ") == 1
        assert "pydantic" not in output.err
        left = {path.name for path in folder.iterdir()} - set(before)
        assert left <= {"runs"}  # the folder that runs go to by default, never a run in it
        assert not list(folder.glob("runs/*"))
        return last

    return run


def save(name: str = "a", **changes) -> str:
    np.savez(f"{name}.npz", **make_pairs(**changes))
    return f"{name}.npz"


def stored(name: str = "a", **changes) -> str:
    """A store made by the command."""
    ingest.main([save(name, **changes), f"{name}.zarr"])
    return f"{name}.zarr"


def with_value(value: float, row: int) -> np.ndarray:
    image = make_pairs()["image"]
    image[row, 3] = value
    return image


class TestIngest:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_invalid_numbers(self, refused, value):
        message = refused(ingest, save(image=with_value(value, 41)), "a.zarr")
        assert "a value of 1e150 or more in row 41. Replace the values, or remove" in message

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            (
                {"text": np.ones((ROWS - 1, 3))},
                rf"unequal numbers of rows: image {ROWS}, text {ROWS - 1}",
            ),
            ({"image": np.ones((0, 2)), "text": np.ones((0, 2))}, "have (no|0) rows"),
            ({"text": None}, "at least two modalities are needed, found image"),
            ({"titles": np.array([["a"], 3], dtype=object)}, "titles is an object array; save it"),
            ({"titles": np.ones(5)}, rf"titles has shape \(5,\), expected {ROWS} rows"),
        ],
    )
    def test_arrays_that_are_no_pairs(self, refused, changes, expected):
        assert re.search(expected, refused(ingest, save(**changes), "a.zarr"))

    def test_modalities_that_are_no_numbers(self, refused):
        titles = np.array([["a", "b"]] * ROWS)
        message = refused(ingest, save(words=titles), "a.zarr", "--modalities", "image,words")
        assert "words is <U1; a modality must be an array of real numbers" in message

    def test_one_row(self, refused):
        message = refused(ingest, save(rows=1), "a.zarr")
        assert re.search(r"\b(one|1) row", message)

    def test_broken_file(self, refused):
        raw = Path(save()).read_bytes()
        Path("a.npz").write_bytes(raw[: len(raw) // 2])
        assert "a.npz is not a readable .npz file" in refused(ingest, "a.npz", "a.zarr")

    def test_store_that_is_there_already(self, refused):
        Path("a.zarr").mkdir()
        Path("a.zarr/mine").write_text("x")
        assert "a.zarr already exists; remove it" in refused(ingest, save(), "a.zarr")
        assert Path("a.zarr/mine").exists()

    @pytest.mark.parametrize("rows", ["0", "-3"])
    def test_senseless_chunks(self, refused, rows):
        message = refused(ingest, save(), "a.zarr", "--rows-per-chunk", rows)
        assert re.search(rf"rows.per.chunk.* {rows}", message)


class TestTrain:
    def test_missing_data(self, refused):
        message = refused(train, "--data", "nowhere.zarr")
        assert "nowhere.zarr does not exist; make a store with: python -m srch_dist" in message

    @pytest.mark.parametrize(
        ("option", "value", "name", "expected"),
        [
            ("--bits", "12", "bits", "multiple of 8"),
            ("--bits", "0", "bits", "greater than or equal to 8"),
            ("--workers", "0", "workers", "greater than or equal to 1"),
            ("--method.lam", "-1", "method.lam", "greater than or equal to 0"),
            ("--graph.k", "0", "graph.k", "greater than or equal to 1"),
            ("--queries", "-1", "queries", "greater than or equal to 0"),
        ],
    )
    def test_options_out_of_range(self, refused, option, value, name, expected):
        message = refused(train, option, value)
        assert re.search(rf"{name}\b.*{value}.*{expected}", message)

    def test_unknown_preset(self, refused):
        message = refused(train, "--preset", "fancy")
        assert "preset is 'fancy'; known presets: balanced, paper" in message

    def test_unknown_option_of_the_command_line_is_refused_with_the_nearest(self, capsys):
        for wrong, near in (("--bit", "--bits"), ("--method.lamda", "--method.lam")):
            with pytest.raises(SystemExit) as end:
                train.main([wrong, "8"])
            assert end.value.code == 2
            assert re.search(rf"{near}\b", capsys.readouterr().err)

    def test_unknown_key_of_a_file(self, refused):
        Path("c.yaml").write_text("graph: {neighbors: 3}\n")
        message = refused(train, "--config", "c.yaml")
        assert "c.yaml: unknown option graph.neighbors; did you mean graph." in message

    def test_missing_file_of_options(self, refused):
        assert "nowhere.yaml" in refused(train, "--config", "nowhere.yaml")

    def test_as_many_neighbours_as_rows(self, refused):
        store = stored(split=None)
        message = refused(train, "--data", store, "--graph.k", ROWS)
        assert f"{ROWS} rows to train on" in message
        assert f"graph.k = {ROWS} neighbours" in message
        assert "lower graph.k or add rows" in message

    def test_no_rows_of_split_0(self, refused):
        store = stored(split=np.ones(ROWS, dtype=int))
        assert "0 rows to train on" in refused(train, "--data", store)

    @pytest.mark.parametrize(
        ("changes", "options", "expected"),
        [
            ({}, ["--queries", "5"], "has an array 'split', .* omit --queries"),
            ({"split": None}, ["--queries", "5", "--rows", "all"], "use only one of the two"),
            ({"split": None}, ["--queries", ROWS], "leaves no rows to train on"),
        ],
    )
    def test_queries_that_cannot_be_held_out(self, refused, changes, options, expected):
        assert re.search(expected, refused(train, "--data", stored(**changes), *options))

    def test_too_many_rows_that_are_zero_after_centring(self, refused):
        text = make_pairs()["text"]
        text[5:] = text[5:].mean(axis=0)
        # The mean of the rest is exactly where the first rows add up to nothing beside it.
        text[:5] = text[5]
        message = refused(train, "--data", stored(text=text, split=None))
        assert re.search(
            rf"text: \d+ of {ROWS} rows are zero after centring, expected at most 5%", message
        )
        assert "Remove them, or raise features.max_zero_share" in message

    def test_memory_that_cannot_hold_the_plan(self, refused):
        message = refused(train, "--data", stored(), "--out", "run", "--memory-limit", "300MiB")
        assert re.search(r"needs \d+ MiB .*only 0 MiB are allowed: 80% of the 300 MiB", message)

    @pytest.mark.parametrize("limit", ["much", "", "-1GiB", "0"])
    def test_memory_that_is_no_size(self, limit):
        """The real `connect`, which reads the limit before it starts anything."""
        with pytest.raises(ConfigError, match="memory_limit"), connect(memory_limit=limit):
            pass

    def test_run_directory_in_use(self, refused):
        Path("run").mkdir()
        Path("run", "mine").write_text("x")
        message = refused(train, "--data", stored(), "--out", "run")
        assert "run holds files that are no run; choose another run directory with --out" in message
        assert [path.name for path in Path("run").iterdir()] == ["mine"]

    def test_data_with_a_missing_chunk(self, refused):
        store = stored()
        next(path for path in Path(store, "image", "c").rglob("*") if path.is_file()).unlink()
        assert re.search(r"image: 1 chunks? .*missing", refused(train, "--data", store))


class TestEncodeAndEvaluate:
    @pytest.mark.parametrize("command", [encode, evaluate])
    def test_missing_run(self, refused, command):
        more = ["--modality", "image", "--out", "codes.zarr"] if command is encode else []
        message = refused(command, "--model", "nowhere", "--data", stored(), *more)
        assert "nowhere does not exist; name the directory of a finished run" in message

    @pytest.mark.parametrize("command", [encode, evaluate])
    def test_missing_data(self, refused, command):
        more = ["--modality", "image", "--out", "codes.zarr"] if command is encode else []
        message = refused(command, "--model", "run", "--data", "nowhere.zarr", *more)
        assert "nowhere.zarr does not exist" in message or "run does not exist" in message

    def test_unfinished_run(self, refused):
        Path("run").mkdir()
        Path("run", "run.json").write_text('{"format": 1, "finished": false}')
        message = refused(evaluate, "--model", "run", "--data", stored())
        assert "is not finished; repeat its training command" in message

    def test_unknown_modality(self, refused):
        store = stored()
        train.main(["--data", store, "--out", "run", "--graph.k", "5", "--bits", "8"])
        message = refused(
            encode, "--model", "run", "--data", store, "--modality", "sound", "--out", "c.zarr"
        )
        assert "modality 'sound' must be in the model and in" in message
        assert "image, text" in message


class TestAcceptedAndReported:
    """Odd but usable data trains, and its oddity stands in the summary or the lines."""

    def train(self, capsys, *options, **changes) -> str:
        store = stored(split=None, labels=None, **changes)
        capsys.readouterr()
        train.main(["--data", store, "--out", "run", "--graph.k", "5", "--bits", "8", *options])
        return capsys.readouterr().err

    def test_duplicates(self, capsys):
        pairs = make_pairs()
        image, text = pairs["image"], pairs["text"]
        image[20:40], text[20:40] = image[:20], text[:20]
        lines = self.train(capsys, image=image, text=text)
        assert len(re.findall(r"rows with a duplicate 40\b", lines)) == 2

    def test_isolated_rows(self, capsys):
        """Far apart from all others, a row is nobody's neighbour in the mutual graph."""
        rng = np.random.default_rng(0)
        image = np.concatenate([rng.normal(size=(ROWS - 1, 20)), -np.ones((1, 20))])
        image[: ROWS - 1] += 10
        lines = self.train(capsys, "--graph.symmetry", "mutual", image=image)
        isolated = re.search(r"graph image: .*isolated (\d+)", lines)
        assert isolated
        assert int(isolated[1]) >= 1

    def test_more_bits_than_dimensions(self, capsys):
        lines = self.train(capsys, "--method.loop_bits", "16")
        few = f"warning: text has {DIMS['text']} dimensions, fewer than the loop's 16 bits"
        assert few in lines
        assert "warning: image" not in lines

    def test_single_zero_row(self, capsys):
        """One row exactly at the mean of its modality."""
        image = make_pairs()["image"].astype(np.float64)
        image[7] = np.delete(image, 7, axis=0).mean(axis=0)
        lines = self.train(capsys, image=image)
        assert re.search(r"graph image: .*zero rows 1\b", lines)
        assert re.search(r"graph text: .*zero rows 0\b", lines)


@pytest.mark.parametrize(
    ("arguments", "named"), [([], ["--model", "--codes"]), (["--model=run"], ["--codes"])]
)
def test_missing_options_are_named_in_one_line(refused, arguments, named):
    message = refused(search, *arguments)
    assert re.findall(r"--\w+(?= \()", message) == named
    assert re.search(r"error: missing --\w+ \([A-Z][^()]+\)", message)
