"""`evaluate_checkpoints`: the evaluations of a run's configuration, on every checkpoint it kept, as a curve."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ..types import UserError

if TYPE_CHECKING:
    from ..callbacks.generation import GenerationEval
    from ..trainer_cli import PosttrainCLI

HEADER = ("step", "task", "metric", "value", "stderr", "n")


def evaluate_checkpoints(run: str, *, task: str | None = None, output: str | None = None) -> None:
    """Evaluate every kept checkpoint of a run: eval folders, a table and a curve.

    Args:
        run: run directory.
        task: only this task of the run's evaluations; null = all.
        output: folder for eval/, curve.csv and curve.png; null = ``checkpoint_evals`` in the run.
    """
    import torch

    from ..records.files import write_text
    from ..reports.curves import plot_curves
    from ..reports.evals import evaluations
    from ..reports.tables import as_csv
    from .runs import best_device, checkpoints, load_checkpoint, read_run, run_dtype

    kept = checkpoints(run)
    cli = read_run(run)
    callbacks = _callbacks(cli, run, task)
    folder = Path(output) if output else Path(run) / "checkpoint_evals"
    device, precision = torch.device(best_device()), str(cli.settings.trainer.precision)
    with device:
        cli.model.build(run_dtype(cli))
    done = set()
    for _, path in kept:
        step = load_checkpoint(cli.model, path)
        done.add(step)
        for callback in callbacks:
            found = callback.evaluate(_at(step, folder, device, precision), cli.model)  # type: ignore[arg-type]
            primary = callback.task.primary
            print(f"step {step}: {callback.task.name}/{primary} {found[primary]:.4f}", flush=True)
    points = [e for e in evaluations(folder) if e.step in done]
    rows = [(e.step, e.task, m, v, e.stderr.get(m, ""), e.n) for e in points for m, v in e.metrics.items()]
    panels: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
    for step, name, metric, value, *_ in rows:
        curve = panels.setdefault(f"eval/{name}/{metric}", {}).setdefault(Path(run).resolve().name, ([], []))
        curve[0].append(step)
        curve[1].append(value)
    plot_curves(folder / "curve.png", panels)
    write_text(folder / "curve.csv", as_csv(HEADER, rows))
    print(f"{folder}: eval/, curve.csv and curve.png of {len(kept)} checkpoints")


def _callbacks(cli: PosttrainCLI, run: str, task: str | None) -> list[GenerationEval]:
    """The run's evaluations, with their rows read."""
    from ..callbacks.generation import GenerationEval

    built: list[Any] = cli.config_init["trainer"].get("callbacks") or []
    found = [c for c in built if isinstance(c, GenerationEval)]
    chosen = [c for c in found if task in (None, c.task.name)]
    if not chosen:
        have = ", ".join(c.task.name for c in found)
        remedy = f"task={task}: name one of {have}" if have else "its configuration has no GenerationEval; add one"
        raise UserError(f"{run}: {remedy}")
    for callback in chosen:
        callback.setup(SimpleNamespace(datamodule=cli.datamodule), cli.model, "fit")  # type: ignore[arg-type]
    return chosen


def _at(step: int, folder: Path, device: Any, precision: str) -> SimpleNamespace:
    """What an evaluation asks of a Trainer: one process, no loggers, standing at ``step``."""
    from lightning.pytorch.plugins import MixedPrecision, Precision

    return SimpleNamespace(
        precision_plugin=MixedPrecision("bf16-mixed", device.type) if precision == "bf16-mixed" else Precision(),
        state=SimpleNamespace(fn="fit"),
        global_step=step,
        global_rank=0,
        world_size=1,
        is_global_zero=True,
        strategy=SimpleNamespace(root_device=device),
        callback_metrics={},
        default_root_dir=str(folder),
        loggers=[],
    )
