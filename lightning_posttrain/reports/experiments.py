"""The comparison of an experiment: what each method reached with each number of samples, as tables and one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..records.files import write_text
from ..types import UserError
from .curves import COLUMNS, DASHES, save_figure
from .evals import Evaluation
from .tables import as_csv, as_markdown, number


@dataclass(frozen=True)
class Result:
    """What is known of one run.

    Args:
        method: name of what was run.
        size: training samples; None for a run that is not part of the grid.
        status: ``finished``, ``failed``, ``unfinished`` or ``not started``.
        evaluation: after its last step; None unless finished.
    """

    method: str
    size: int | None
    status: str
    evaluation: Evaluation | None


def write_comparison(folder: Path, results: Sequence[Result], metrics: Sequence[str]) -> None:
    """Write comparison.csv, comparison.md and, once there is a point to draw, comparison.png.

    Args:
        folder: for the three files; those of an earlier time are replaced.
        results: in the order of the rows.
        metrics: columns and panels.

    Raises:
        UserError: an evaluation has no such metric, or a file cannot be written.
    """
    ends = [f"{name}{end}" for name in metrics for end in ("", "_low", "_high")]
    exact = [[*_facts(r), *(x for name in metrics for x in _numbers(r.evaluation, name))] for r in results]
    write_text(folder / "comparison.csv", as_csv(("method", "n", "status", "step", "examples", *ends), exact))
    told = [[*_facts(r), *(_told(*_numbers(r.evaluation, name)) for name in metrics)] for r in results]
    table = as_markdown(("method", "n", "status", "step", "examples", *metrics), told)
    drawn = any(r.size is not None and r.evaluation is not None for r in results)
    page = f"# Comparison\n\n{table}\nIn brackets: 95% confidence intervals over the evaluated examples.\n"
    write_text(folder / "comparison.md", page + ("\n![comparison](comparison.png)\n" if drawn else ""))
    if drawn:
        plot_sizes(folder / "comparison.png", results, metrics)


def plot_sizes(path: Path, results: Sequence[Result], metrics: Sequence[str]) -> None:
    """A panel per metric: its value with a 95% interval over the number of samples, a line per method.

    Runs outside the grid are level lines. Methods are moved a little to the side, so that intervals do not hide
    each other.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    figure = Figure(figsize=(5.2 * columns, 3.4 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    methods = list(dict.fromkeys(r.method for r in results if r.size is not None))
    sizes = sorted({r.size for r in results if r.size is not None})
    for place, name in enumerate(metrics, start=1):
        axis = figure.add_subplot(rows, columns, place)
        for i, method in enumerate(methods):
            found = [(r.size, *_numbers(r.evaluation, name)) for r in results if r.method == method and r.evaluation]
            points = sorted((n, v, low, high) for n, v, low, high in found if n is not None and v is not None)
            x = [n * 1.03 ** (i - (len(methods) - 1) / 2) for n, *_ in points]
            y = [v for _, v, _, _ in points]
            below = [0.0 if low is None else max(v - low, 0.0) for _, v, low, _ in points]
            above = [0.0 if high is None else max(high - v, 0.0) for _, v, _, high in points]
            line = DASHES[i % len(DASHES)]
            axis.errorbar(x, y, [below, above], label=method, color=f"C{i % 10}", ls=line, marker="o", ms=4, capsize=3)
        for j, result in enumerate(r for r in results if r.size is None and r.evaluation):
            level = _numbers(result.evaluation, name)[0]
            if level is not None:
                axis.axhline(level, color="0.45", ls=DASHES[(j + 2) % len(DASHES)], lw=1, label=result.method)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.set_xlabel("training samples")
        axis.set_title(name, fontsize=10)
        axis.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)), frameon=False)
    save_figure(figure, path)


def summary(result: Result, metrics: Sequence[str]) -> str:
    """One line of what a finished run reached."""
    return ", ".join(f"{name} {_told(*_numbers(result.evaluation, name))}" for name in metrics)


def _facts(result: Result) -> list[object]:
    found = result.evaluation
    size = "" if result.size is None else result.size
    return [result.method, size, result.status, found.step if found else "", found.n if found else ""]


def _numbers(found: Evaluation | None, name: str) -> tuple[float | None, float | None, float | None]:
    """Value of a metric and the ends of its interval."""
    if found is None:
        return None, None, None
    if name not in found.metrics:
        raise UserError(f"metrics={name}: {found.folder} has {', '.join(sorted(found.metrics))}")
    return found.metrics[name], *found.ci95.get(name, (None, None))


def _told(value: float | None, low: float | None, high: float | None) -> str:
    return number(value) + ("" if low is None else f" [{number(low)}, {number(high)}]")
