"""The report of a run: it shows what the run recorded, in one file."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from srch_dist.config.loading import build_config
from srch_dist.encode.model import load_model
from srch_dist.errors import StorageError
from srch_dist.evaluate.examples import ExampleSample, example_queries
from srch_dist.report import write_page
from srch_dist.report.__main__ import main
from srch_dist.runtime.progress import silent
from srch_dist.storage.run.open import open_run
from srch_dist.train import finish
from srch_dist.train.runner import train_model
from tests.helpers.html_page import HtmlPage
from tests.helpers.models import numpy_bits
from tests.helpers.pages import HOSTILE
from tests.helpers.runs import make_pairs, make_store, no_cluster, train_here

pytestmark = pytest.mark.slow

SECTIONS = ["retrieval", "examples", "training", "rebase", "bits", "graph", "cost", "options"]
CHARTS = {
    *("Precision–recall: image → text", "Precision–recall: text → image"),
    *("Objective by term", "Changed bits", "CG convergence of the Z-step"),
    *("Bit balance and correlation", "Edge weights S: first and last"),
    *("Edge weights S by iteration", "Final codes: bit balance", "Final codes: bit correlation"),
    *("Degree distribution", "Time by stage", "Peak memory by stage", "Time by step"),
}


@pytest.fixture(scope="module")
def page(shown):
    return HtmlPage(shown.run.page)


def page_of(run, tmp_path) -> HtmlPage:
    write_page([run], tmp_path / "page.html")
    return HtmlPage(tmp_path / "page.html")


def test_training_writes_a_page_with_every_section_and_chart(page):
    assert page.section_ids() == SECTIONS
    assert {name for name in page.having("aria-label") if not name.endswith("relevant")} == {
        "Sections",
        *CHARTS,
    }


def test_map_table_has_the_scores_of_the_run_and_of_its_baseline(page, shown):
    evaluation = shown.run.record("evaluation")
    assert evaluation == shown.evaluation
    head, *rows = page.tables[0]
    assert head == ["direction", "codes", "bits", "MAP", "MAP@50", "P@10"]
    found = {(row[0], row[1]): row[2:] for row in rows}
    systems = {
        "this run": (16, evaluation),
        "CCA-ITQ": (12, evaluation["baseline"]),
        "learned codes as database": (16, evaluation["train_codes"]),
    }
    expected = {
        (direction.replace("_to_", " → "), name): [
            str(bits),
            f"{scores['map'][direction]:.3f}",
            f"{scores['map_at_50'][direction]:.3f}",
            f"{scores['precision_at'][direction]['10']:.3f}",
        ]
        for name, (bits, scores) in systems.items()
        for direction in ("image_to_text", "text_to_image")
    }
    assert found == expected


def test_graph_table_has_what_the_graph_reported(page, shown):
    table = next(table for table in page.tables if table[0][0] == "modality")
    reports = shown.run.summary()["graph"]["modalities"]
    assert [row[:4] for row in table[1:]] == [
        [g, "exact", f"{report['recall']:.3f}", f"{report['edges']:,}"]
        for g, report in reports.items()
    ]


def test_iterations_and_options_are_there_in_full(page, shown):
    iterations, options = page.tables[-3], page.tables[-1]
    assert [row[0] for row in iterations[1:]] == [
        str(record["iteration"]) for record in shown.run.history()
    ]
    assert ["graph.k", "5"] in options
    assert ["seed", "7"] in options


def test_examples_are_the_nearest_codes_and_relevant_by_label(shown):
    """Against distances and labels taken from the store."""
    labels, split = shown.store.read("labels"), shown.store.read("split")
    database = np.flatnonzero(split == 0)
    bits = {g: numpy_bits(shown.run.model, g, shown.store.read(g)) for g in ("image", "text")}
    examples = shown.run.record("examples")
    assert list(examples) == ["image_to_text", "text_to_image"]
    for direction, found in examples.items():
        source, target = direction.split("_to_")
        assert len(found) == 6
        for example in found:
            query = example["query"]["row"]
            assert split[query] == 1
            far = np.sum(bits[source][query] != bits[target][database], axis=1)
            nearest = np.lexsort((database, far))[:10]
            assert [item["row"] for item in example["found"]] == database[nearest].tolist()
            assert [item["distance"] for item in example["found"]] == far[nearest].tolist()
            right = (labels[query] * labels[database[nearest]]).any(axis=1)
            assert [item["relevant"] for item in example["found"]] == right.tolist()


def test_examples_are_marked_on_the_page(page, shown):
    items = [
        item
        for found in shown.run.record("examples").values()
        for example in found
        for item in example["found"]
    ]
    marks = ["relevant" if item["relevant"] else "irrelevant" for item in items]
    assert {"relevant", "irrelevant"} == set(marks)
    assert [name for name in page.having("class") if name.endswith("relevant")] == marks
    assert page.text.count("✓") == marks.count("relevant") + 1  # and the legend's
    assert page.text.count("✗") == marks.count("irrelevant") + 1


def test_pictures_are_inside_the_page(page, shown):
    sources = page.having("src")
    pixels = {tuple(one[0, 0]) for one in shown.store.read("thumbnails")}
    assert len(sources) == 6 + 6 * 10
    for source in sources:
        head, _, content = source.partition(",")
        assert head == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            assert picture.size == (6, 6)
            assert picture.getpixel((3, 3)) in pixels


def test_nothing_on_the_page_is_fetched_and_nothing_runs(page):
    assert {tag for tag, _ in page.tags} >= {"svg", "table", "style"}
    assert not {"script", "iframe", "object", "embed", "base", "form"} & {
        tag for tag, _ in page.tags
    }
    for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
        for value in page.having(name):
            assert value.startswith(("#", "data:")), value
    styles = " ".join(re.findall(r"<style.*?</style>", page.source, re.S)) + " ".join(
        page.having("style") + page.having("clip-path")
    )
    assert "@import" not in styles
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", styles))
    policy = next(value for value in page.having("content") if "default-src" in value)
    assert policy.startswith("default-src 'none';")


def test_hostile_titles_and_names_are_text(page):
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    assert not {"i", "script"} & {tag for tag, _ in page.tags}
    assert "bold" not in page.texts
    spoken = page.text + " ".join(page.having("alt"))
    assert [title for title in HOSTILE if title not in spoken] == []
    assert "Run _<i>$a$ & 'b'" in page.text


def test_ids_on_the_page_are_those_of_sections_or_of_drawings_alike(page):
    """A clip or a marker may be drawn twice from the same definition, never from another."""
    definitions: dict[str, str] = {}
    for name, body in re.findall(r'<(?:clipPath|path) id="([^"]+)"([^>]*)>', page.source):
        assert definitions.setdefault(name, body) == body
    assert len(definitions) > 10


def test_old_runs_have_a_page_without_what_they_did_not_record(shown, tmp_path):
    run = tmp_path / "old"
    shutil.copytree(shown.run.path, run)
    for name in ("bits.npz", "evaluation.json", "examples.json", "baseline.npz", "report.html"):
        (run / name).unlink()
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    for record in history:
        for key in ("bit_correlation", "cg_residuals", "s_counts"):
            del record[key]
    (run / "history.jsonl").write_text("".join(json.dumps(one) + "\n" for one in history))
    head = json.loads((run / "run.json").read_text())
    del (
        head["checksums"],
        head["crc32"],
        head["summary"]["modalities"],
        head["summary"]["seconds"]["baseline"],
    )
    for report in head["summary"]["graph"]["modalities"].values():
        del report["degrees"]
    (run / "run.json").write_text(json.dumps(head))
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(re.sub(r"^(baseline|report): .*\n", "", config, flags=re.M))
    page = page_of(run, tmp_path)
    assert page.section_ids() == ["retrieval", "training", "graph", "cost", "options"]
    assert "Not evaluated" in page.text
    assert "Objective by term" in page.having("aria-label")


def test_three_modalities_without_labels_have_recall_of_partners_and_no_baseline(tmp_path):
    pairs = make_pairs(labels=None)
    pairs["sound"] = pairs["text"] + pairs["image"][:, :12]
    store = make_store(tmp_path, **pairs)
    trained = train_here(store.path, tmp_path / "run", report=True, baseline=True)
    page = HtmlPage(trained.run.page)
    assert not trained.run.baseline.exists()
    assert page.section_ids()[0] == "retrieval"
    assert "no labels" in page.text
    # Codes and float queries in six directions; text and sound have float vectors of one width.
    assert len(page.tables[0]) == 1 + 2 * 6 + 2
    assert "examples" not in page.section_ids()


def test_missing_extra_skips_the_page_with_one_line(shown, tmp_path, monkeypatch):
    notes = train_noted(shown, tmp_path, monkeypatch, sys.modules, "matplotlib", None)
    (line,) = [note for note in notes if "no report page" in note]
    assert "matplotlib" in line
    assert "pip install 'srch-dist[report]', or in a clone of the repository: pip" in line


def test_page_that_cannot_be_drawn_does_not_fail_the_run(shown, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no ink")

    notes = train_noted(shown, tmp_path, monkeypatch, vars(finish), "write_page", fail)
    (line,) = [note for note in notes if "no report page" in note]
    assert re.search(r"RuntimeError: no ink; .*python -m srch_dist\.report .*run$", line)


def test_examples_that_cannot_be_read_do_not_fail_the_run(monkeypatch):
    def fail(*_):
        raise StorageError("the chunk with row 3 is damaged")

    for name in ("has_queries", "can_show"):
        monkeypatch.setattr(finish, name, lambda *_: True)
    monkeypatch.setattr(finish, "gather_examples", fail)
    progress = Noted()
    finish.present_run(None, None, build_config({"report": False}), progress)
    assert progress.notes == [
        "no example queries: StorageError: the chunk with row 3 is damaged; to write them, run the "
        "same command with --resume"
    ]


class Noted:
    """Keeps the lines that stay."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stage = silent().stage

    def note(self, message: str) -> None:
        self.notes.append(message)

    warn = note

    def show(self, item, summary=None) -> None:
        """Tables are not looked at."""


