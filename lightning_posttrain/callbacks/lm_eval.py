"""Any task of lm-eval by name, on the model as it is, while it trains.

lm-eval reseeds every generator, leaves the model in eval mode and changes the tokenizer it is given; here all three are
as before afterwards, and the model attends as transformers does by itself meanwhile. Left out: tasks that run code
which the model wrote (only the sandbox may), and sharing the work among ranks: each evaluates everything.
"""

from __future__ import annotations

import io
import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import lightning as L
import torch
from lightning.pytorch.utilities.seed import isolate_rng

from ..ops.attention import plain_attention
from ..ops.logprobs import base_model
from ..ops.sharding import whole_parameters
from ..progress import doing
from ..rollout.sampler import eval_mode
from ..tasks.ifeval import checkers
from ..types import UserError
from .evaluation import Evaluation
from .evaluation_files import interval
from .lm_eval_model import metered_lm
from .run_files import write_json, write_lines

BOOTSTRAP = 100
"""Draws behind the standard errors of metrics that are no means."""


class LMEval(Evaluation):
    """Evaluates tasks of lm-eval and logs ``eval/lm_eval_<task>/<metric>``.

    Writes ``eval/step_<n>/lm_eval_<task>/{metrics.json, predictions.jsonl}`` in the run directory, for each member of a
    group too. Runs in ``fit`` (step 0, every ``every_n_steps``, the last step) and once in ``validate`` and ``test``.
    Rows come from where the task says, mostly the hub; a folder of one's own may name local files.

    Args:
        tasks: names of tasks or groups, as `lm_eval ls tasks` lists them.
        include_path: folder with tasks of one's own (YAML); null = lm-eval's only.
        every_n_steps: steps between evaluations in ``fit``; null = only before and after.
        at_start, at_end: evaluate before the first step, and after the last.
        limit: evaluate the first so many rows of each task; null = all.
        num_fewshot: examples in the prompt, where the task does not forbid it; null = as the task says.
        batch_size: rows at once.
        max_length: most tokens that the model sees, the generated ones included; null = the model's own limit.
        gen_kwargs: replaces what a task says of generating, such as ``{max_gen_toks: 256}``: a model of few positions
            has no room for the 1280 tokens that some tasks ask for.
        chat: put requests into the model's chat template; null = where ``model.chat.format`` is ``chat``.
    """

    def __init__(
        self,
        tasks: list[str],
        include_path: str | None = None,
        every_n_steps: int | None = None,
        at_start: bool = True,
        at_end: bool = True,
        limit: int | None = None,
        num_fewshot: int | None = None,
        batch_size: int = 8,
        max_length: int | None = None,
        gen_kwargs: dict[str, Any] | None = None,
        chat: bool | None = None,
    ) -> None:
        super().__init__(every_n_steps, at_start, at_end)
        if not tasks:
            raise UserError("LMEval: tasks=[]; name at least one, as `lm_eval ls tasks` lists them")
        for name, value in (("limit", limit), ("batch_size", batch_size), ("max_length", max_length)):
            if value is not None and value < 1:
                raise UserError(f"LMEval: {name}={value}; give a positive number" + " or null" * (name != "batch_size"))
        if include_path is not None and not Path(include_path).is_dir():
            raise UserError(f"LMEval: include_path={include_path} is no folder; give one with tasks as YAML files")
        self.tasks, self.include_path, self.limit, self.num_fewshot = tasks, include_path, limit, num_fewshot
        self.batch_size, self.max_length, self.gen_kwargs, self.chat = batch_size, max_length, gen_kwargs or {}, chat
        self.members = tasks  # of groups, their tasks, once they are read

    @cached_property
    def manager(self) -> Any:
        """Knows where the tasks are: in the folder, where it has them all; else lm-eval's, which takes seconds."""
        from lm_eval.tasks import TaskManager

        own = TaskManager(include_path=self.include_path, include_defaults=False) if self.include_path else None
        if own is not None and set(self.tasks) <= set(own.all_tasks):
            return own
        every = TaskManager(include_path=self.include_path)
        if unknown := [task for task in self.tasks if task not in every.all_tasks]:
            raise UserError(f"LMEval: tasks={unknown}: lm-eval has none of this name; `lm_eval ls tasks` lists them")
        return every

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read the rows before anything is trained, so that a bad task costs no run."""
        with self._left_alone():
            try:
                loaded = self.manager.load(self.tasks)
            except UserError:
                raise
            except Exception as error:  # of lm-eval, of datasets, of the hub, of a task's own code
                short = " ".join(str(error).split())[:300]
                raise UserError(
                    f"LMEval: tasks={self.tasks} cannot be read ({type(error).__name__}: {short}); correct the task, "
                    "or put its rows where it finds them"
                ) from error
        self.members = list(loaded["tasks"])
        for name, task in loaded["tasks"].items():
            if getattr(task, "UNSAFE_CODE", False):
                raise UserError(f"LMEval: the task {name} runs code that the model wrote, which only the sandbox may")

    def finished(self, trainer: L.Trainer) -> bool:
        return all((self._folder(trainer, task) / "metrics.json").exists() for task in self.members)

    def evaluate(self, trainer: L.Trainer, module: Any) -> dict[str, float]:
        """Evaluate on every rank, log and write; returns what is logged.

        Raises:
            UserError: the module has no model here.
        """
        step = self.evaluated_at = trainer.global_step
        began = time.perf_counter()
        found = self._evaluated(trainer, module)
        tags: dict[str, float] = {}
        for task in sorted(found["results"]):
            summary = _summary(task, step, found, module.answers_are)
            if not summary["metrics"]:
                continue
            tags |= {f"eval/lm_eval_{task}/{name}": value for name, value in summary["metrics"].items()}
            if trainer.is_global_zero:
                folder = self._folder(trainer, task)
                write_lines(folder / "predictions.jsonl", [_line(sample) for sample in _samples(found, task)])
                write_json(folder / "metrics.json", summary)
                if trainer.state.fn != "fit":
                    shown = ", ".join(f"{name} {value:.4g}" for name, value in summary["metrics"].items())
                    print(f"lm_eval_{task}: {summary['n']} rows, {shown}")
        if trainer.is_global_zero:
            trainer.callback_metrics.update({k: torch.tensor(v) for k, v in tags.items()})
            for logger in trainer.loggers:
                logger.log_metrics({**tags, "eval/lm_eval_seconds": time.perf_counter() - began}, step=step)
        return tags

    def _evaluated(self, trainer: L.Trainer, module: Any) -> dict[str, Any]:
        """What lm-eval's ``simple_evaluate`` returns on its first rank, here on each."""
        from lm_eval.evaluator import evaluate

        base = base_model(module.model)
        if not hasattr(base, "generate"):
            raise UserError(f"LMEval: {type(module).__name__} has no model here; evaluate one that is loaded")
        chat = module.chat.format == "chat" if self.chat is None else self.chat
        with (
            doing(f"step {trainer.global_step}: lm-eval"),
            self._left_alone() as stream,
            eval_mode(module.model),
            whole_parameters(module.model),
            plain_attention(base),
            _stops(base, module.renderer.stop_ids),
            trainer.precision_plugin.forward_context(),  # in the numbers that it trains in
        ):
            lm = metered_lm(stream)(
                pretrained=module.model,
                tokenizer=deepcopy(module.renderer.tokenizer),  # it is given a pad token
                backend="causal",
                batch_size=self.batch_size,
                max_length=self.max_length,
                chat_template_args=dict(module.chat.template_kwargs),
            )
            loaded = self.manager.load(self.tasks)
            for task in loaded["tasks"].values():
                self._set_up(task)
            how: dict[str, Any] = {"apply_chat_template": chat, "fewshot_as_multiturn": chat}
            return evaluate(lm, loaded, limit=self.limit, bootstrap_iters=BOOTSTRAP, log_samples=True, **how)

    def _set_up(self, task: Any) -> None:
        """What ``simple_evaluate`` does to a task, which would also seed the generators."""
        if self.gen_kwargs and task.get_config("output_type") == "generate_until":
            task.set_config(key="generation_kwargs", value=self.gen_kwargs, update=True)
        fixed = task.get_config("num_fewshot")
        if fixed is None or (self.num_fewshot is not None and fixed != 0):
            task.set_config(key="num_fewshot", value=self.num_fewshot or 0)
        task.set_fewshot_seed(seed=1234)

    @contextmanager
    def _left_alone(self) -> Iterator[TextIO]:
        """Inside, lm-eval may do as it likes with the generators; IFEval's checkers download nothing.

        It shows its own bars only where someone watches; what comes back is where lines go all the same.
        """
        log, stream = logging.getLogger("lm_eval"), sys.stderr
        with ExitStack() as stack:
            stack.callback(log.setLevel, log.level)
            log.setLevel(logging.ERROR)
            if not sys.stderr.isatty():
                stack.enter_context(redirect_stderr(io.StringIO()))
            stack.enter_context(isolate_rng())
            if any("ifeval" in task for task in self.tasks):
                stack.enter_context(checkers.repeatable())
            yield stream

    def _folder(self, trainer: L.Trainer, task: str) -> Path:
        return Path(trainer.default_root_dir) / "eval" / f"step_{trainer.global_step:06d}" / f"lm_eval_{task}"


