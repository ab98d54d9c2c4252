"""Curves as one PNG: a panel per metric, a line per run."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..types import UserError
from .scalars import Curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3
DASHES = ("-", "--", ":", "-.")
"""By run, so that lines on top of each other are seen."""
FEW = 40
"""Curves of at most this many points get a mark at each."""


def plot_curves(path: Path, panels: Mapping[str, Mapping[str, Curve]], logarithmic: Sequence[str] = ()) -> None:
    """Write ``path``.

    Args:
        path: of the PNG.
        panels: metric -> run -> curve.
        logarithmic: metrics whose axis is logarithmic.

    Raises:
        UserError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5.2 * columns, 3.4 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    runs = list(dict.fromkeys(run for lines in panels.values() for run in lines))
    for i, (metric, lines) in enumerate(panels.items(), start=1):
        axis = figure.add_subplot(rows, columns, i)
        for run, (steps, values) in lines.items():
            number = runs.index(run)
            mark = "o" if len(steps) <= FEW else None
            look = {"color": f"C{number % 10}", "linestyle": DASHES[number % len(DASHES)], "marker": mark}
            axis.plot(steps, values, label=run, ms=3.5, lw=1.5, **look)  # type: ignore[arg-type]
        every = [v for _, values in lines.values() for v in values]
        if metric in logarithmic and min(every) > 0:
            axis.set_yscale("log")
        elif metric.startswith("eval/") and min(every) >= 0 and max(every) <= 1:
            axis.set_ylim(-0.03, 1.03)  # a rate: the same axis in every panel
        axis.set_title(metric, fontsize=10)
        axis.set_xlabel("optimizer step")
        axis.set_ylabel(metric.rsplit("/", 1)[-1])
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    handles, labels = [], []
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)), frameon=False)
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write ``figure`` as a PNG, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(temporary, dpi=110, format="png")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error}); name another folder") from error
    finally:
        temporary.unlink(missing_ok=True)
