"""`experiments`: methods against each other over the number of training samples, one run after the other.

Every run is a process of its own. What is finished is not done again and what was interrupted goes on, so the command
is simply given again; the comparison is rewritten after every run. Processes are the business of `processes`, tables
and the picture of `reports.experiments`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..env_config import load_file
from ..types import UserError
from .processes import launch

if TYPE_CHECKING:
    from ..reports.evals import Evaluation
    from ..reports.experiments import Result

NOTE = "experiment.json"
"""In a run directory: what the run was made with."""
TAIL = 15
"""Lines of its log that are shown of a failed run."""


@dataclass(frozen=True)
class Method:
    """What is run at every size."""

    config: list[str]
    """Files for ``fit``, later ones over earlier ones."""
    size_key: str
    """Option that takes the size, such as ``data.first_examples``."""
    options: list[str] = field(default_factory=list)
    """More words of its command line, such as ``--data.seed=1``."""


@dataclass(frozen=True)
class Stage:
    """What is done once, before the grid."""

    config: list[str]
    """Files for ``command``, later ones over earlier ones."""
    command: Literal["fit", "validate", "traces"] = "fit"
    """Command of lightning-posttrain."""
    dir: str | None = None
    """Run directory of ``fit`` and ``validate``: what later configurations name."""
    output: str | None = None
    """File that ``traces`` writes."""
    options: list[str] = field(default_factory=list)
    """More words of its command line."""


@dataclass(frozen=True)
class Run:
    """One process to be run.

    Args:
        name: its name, for messages.
        method: method or stage.
        size: training samples; None for a stage.
        words: the command line after ``lightning-posttrain``, without the place.
        place: run directory, or file that is made.
        config: the files among ``words``.
    """

    name: str
    method: str
    size: int | None
    words: list[str]
    place: Path
    config: list[str]

    @property
    def command(self) -> str:
        return self.words[0]

    @property
    def log(self) -> Path:
        return Path(f"{self.place}.log.txt") if self.command == "traces" else self.place / "log.txt"

    @property
    def line(self) -> list[str]:
        """The whole command line; a `fit` goes on where an earlier one stopped."""
        where = "--output_file" if self.command == "traces" else "--run.dir"
        return [*self.words, f"{where}={self.place}", *(["--run.resume=true"] if self.command == "fit" else [])]


def experiments(
    *,
    output_dir: str,
    methods: dict[str, Method],
    sizes: list[int],
    task: str,
    metrics: list[str],
    before: list[Stage] | None = None,
    overrides: list[str] | None = None,
    dry_run: bool = False,
    keep_going: bool = False,
) -> int:
    """Run methods with different numbers of training samples and compare what they reach.

    Writes a run directory for each, and comparison.csv, comparison.md and comparison.png. Given again, it skips what
    is finished and continues what is not.

    Args:
        output_dir: folder for the runs (METHOD-SIZE) and the comparison.
        methods: name -> config, size_key and options of a `fit`.
        sizes: numbers of training samples, in the order in which they are run.
        task: name of the task whose evaluation after the last step is compared.
        metrics: its metrics in the comparison.
        before: what is done once before the grid: config, command, dir or output, and options.
        overrides: words that are added to the command line of every run of the grid.
        dry_run: only check the configurations and print the commands.
        keep_going: go on after a run that failed.

    Returns:
        0; 1 after a run that failed, or 128 + the signal's number after SIGINT or SIGTERM.

    Raises:
        UserError: a setting or configuration is wrong, or a finished run was made with another one.
    """
    plan = make_plan(Path(output_dir), methods, sizes, before or [], overrides or [])
    if not metrics:
        raise UserError("metrics=[]: name at least one metric of the task, such as accuracy")
    _check_configs(plan, task)
    if dry_run:
        for run in plan:
            print(f"lightning-posttrain {shlex.join(run.line)}")
        return 0
    return _go_through(plan, Path(output_dir), task, metrics, keep_going)


def make_plan(
    folder: Path, methods: dict[str, Method], sizes: list[int], before: list[Stage], overrides: list[str]
) -> list[Run]:
    """Every run, in order: stages, then all methods with the first size, and so on.

    Raises:
        UserError: a name, size or place is wrong.
    """
    if not sizes or min(sizes) < 1 or len(set(sizes)) < len(sizes):
        raise UserError(f"sizes={sizes}: give different numbers of training samples, at least 1 each")
    if not methods or not all(re.fullmatch(r"\w[\w.-]*", name) for name in methods):
        raise UserError(f"methods={list(methods)}: give at least one; names are parts of folders' names, like full_sft")
    plan = [_stage(number, stage) for number, stage in enumerate(before)]
    for size in sizes:
        for name, method in methods.items():
            words = ["fit", *_files(method.config), f"--{method.size_key}={size}", *overrides, *method.options]
            run = Run(f"{name}, n={size}", name, size, words, folder / f"{name}-{size}", method.config)
            plan.append(run)
    return plan


def _stage(number: int, stage: Stage) -> Run:
    needed, other = ("output", "dir") if stage.command == "traces" else ("dir", "output")
    place = getattr(stage, needed)
    if not place or getattr(stage, other):
        raise UserError(f"before[{number}]: {stage.command} needs `{needed}`, and no `{other}`; now {stage}")
    words = [stage.command, *_files(stage.config), *stage.options]
    return Run(Path(place).name, Path(place).name, None, words, Path(place), stage.config)


def _files(config: list[str]) -> list[str]:
    return [word for path in config for word in ("-c", path)]


def _check_configs(plan: list[Run], task: str) -> None:
    """Build the configuration of every stage, and of every method at one size, before hours are spent.

    Raises:
        UserError: one is refused, or has no evaluation of the task.
    """
    from ..callbacks.generation import GenerationEval
    from ..trainer_cli import PosttrainCLI
    from .runs import fit_args

    checked = set()
    for run in plan:
        if run.command == "traces":
            for path in run.config:
                load_file(Path(path))
        if run.command == "traces" or run.method in checked:
            continue
        checked.add(run.method)
        try:
            with fit_args(run.words[1:]) as args:
                trainer = PosttrainCLI(args, run=False).config_init["trainer"]
        except SystemExit as stop:
            words = shlex.join(run.line)
            raise UserError(f"{run.name}: the command is refused, see above: lightning-posttrain {words}") from stop
        found = [c.task.name for c in trainer.get("callbacks") or [] if isinstance(c, GenerationEval)]
        if task not in found and run.size is not None:
            raise UserError(f"task={task}: the evaluations of {run.name} are of {found}; name one, or add a callback")


def _go_through(plan: list[Run], folder: Path, task: str, metrics: list[str], keep_going: bool) -> int:
    from ..reports.experiments import summary, write_comparison

    failed: set[str] = set()

    def results() -> list[Result]:
        return [found for run in plan if (found := _result(run, task, run.name in failed)) is not None]

    for run in plan:
        _check_note(run)
    for number, run in enumerate(plan, start=1):
        told = f"[{number}/{len(plan)}] {run.name}"
        if is_finished(run):
            print(f"{told}: finished already", flush=True)
        else:
            print(f"{told}: running, log in {run.log}", flush=True)
            _write_note(run)
        code, signum = _bring_to_end(run, task)
        if code and not signum:
            failed.add(run.name)
        found = results()
        write_comparison(folder, found, metrics)
        if signum:
            print(f"{told}: stopped by a signal; the same command goes on from here", file=sys.stderr)
            return 128 + signum
        if code:
            print(f"{told}: failed with exit code {code}; the end of {run.log}:", file=sys.stderr)
            print("\n".join(f"  {line}" for line in _tail(run.log)), file=sys.stderr)
            if not keep_going or run.size is None:  # the grid builds on the stages
                return 1
        elif run.size is not None:
            reached = next(r for r in found if (r.method, r.size) == (run.method, run.size))
            print(f"{told}: {summary(reached, metrics)}", flush=True)
    print(f"{folder}: comparison.md, comparison.csv and comparison.png of {len(plan)} runs, {len(failed)} failed")
    return 1 if failed else 0


def _bring_to_end(run: Run, task: str) -> tuple[int, int]:
    """Run what is left of ``run``; exit code, and the signal that was received meanwhile or 0."""
    if not is_finished(run):
        code, signum = launch(run.line, run.log)
        if code or signum:
            return code, signum
        if not is_finished(run):
            raise UserError(f"{run.place}: {run.name} ended without its result; see {run.log}")
    if run.size is not None and _evaluation(run, task) is None:
        # A run that was killed in its last evaluation is over when it is resumed: there is no step left to take.
        return launch(["evaluate_checkpoints", str(run.place), "--task", task, "--output", str(run.place)], run.log)
    return 0, 0


def is_finished(run: Run) -> bool:
    """Whether everything that ``run`` writes is there, but for the last evaluation of a `fit`."""
    if run.command == "traces":
        return run.place.is_file()
    if run.command == "validate":
        return any(run.place.glob("eval/step_*/*/metrics.json"))
    return _facts(run).get("status") == "finished" and (run.place / "model").is_dir()


def _facts(run: Run) -> dict[str, Any]:
    try:
        found = json.loads((run.place / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _evaluation(run: Run, task: str) -> Evaluation | None:
    """The evaluation after the last step."""
    from ..reports.evals import evaluations

    found = [e for e in evaluations(run.place) if e.task == task]
    last = found[-1] if found else None
    return last if last and (run.command != "fit" or last.step == _facts(run).get("steps")) else None


def _result(run: Run, task: str, failed: bool) -> Result | None:
    """None for a stage without evaluations."""
    from ..reports.experiments import Result

    if run.command == "traces":
        return None
    evaluation = _evaluation(run, task) if is_finished(run) else None
    status = "failed" if failed else "finished" if evaluation else "unfinished" if _facts(run) else "not started"
    return None if run.size is None and evaluation is None else Result(run.method, run.size, status, evaluation)


def _tail(log: Path) -> list[str]:
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return [line for line in text.splitlines() if line.strip()][-TAIL:]


# ---- what a run was made with -----------------------------------------------------------------------------------------


def _note(run: Run) -> dict[str, Any]:
    configs = [load_file(Path(path)) for path in run.config]
    digest = hashlib.sha256(json.dumps(configs, sort_keys=True, default=str).encode()).hexdigest()
    return {"words": run.words, "config_sha256": digest}


def _write_note(run: Run) -> None:
    from ..reports.tables import write_text

    if run.command == "fit":  # `traces` keeps account of itself, and `validate` is never continued
        write_text(run.place / NOTE, json.dumps(_note(run), indent=2) + "\n")


def _check_note(run: Run) -> None:
    """Refuse to compare, or to continue, a run of other settings. A run without a note was made by hand: accepted.

    Raises:
        UserError: naming what differs.
    """
    path = run.place / NOTE
    if run.command != "fit" or not path.is_file() or not _facts(run):
        return
    before, now = json.loads(path.read_text(encoding="utf-8")), _note(run)
    if before != now:
        same = before.get("words") == now["words"]
        change = (
            f"the content of {', '.join(run.config)} or of variables in them has changed"
            if same
            else f"it was `{shlex.join(before.get('words', []))}`, now `{shlex.join(now['words'])}`"
        )
        raise UserError(
            f"{run.place}: was made with other settings: {change}; restore them, delete {run.place} to run it again, "
            "or name another output_dir"
        )