def train_noted(shown, tmp_path, monkeypatch, place, name, value) -> list[str]:
    """Train with something replaced; the lines that are shown. The run is finished, unpaged."""
    progress = Noted()
    monkeypatch.setattr("srch_dist.runtime.cluster.connect", no_cluster)
    monkeypatch.setitem(place, name, value)
    out = tmp_path / "run"
    values = {"data": shown.store.path, "out": str(out), "bits": 16, "graph": {"k": 5}}
    trained = train_model(build_config(values), progress)
    assert open_run(out).summary() == trained.run.summary()
    assert trained.run.record("evaluation")["map"] == trained.evaluation["map"]
    assert not trained.run.page.exists()
    return progress.notes


def test_no_report_and_no_baseline_skip_both(shown, tmp_path):
    trained = train_here(shown.store.path, tmp_path / "run")
    assert not trained.run.page.exists()
    assert not trained.run.baseline.exists()
    assert "baseline" not in trained.evaluation
    assert "No baseline" in page_of(trained.run.path, tmp_path).text


def test_command_writes_the_page_again(shown, tmp_path, capsys):
    main([str(shown.run.path), "--out", str(tmp_path / "again.html")])
    assert capsys.readouterr().out == f"page: {tmp_path / 'again.html'}\n"
    assert (tmp_path / "again.html").read_text() == shown.run.page.read_text()


