"""`collate`: the evaluations of several models as one CSV, Markdown table and picture."""

from __future__ import annotations

from pathlib import Path

from ..types import UserError


def collate(
    *bundles: str,
    output: str,
    baseline: str | None = None,
    metrics: list[str] | None = None,
    reference: str | None = None,
    overwrite: bool = False,
) -> None:
    """Collect evaluations of several models in one table, with changes from a baseline and the gates they passed.

    Writes collated.csv (every metric), collated.md (a column per model) and collated.png to a folder.

    Args:
        bundles: NAME=FOLDER or FOLDER: run directories, or eval/step_<n> or eval/step_<n>/<task> of one. Folders under
            one name are one model.
        output: folder for the three files.
        baseline: model that changes are measured from.
        metrics: shown besides each task's primary one.
        reference: YAML file of figures that somebody else reported, such as data/reported/enterprise_smollm2.yaml: the
            table then has each beside ours, and says whether it lies within our 95% interval.
        overwrite: replace the files that are there.

    Raises:
        UserError: a folder without evaluations, another baseline, evaluations of other rows, files in the way, or a
            reference that is none or names other metrics.
    """
    from rich.console import Console
    from rich.table import Table

    from ..records.files import write_text
    from ..reports.collation import HEADER, plot_models, read_models, shown_metrics, table
    from ..reports.collation import collate as collated
    from ..reports.reference import COLUMNS, add_reference, read_reference, reference_table, shown_with
    from ..reports.tables import as_csv, as_markdown

    folder = Path(output)
    if (folder / "collated.csv").exists() and not overwrite:
        raise UserError(f"output={output}: collated.csv is there; add --overwrite, or name another folder")
    if reference is not None and baseline is not None:
        raise UserError(f"reference={reference} and baseline={baseline} give two different tables; give one of them")
    reported = read_reference(reference) if reference is not None else None
    models = read_models(bundles)
    rows = collated(models, baseline)
    shown = shown_metrics(models, metrics or [])
    columns: tuple[str, ...] = HEADER
    if reported is None:
        header, cells = table(rows, models, shown)
        text = f"Baseline: {baseline}. " if baseline else ""
        legend = text + "Cells are value ± standard error (change from the baseline).\n"
    else:
        columns = (*HEADER, *COLUMNS)
        add_reference(rows, reported)
        shown = shown_with(reported, models, shown)
        header, cells = reference_table(rows, models, shown, reported)
        legend = f"{reported.name}: figures of {reference}. Intervals are of our figures, n is how many examples.\n"
    write_text(folder / "collated.csv", as_csv(columns, [[_plain(r[c]) for c in columns] for r in rows]))
    write_text(folder / "collated.md", f"{as_markdown(header, cells)}\n{legend}")
    plot_models(folder / "collated.png", rows, models, shown)
    printed = Table(*header, title=f"{len(models)} models")
    for cell in cells:
        printed.add_row(*cell)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print(printed)
    print(f"{folder}: collated.csv, collated.md and collated.png")


def _plain(value: object) -> object:
    return "" if value is None else value