@contextmanager
def _stops(base: Any, stop_ids: Sequence[int]) -> Iterator[None]:
    """Inside, generating ends with the tokens that end an answer in training too."""
    before = base.generation_config.eos_token_id
    base.generation_config.eos_token_id = sorted(stop_ids)
    try:
        yield
    finally:
        base.generation_config.eos_token_id = before


def _summary(task: str, step: int, found: Mapping[str, Any], answers: str) -> dict[str, Any]:
    """metrics.json, as other evaluations write it; of a metric with several filters ``<metric>/<filter>``."""
    values: dict[str, float] = {}
    errors: dict[str, float] = {}
    for key, value in found["results"][task].items():
        name, _, filtered = key.partition(",")
        if not filtered or isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            continue
        into, name = (errors, name.removesuffix("_stderr")) if name.endswith("_stderr") else (values, name)
        into[name if filtered == "none" else f"{name}/{filtered}"] = float(value)
    rows = [_values(sample) for sample in _samples(found, task)]
    ends = {
        name: interval([row[name] for row in rows if name in row] or [math.nan], mean, errors.get(name), samples=1)
        for name, mean in values.items()
    }
    counts = found["n-samples"]
    members = [task] if task in counts else _leaves(task, found.get("group_subtasks", {}))
    return {
        "task": f"lm_eval_{task}",
        "step": step,
        "answers": answers,
        "n": sum(counts[member]["effective"] for member in members if member in counts),
        "n_applying": {},
        "samples": 1,
        "metrics": values,
        "stderr": errors,
        "ci95": {name: both for name, both in ends.items() if both is not None},
        "reasons": {},
    }


