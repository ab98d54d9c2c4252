"""`report`: curves and tables of one or several runs, from what they logged; nothing is computed again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..types import UserError

if TYPE_CHECKING:
    from ..reports.scalars import RunCurves

HEADER = ("run", "metric", "last", "at step", "best", "best at step", "better is")
FACTS = ("run", "status", "steps", "wall time (s)", "tokens/s (median)", "trained parameters", "device")


def report(*runs: str, output: str | None = None, all_curves: bool = False) -> None:
    """Write curves.png, metrics.csv and report.md for one or several runs; of rollouts, their rewards and samples too.

    Runs that started from one another's model are shown stage by stage, with what each made worse.

    Args:
        runs: run directories.
        output: folder for the three files; those of an earlier report are replaced. null = ``report`` in the directory
            of the one run.
        all_curves: also plot what only concerns speed and memory (``perf/``, ``seconds``).
    """
    from ..records.files import write_text
    from ..reports.curves import plot_curves
    from ..reports.rollouts import rollout_section
    from ..reports.scalars import read_curves
    from ..reports.stages import stages_section
    from ..reports.tables import as_csv, as_markdown, number

    if output is None and len(runs) > 1:
        raise UserError(f"output=null with {len(runs)} runs; say where their report goes: --output FOLDER")
    found = [read_curves(run) for run in runs]
    names = [run.name for run in found]
    if len(set(names)) < len(names):
        raise UserError(f"runs={list(runs)}: two directories have one name; rename one, lines are labelled by it")
    folders = dict(zip(names, map(Path, runs), strict=True))
    rollouts, stages = rollout_section(folders), stages_section(folders)
    tags = sorted({tag for run in found for tag in run.curves}, key=_place)
    drawn = [t for t in tags if all_curves or not (t.startswith("perf/") or t.endswith("/seconds"))]
    folder = Path(runs[0], "report") if output is None else Path(output)
    plot_curves(
        folder / "curves.png",
        {tag: {run.name: run.curves[tag] for run in found if tag in run.curves} for tag in drawn},
        logarithmic=("train/grad_norm",),
    )
    rows = [row for run in found for row in _rows(run, tags)]
    write_text(folder / "metrics.csv", as_csv(HEADER, rows))
    short = [[number(cell) if isinstance(cell, float) else cell for cell in row] for row in rows]
    facts = as_markdown(FACTS, [_facts(run) for run in found])
    page = f"# Runs\n\n{facts}\n![curves](curves.png)\n\n# Metrics\n\n{as_markdown(HEADER, short)}"
    suite = _suite(runs, folder)
    write_text(folder / "report.md", page + stages + rollouts + suite)
    if stages:
        print(stages)
    print(f"{folder}: report.md, metrics.csv and curves.png of {', '.join(names)}")


def _suite(runs: tuple[str, ...], folder: Path) -> str:
    """A line about the suite of tasks that several runs were all evaluated on, whose files are written; or nothing."""
    from ..reports.evals import evaluations
    from ..reports.suite_sources import suite_of_runs
    from ..reports.suite_tables import write_suite

    tasks = [{e.task for e in evaluations(Path(run)) if "bpb" in e.metrics} for run in runs]
    if len(runs) < 2 or not tasks[0] or any(found != tasks[0] for found in tasks):
        return ""
    suite = suite_of_runs(runs, "bpb")
    if len(suite.runs) < 2:
        return ""
    write_suite(folder, suite, runs=runs)
    return f"\n# Suite\n\nBits per byte of {len(tasks[0])} tasks: [suite.md](suite.md)\n"


def _place(tag: str) -> tuple[int, str]:
    """Training first, then validation, evaluation, the rest."""
    first = ("train/loss", "val/nll", "train/lr", "train/grad_norm")
    groups = ("train/", "val/", "eval/")
    if tag in first:
        return first.index(tag), tag
    return next((i for i, g in enumerate(groups, start=len(first)) if tag.startswith(g)), 9), tag


def _rows(run: RunCurves, tags: list[str]) -> list[list[object]]:
    from ..reports.scalars import best, lower_is_better

    rows: list[list[object]] = []
    for tag in tags:
        if tag in run.curves:
            steps, values = run.curves[tag]
            ideal = best(tag, run.curves[tag]) or ("", "")
            direction = "lower" if lower_is_better(tag) else "higher"
            if tag.split("/")[0] not in ("train", "val", "eval") or tag in ("train/lr", "train/grad_norm"):
                ideal, direction = ("", ""), ""  # no value of these is better than another
            rows.append([run.name, tag, values[-1], steps[-1], ideal[1], ideal[0], direction])
    return rows


def _facts(run: RunCurves) -> list[object]:
    import statistics

    speeds = run.curves.get("perf/tokens_per_s_effective", ([], []))[1]
    trained = run.facts.get("parameters", {}).get("trained")
    return [
        run.name,
        run.facts.get("status", "no run.json"),
        run.facts.get("steps", ""),
        run.facts.get("wall_seconds", ""),
        f"{statistics.median(speeds):,.0f}" if speeds else "",
        f"{trained:,}" if isinstance(trained, int) else "",
        run.facts.get("device", ""),
    ]
