"""Build the HTML report of one run from its sections."""

from __future__ import annotations

from srch_dist.evaluate.examples import EXAMPLE_ROWS
from srch_dist.plan.table import duration
from srch_dist.report import cost_charts, retrieval_charts, training_charts
from srch_dist.report.records import RunRecords, direction_label
from srch_dist.report.render import Section, Tile, render
from srch_dist.report.tables import Table, flatten, number, plural, size

_SYMMETRY = {
    "union": "union (edges found from either end)",
    "mutual": "intersection (edges found from both ends)",
}


def run_page(run: RunRecords) -> str:
    """Build the HTML report of one run."""
    dims = ", ".join(f"{g} {dim}-d" for g, dim in run.summary.get("modalities", {}).items())
    text = (
        f"{run.summary['rows']:,} pairs ({dims}), {run.config['bits']} bits, preset "
        f"{run.config['preset']}, seed {run.config['seed']}."
    )
    return render(f"Run {run.name}", text, _tiles(run), run_sections(run))


def run_sections(run: RunRecords) -> list[Section]:
    """Build the sections of the report of one run."""
    sections = [
        _retrieval(run),
        _examples(run),
        _training(run),
        _rebase(run),
        _bits(run),
        _graph(run),
        _cost(run),
        _options(run),
    ]
    return [section for section in sections if section]


def _tiles(run: RunRecords) -> list[Tile]:
    summary, tiles = run.summary, []
    evaluation = run.evaluation or {}
    for direction, value in evaluation.get("map", {}).items():
        baseline = evaluation.get("baseline")
        note = f"{baseline['method']} {number(baseline['map'][direction])}" if baseline else ""
        tiles.append(Tile(f"MAP {direction_label(direction)}", number(value), note))
    recall = min(report["recall"] for report in summary["graph"]["modalities"].values())
    tiles += [
        Tile("Iterations", str(summary["iterations"]), summary["reason"]),
        Tile("kNN recall", number(recall), "lowest of the modalities"),
        Tile("Time", duration(sum(summary["seconds"].values())), "wall clock, without evaluation"),
        Tile("Peak memory", size(max(summary["peak_memory"].values())), "largest process"),
    ]
    return tiles


def _retrieval(run: RunRecords) -> Section | None:
    evaluation = run.evaluation
    if evaluation is None:
        return Section(
            "retrieval",
            "Retrieval",
            "Not evaluated: the data have no queries (an array split, or --queries N), or training "
            "ran with --no-evaluate.",
        )
    text = (
        f"{evaluation['queries']:,} queries against {evaluation['database']:,} database rows, both "
        "encoded out of sample. Scores are means over all orders of rows at equal distance."
    )
    if "map" not in evaluation:
        text += " The data have no labels, so only the recall of the true partner is measured."
        return Section("retrieval", "Retrieval", text, tables=[retrieval_charts.pair_table(run)])
    if "baseline" in evaluation:
        text += f" The baseline {evaluation['baseline']['method']} is not tuned."
    else:
        text += " No baseline: CCA-ITQ needs exactly two modalities, and --no-baseline skips it."
    charts = [retrieval_charts.precision_recall_chart([run], d) for d in run.directions]
    tables = [retrieval_charts.map_table([run])]
    folded = {"Recall of the true partner": retrieval_charts.pair_table(run)}
    return Section("retrieval", "Retrieval", text, charts, tables, folded)


def _examples(run: RunRecords) -> Section | None:
    if not run.examples:
        return None
    text = "Sampled queries and the rows with the nearest codes, with their Hamming distances."
    if (run.evaluation or {}).get("database", 0) > EXAMPLE_ROWS:
        text += f" Only {EXAMPLE_ROWS:,} sampled rows of the database are searched here."
    labelled = any(
        "relevant" in item
        for examples in run.examples.values()
        for example in examples
        for item in example["found"]
    )
    if labelled:
        text += " ✓: shares a label with the query; ✗: does not."
    return Section("examples", "Examples", text, examples=run.examples)