def _leaves(group: str, members: Mapping[str, Sequence[str]]) -> list[str]:
    """The tasks of a group, those of groups in it included."""
    below = [_leaves(member, members) for member in members.get(group, ())]
    return [leaf for leaves in below for leaf in leaves] or [group]


def _samples(found: Mapping[str, Any], task: str) -> list[Mapping[str, Any]]:
    """The evaluated rows of a task, by its first filter; none of a group."""
    samples = (found.get("samples") or {}).get(task, [])
    return [sample for sample in samples if sample["filter"] == samples[0]["filter"]]


def _values(sample: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of one row that are numbers; others are of all rows together."""
    return {name: float(v) for name in sample["metrics"] if isinstance(v := sample[name], bool | int | float)}


def _line(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A line of predictions.jsonl: the first request and what the model made of it."""
    values = _values(sample)
    first = sample["arguments"][0]
    return {
        "id": str(sample["doc_id"]),
        "prompt": [{"role": "user", "content": str(first[0])}],
        "gold": str(sample["target"]),
        "prediction": _text(sample["filtered_resps"]),
        "finished": True,
        "reason": None if all(value >= 1 for value in values.values()) else "not_right",
        "values": values,
        "detail": {"filter": sample["filter"], "requests": len(sample["arguments"])},
    }


def _text(responses: Any) -> str:
    """A generated text as it is, anything else (log-probabilities of choices) as JSON."""
    one = responses[0] if len(responses) == 1 else responses
    return one if isinstance(one, str) else json.dumps(one, default=str)