def test_pages_are_the_same_to_the_byte(shown, tmp_path):
    """The drawings hold no date and no random name."""
    assert page_of(shown.run.path, tmp_path).source == shown.run.page.read_text()


@pytest.mark.parametrize("given", [["nowhere"], [], ["RUN", "--out", "no/folder/a.html"]])
def test_bad_input_is_refused_with_exit_code_2(shown, given, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main([str(shown.run.path) if one == "RUN" else one for one in given])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not list(tmp_path.iterdir())


def test_damaged_records_are_refused_by_name(shown, tmp_path):
    shutil.copytree(shown.run.path, tmp_path / "run")
    (tmp_path / "run" / "evaluation.json").write_text("{")
    with pytest.raises(StorageError, match=r"evaluation\.json"):
        write_page([tmp_path / "run"], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_baseline_is_a_model_that_encodes_like_any_other(shown):
    model = load_model(shown.run.baseline)
    assert model.metadata["method"] == "CCA-ITQ"
    bits = numpy_bits(shown.run.baseline, "image", shown.store.read("image"))
    assert bits.shape[1] == 16
    assert 0.2 < bits[:, :12].mean() < 0.8


def test_examples_of_a_large_database_are_searched_in_a_sample_of_it(shown, tmp_path, monkeypatch):
    for module in ("evaluate.examples", "report.page"):
        monkeypatch.setattr(f"srch_dist.{module}.EXAMPLE_ROWS", 20)
    model = load_model(shown.run.path)
    found = [
        example_queries(
            shown.run, shown.store, model, ("image", "text"), ExampleSample(3, 25, seed)
        )
        for seed in (7, 7, 8)
    ]
    rows = [sorted({row for example in one for row in example.rows.tolist()}) for one in found]
    assert [len(one) for one in rows] == [20, 20, 20]
    assert rows[0] == rows[1] != rows[2]
    assert set(rows[0]) <= set(np.flatnonzero(shown.store.read("split") == 0).tolist())
    assert "20 sampled rows of the database" in page_of(shown.run.path, tmp_path).text