def _training(run: RunRecords) -> Section:
    charts = [training_charts.objective_chart(run), training_charts.changed_bits_chart(run)]
    if any(record.get("cg_residuals") for record in run.history):
        charts.append(training_charts.residual_chart(run))
    charts.append(training_charts.balance_chart(run))
    columns = ["iteration", "objective", "changed bits", "effective bits", "α", "CG iterations",
               "seconds"]  # fmt: skip
    rows = [
        [
            str(record["iteration"]),
            f"{record['objective']:.6g}",
            f"{record['changed_bits']:.3%}",
            f"{record['effective_bits']:.1f}",
            "–" if record["alpha"] is None else f"{record['alpha']:.4g}",
            str(record["cg_iterations"]),
            f"{sum(record['seconds'].values()):.2f}",
        ]
        for record in run.history
    ]
    return Section(
        "training",
        "Training",
        "Measures of Algorithm 1 after each iteration.",
        charts,
        folded={"All iterations": Table(columns, rows, numeric=0)},
    )


def _rebase(run: RunRecords) -> Section | None:
    if not any(record.get("s_counts") for record in run.history):
        return None
    text = (
        "Every edge of the graph starts with weight S = 1. The S-step of each iteration re-weights "
        "an edge by the distance of its ends in the embedding Z (Eq. 15)."
    )
    if not run.config["method"]["rebase"]:
        text = "The S-step was off (method.rebase): S stays 1 on every edge."
    charts = [training_charts.rebase_chart(run), training_charts.rebase_history_chart(run)]
    return Section("rebase", "Rebase", text, charts)


def _bits(run: RunRecords) -> Section | None:
    if run.bits is None:
        return None
    charts = [
        training_charts.bit_means_chart(run.bits["means"]),
        training_charts.correlation_chart(run.bits["correlations"]),
    ]
    condensed = run.summary["condensed"]
    text = "The stored codes of all training rows."
    if condensed:
        text += (
            f" PCA-ITQ spreads {condensed['directions']} directions, which hold "
            f"{condensed['share']:.0%} of the variance of the scores, over all bits. The codes "
            f"hold as much information as {condensed['effective_bits']:.1f} independent bits."
        )
    return Section("bits", "Final codes", text, charts)


def _graph(run: RunRecords) -> Section:
    graph, weights = run.summary["graph"], run.summary["weights"]
    columns = ["modality", "search", "recall", "edges", "mean degree", "mutual", "isolated",
               "duplicates", "weight"]  # fmt: skip
    rows = [
        [
            g,
            report["method"],
            number(report["recall"]),
            f"{report['edges']:,}",
            f"{report['mean_degree']:.1f}",
            f"{report['mutual']:.0%}",
            f"{report['isolated']:,}",
            f"{report['duplicates']:,}",
            f"{weights[g]:.2f}",
        ]
        for g, report in graph["modalities"].items()
    ]
    text = (
        f"k-nearest-neighbour graphs, k = {run.config['graph']['k']}, made symmetric by "
        f"{_SYMMETRY[run.config['graph']['symmetry']]}. The graphs of all modalities together have "
        f"{plural(graph['components'], 'connected component')}. Recall is measured against exact "
        f"search on up to {run.config['graph']['recall_rows']:,} sampled rows."
    )
    recorded = all("degrees" in report for report in graph["modalities"].values())
    charts = [cost_charts.degree_chart(run)] if recorded else []
    return Section("graph", "Graph", text, charts, [Table(columns, rows, numeric=2)])


def _cost(run: RunRecords) -> Section:
    charts = [
        cost_charts.stage_time_chart([run]),
        cost_charts.stage_memory_chart(run),
        cost_charts.step_time_chart(run),
    ]
    plan = run.plan
    text = (
        f"{plural(plan['workers'], 'worker')} with a memory limit of {size(plan['memory_limit'])} "
        f"each, {plural(plan['partitions'], 'partition')}, "
        f"{plural(plan['blocks'], 'Z-step block')}, {run.summary['precision']} arithmetic. The "
        f"plan estimated {duration(plan['seconds'])}."
    )
    return Section("cost", "Time and memory", text, charts)


def _options(run: RunRecords) -> Section:
    rows = [[name, value] for name, value in flatten(run.config).items()]
    return Section(
        "options",
        "Options",
        "Every option of the run with its resolved value.",
        folded={"All options": Table(["option", "value"], rows, numeric=9)},
    )
