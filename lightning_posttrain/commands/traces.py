"""`traces`: solutions of a task's problems, drawn from a model until one is right: training data made by a policy.

Attempt k is drawn only for problems that attempts 0 to k-1 left unsolved; a problem without a trace keeps the solution
it came with. What is drawn depends on (seed, attempt, row) alone, so neither the batch size nor an interruption changes
a row. Where completions come from is one function, `Draw`, of `trace_draws`: the sampler in this process, or a server.
"""

from __future__ import annotations

import sys
from itertools import islice
from typing import Any, Literal

from ..servers.client import ServerSpec
from ..tasks import registry
from ..tasks.base import Task
from ..types import UserError
from .trace_draws import local_source, server_source
from .trace_file import trace_file
from .trace_rows import Problem, solve, statistics


def traces(
    *,
    model: str | None = None,
    server: ServerSpec | None = None,
    data: str,
    task: Task | str,
    output_file: str,
    num_samples: int | None = None,
    max_attempts: int = 8,
    max_new_tokens: int = 512,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    batch_size: int = 64,
    seed: int = 0,
    template: str | None = None,
    template_kwargs: dict[str, Any] | None = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
    resume: bool = True,
    overwrite: bool = False,
) -> None:
    """Draw right solutions of a task's problems from a model, as training rows.

    A problem that stays unsolved keeps the solution it came with. Writes one row {id, question, answer, source,
    attempts} for each problem, in order, and, beside them, OUTPUT_FILE.stats.json. An interrupted run goes on.

    Args:
        model: folder with full weights or an adapter (``model/`` of a run), or a hub id; unused with a server.
        server: draw from an OpenAI-compatible server instead: ``--server.base_url http://127.0.0.1:8000/v1``.
        data: rows of problems: .jsonl, .json, .csv, .parquet (also .gz), or ``hub:org/name:config:split``.
        task: name (gsm8k, gsm8k_tags), or class_path and init_args: reads the rows and says what is right.
        output_file: the .jsonl to write.
        num_samples: only the first so many rows; null = all.
        max_attempts: most solutions drawn for a problem.
        max_new_tokens: most tokens of a solution.
        temperature: 0 takes the most probable token, which allows one attempt only.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the most probable tokens that together reach this probability.
        min_p: keep tokens at least this many times as probable as the most probable one.
        batch_size: problems drawn for at once; after each batch what is done is safe.
        seed: of the draws.
        template: chat template where the model's tokenizer has none: chatml, tulu, tags, a file or jinja text.
        template_kwargs: variables for the chat template, e.g. ``{enable_thinking: false}``.
        dtype: of the weights; null = bfloat16 on a GPU, float32 on a CPU.
        resume: go on where an interrupted run stopped; false = start again.
        overwrite: replace the output that is there.

    Raises:
        UserError: naming the option, row or file that is wrong, or what differs from the interrupted run.
    """
    from ..records.canonical import canonical
    from ..records.sources import fingerprint
    from ..rollout.sampler import SamplingParams

    params = SamplingParams(max_new_tokens, temperature, top_k, top_p, min_p)
    _check_counts(num_samples, max_attempts, batch_size, temperature)
    task = tracing_task(task)
    problems = read_problems(task, data, num_samples)
    if server is None:
        source = local_source(model, params, batch_size, seed, template, template_kwargs, dtype)
    else:
        source = server_source(server, params, seed, template=template, template_kwargs=template_kwargs, dtype=dtype)
        print(f"drawing from {source.settings['model']} at {server.base_url}", file=sys.stderr)
    settings = {
        **source.settings,
        "data": data,
        "data_sha256": fingerprint(data),
        "task": canonical(task),
        "num_samples": num_samples,
        "max_attempts": max_attempts,
        **vars(params),
        "seed": seed,
    }
    with trace_file(output_file, settings, resume=resume, overwrite=overwrite) as done:
        if len(done.rows) < len(problems):
            done.keep(len(done.rows) // batch_size * batch_size)  # the batches, too, are those of an unbroken run
            draw, check = source.begin(problems)
            for start in range(len(done.rows), len(problems), batch_size):
                batch = problems[start : start + batch_size]
                done.append(solve(batch, draw, task, max_attempts, check))
                solved = sum(row["source"] == "generated" for row in done.rows)
                print(f"{len(done.rows)}/{len(problems)} problems, {solved} solved", file=sys.stderr, flush=True)
        stats = statistics(done.rows)
        done.publish({**stats, "settings": settings})
    print(
        f"{output_file}: {stats['total_samples']} rows, {stats['grpo_successes']} generated "
        f"({stats['success_rate']:.1%}), {stats['fallback_count']} original; {stats['avg_attempts_overall']:.2f} "
        f"attempts a problem; format_miss {stats['format_miss']}, identical {stats['identical']}"
    )


def tracing_task(task: Task | str) -> Task:
    """``task``, or the one of that name as it is by default.

    Raises:
        UserError: there is none, or it has no solutions with reasoning.
    """
    built = registry.task_class(task)() if isinstance(task, str) else task
    if type(built).trace is Task.trace:
        able = ", ".join(name for name, kind in sorted(registry.TASKS.items()) if kind.trace is not Task.trace)
        raise UserError(f"task={built.name}: its answers have no reasoning to keep; `traces` takes {able}")
    return built


def read_problems(task: Task, data: str, num_samples: int | None) -> list[Problem]:
    """The rows of ``data``, or the first ``num_samples``.

    Raises:
        UserError: a row the task refuses, or fewer rows than asked for.
    """
    from ..records.sources import read_rows

    rows = enumerate(islice(read_rows(data), num_samples))
    problems = [Problem(number, row, task.record(row, origin)) for number, (row, origin) in rows]
    if num_samples is not None and len(problems) < num_samples:
        raise UserError(f"{data}: num_samples={num_samples}, but there are {len(problems)} rows")
    return problems


def _check_counts(num_samples: int | None, max_attempts: int, batch_size: int, temperature: float) -> None:
    for name, value in (("num_samples", num_samples), ("max_attempts", max_attempts), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UserError(f"{name}={value}: use at least 1")
    if temperature == 0 and max_attempts > 1:
        raise UserError(
            f"temperature=0 with max_attempts={max_attempts} draws the same solution every time; use a higher "
            "temperature, or max_attempts=1"
        )
