"""The page of one run."""

from __future__ import annotations

from srch_dist.evaluate.examples import EXAMPLE_ROWS
from srch_dist.report import cost_charts, retrieval_charts, training_charts
from srch_dist.report.records import RunRecords, shown
from srch_dist.report.render import Section, Tile, render
from srch_dist.report.tables import Table, counted, duration, flat, number, size


def run_page(run: RunRecords) -> str:
    """The HTML of a run's page."""
    dims = ", ".join(f"{g} {dim}" for g, dim in run.summary.get("modalities", {}).items())
    text = (
        f"{run.summary['rows']:,} pairs ({dims}), {run.config['bits']} bits, preset "
        f"{run.config['preset']}, seed {run.config['seed']}."
    )
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
    return render(f"Run {run.name}", text, _tiles(run), [one for one in sections if one])


def _tiles(run: RunRecords) -> list[Tile]:
    summary, tiles = run.summary, []
    evaluation = run.evaluation or {}
    for direction, value in evaluation.get("map", {}).items():
        baseline = evaluation.get("baseline")
        beside = f"{baseline['method']} {number(baseline['map'][direction])}" if baseline else ""
        tiles.append(Tile(f"MAP {shown(direction)}", number(value), beside))
    recall = min(report["recall"] for report in summary["graph"]["modalities"].values())
    tiles += [
        Tile("Iterations", str(summary["iterations"]), summary["reason"]),
        Tile("kNN recall", number(recall), "of the least sure modality"),
        Tile("Time", duration(sum(summary["seconds"].values())), "wall-clock, without evaluation"),
        Tile("Peak memory", size(max(summary["peak_memory"].values())), "of any process"),
    ]
    return tiles


def _retrieval(run: RunRecords) -> Section | None:
    evaluation = run.evaluation
    if evaluation is None:
        return Section(
            "retrieval",
            "Retrieval",
            "Not evaluated: the data has no queries (an array split, or --queries N), or training "
            "was asked not to (--no-evaluate).",
        )
    text = (
        f"{evaluation['queries']:,} queries against {evaluation['database']:,} rows, both coded "
        "out of sample; rows at equal distance in random order, by expectation."
    )
    if "map" not in evaluation:
        text += " There are no labels, so there is recall of the true partner alone."
        return Section("retrieval", "Retrieval", text, tables=[retrieval_charts.pair_table(run)])
    if "baseline" in evaluation:
        text += f" {evaluation['baseline']['method']} as it comes, without tuning."
    else:
        text += " No baseline: CCA-ITQ is of two modalities, and --no-baseline leaves it out."
    charts = [retrieval_charts.precision_recall_chart([run], d) for d in run.directions]
    tables = [retrieval_charts.map_table([run])]
    folded = {"Recall of the true partner": retrieval_charts.pair_table(run)}
    return Section("retrieval", "Retrieval", text, charts, tables, folded)


def _examples(run: RunRecords) -> Section | None:
    if not run.examples:
        return None
    text = "Queries chosen by seed, and the rows with the nearest codes, nearest first."
    if (run.evaluation or {}).get("database", 0) > EXAMPLE_ROWS:
        text += f" Of the database, {EXAMPLE_ROWS:,} rows chosen by seed are looked at here."
    labelled = any(
        "relevant" in item
        for found in run.examples.values()
        for example in found
        for item in example["found"]
    )
    if labelled:
        text += " ✓ shares a label with the query, ✗ does not."
    return Section("examples", "Examples", text, examples=run.examples)


def _training(run: RunRecords) -> Section:
    charts = [training_charts.objective_chart(run), training_charts.changed_bits_chart(run)]
    if any(record.get("cg_residuals") for record in run.history):
        charts.append(training_charts.residual_chart(run))
    charts.append(training_charts.balance_chart(run))
    columns = ["iteration", "objective", "changed bits", "effective bits", "α", "CG", "seconds"]
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
        "Algorithm 1, iteration by iteration.",
        charts,
        folded={"All iterations": Table(columns, rows, numeric=0)},
    )


def _rebase(run: RunRecords) -> Section | None:
    if not any(record.get("s_counts") for record in run.history):
        return None
    text = (
        "The graph is set with S = 1 on every edge; each rebase weighs an edge by how near its "
        "two ends have come in the embedding."
    )
    if not run.config["method"]["rebase"]:
        text = "The rebase was off (method.rebase): S stays 1 on every edge."
    charts = [training_charts.rebase_chart(run), training_charts.rebase_history_chart(run)]
    return Section("rebase", "The rebase", text, charts)


def _bits(run: RunRecords) -> Section | None:
    if run.bits is None:
        return None
    charts = [
        training_charts.bit_means_chart(run.bits["means"]),
        training_charts.correlation_chart(run.bits["correlations"]),
    ]
    condensed = run.summary["condensed"]
    text = "The codes as they are stored, over all training rows."
    if condensed:
        text += (
            f" They are spread from {condensed['directions']} directions, which keep "
            f"{condensed['share']:.0%} of the variance of the scores, and are worth "
            f"{condensed['effective_bits']:.1f} independent bits."
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
        f"The k nearest neighbours of each row, k = {run.config['graph']['k']}, both ends of an "
        f"edge ({run.config['graph']['symmetry']}); "
        f"{counted(graph['components'], 'connected component')} over all modalities. Recall is "
        f"against exact search on up to {run.config['graph']['recall_rows']} rows."
    )
    known = all("degrees" in report for report in graph["modalities"].values())
    charts = [cost_charts.degree_chart(run)] if known else []
    return Section("graph", "Graph", text, charts, [Table(columns, rows, numeric=2)])


def _cost(run: RunRecords) -> Section:
    charts = [
        cost_charts.stage_time_chart([run]),
        cost_charts.stage_memory_chart(run),
        cost_charts.step_time_chart(run),
    ]
    plan = run.plan
    text = (
        f"{counted(plan['workers'], 'worker')} of {size(plan['memory_limit'])}, "
        f"{counted(plan['partitions'], 'partition')}, {counted(plan['blocks'], 'block')} of the "
        f"Z-step, arithmetic in {run.summary['precision']}. The plan expected "
        f"{duration(plan['seconds'])}."
    )
    return Section("cost", "Time and memory", text, charts)


def _options(run: RunRecords) -> Section:
    rows = [[name, value] for name, value in flat(run.config).items()]
    return Section(
        "options",
        "Options",
        "Every option of the run, resolved.",
        folded={"All options": Table(["option", "value"], rows, numeric=9)},
    )
