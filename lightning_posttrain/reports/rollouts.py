"""Rollouts of a run for readers: how rewards moved over the run, and what completions looked like. From its ledger."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..rollout.ledger import FOLDER, read_steps
from ..types import UserError
from .tables import as_markdown, number
from .visible import visible

if TYPE_CHECKING:
    import duckdb

PARTS = 10
"""Stretches of a run that the table has."""
SHOWN = 2000
"""Characters of a text that are shown at each of its ends."""
EQUAL = 1e-8
"""Rewards of a prompt's completions with a smaller standard deviation are one reward."""


@dataclass(frozen=True)
class Sample:
    """One completion: its place among those of its step (best, median, worst), and what it earned."""

    place: str
    step: int
    id: str
    sample: int
    prompt: str
    text: str
    tokens: int
    truncated: bool
    reward: float
    rewards: Mapping[str, float | None]
    advantage: float


def rollout_section(runs: Mapping[str, Path]) -> str:
    """Markdown about the runs that have rollouts; empty if none has.

    Args:
        runs: name -> run directory.

    Raises:
        UserError: a file is damaged.
    """
    pages = [_run(name, path) for name, path in runs.items() if any((path / FOLDER).glob("*.parquet"))]
    return "".join(["\n# Rollouts\n", *pages]) if pages else ""


def parts(rollouts: duckdb.DuckDBPyRelation) -> tuple[list[str], list[list[str]]]:
    """A table with one row for each tenth of the steps, as header and cells.

    Means are over completions, and of a reward over those it applies to. Lengths are tokens. The last column is the
    share of prompts whose completions all have one reward, so that nothing is learned from them.

    Args:
        rollouts: as `read_steps` gives them.
    """
    names = [name for name, _ in rollouts.select("rewards").types[0].children]
    means = "".join(f', avg(rewards."{name}")' for name in (name.replace('"', '""') for name in names))
    rows = rollouts.query(
        "rollouts",
        f"""
        with tenths as (
            select step, ntile({PARTS}) over (order by step) as tenth from (select distinct step from rollouts)
        ), prompts as (
            select step, key, coalesce(stddev_samp(reward), 0) <= {EQUAL} as equal from rollouts group by step, key
        ), shares as (
            select tenth, avg(equal::int) as share from prompts join tenths using (step) group by tenth
        )
        select min(step), max(step), avg(reward){means}, avg(len(completion_ids)), avg(truncated::int), min(share)
        from rollouts join tenths using (step) join shares using (tenth)
        group by tenth order by tenth
        """,
    ).fetchall()
    header = ["steps", "reward", *names, "length", "truncated", "zero variance"]
    return header, [[f"{low}-{high}" if low < high else str(low), *map(number, rest)] for low, high, *rest in rows]


def picks(rollouts: duckdb.DuckDBPyRelation) -> Iterator[Sample]:
    """The best, the median and the worst completion of the first, the middle and the last step, by reward.

    Args:
        rollouts: as `read_steps` gives them.
    """
    steps = [step for (step,) in rollouts.select("step").distinct().order("step").fetchall()]
    for step in dict.fromkeys((steps[0], steps[len(steps) // 2], steps[-1])):
        found = rollouts.filter(f"step = {step} and reward is not null").order("reward desc, key, sample")
        columns = "step, id, sample, prompt, text, len(completion_ids), truncated, reward, rewards, advantage"
        rows = found.select(columns).fetchall()
        places = (
            {0: "best", len(rows) - 1: "worst", len(rows) // 2: "median"} if len(rows) > 2 else {0: "best", 1: "worst"}
        )
        for i in sorted(places):
            if i < len(rows):
                yield Sample(places[i], *rows[i])


def _run(name: str, run: Path) -> str:
    import duckdb

    try:
        rollouts = read_steps(run)
        header, rows = parts(rollouts)
        shown = [_page(sample) for sample in picks(rollouts)]
    except duckdb.Error as error:
        raise UserError(f"{run / FOLDER}: a file is damaged ({error}); delete it") from error
    return f"\n## {name}\n\n{as_markdown(header, rows)}{''.join(shown)}"


def _page(sample: Sample) -> str:
    earned = ", ".join(f"{name} {'does not apply' if r is None else number(r)}" for name, r in sample.rewards.items())
    end = "cut off by the length limit" if sample.truncated else "finished"
    return (
        f"\n### Step {sample.step}, {sample.place}: reward {number(sample.reward)}\n\n"
        f"{visible(sample.id, ' ')}, sample {sample.sample}: {earned}; advantage {sample.advantage:.4g}; "
        f"{sample.tokens} tokens, {end}\n\nPrompt:\n\n{_block(sample.prompt)}\nCompletion:\n\n{_block(sample.text)}"
    )


def _block(text: str) -> str:
    """``text`` as a code block that nothing in it can close; of a long one, both ends."""
    if len(text) > 2 * SHOWN:
        text = f"{text[:SHOWN]}\n({len(text) - 2 * SHOWN} more characters)\n{text[-SHOWN:]}"
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}text\n{visible(text, chr(10))}\n{fence}\n"
