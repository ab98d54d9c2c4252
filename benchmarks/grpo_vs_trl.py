"""A step of GRPO on CPU, side by side with TRL's GRPOTrainer: generation, learning, whole step, memory.

    pip install -e . && pip install --no-deps trl        (or the `bench` extra)
    python benchmarks/grpo_vs_trl.py --data-dir DIR      (DIR/gsm8k/train.jsonl; random prompts without it)

Both train the same 14M random weights on the same four prompts a step, eight completions each, with the same reward,
DAPO's loss, no KL, one update per rollout, fused AdamW, in float32; TRL generates with transformers. Two settings:
`full_length`, every completion 128 tokens long, the worst case for anything that gains from completions that end; and
`stopping`, lengths like those of text, a limit of 256. There the two sides draw different lengths, so rates per
generated token are what compares; seconds per step are reported as well.

Before the clock, each TRL variant learns from the completions that ours drew in its first step: another tokenisation
of the prompts, or a gradient whose norm is off by more than 1e-3, ends the benchmark. Every run is a process of its
own, ours and TRL's in turn; the numbers are medians over `--rounds`. Each TRL variant is measured, and the headline is
against the best of them for each number by itself. What the numbers mean exactly is in `grpo_sides.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import common

SETTINGS = ("full_length", "stopping")
VARIANTS = ("default", "no_checkpointing", "accumulated", "no_checkpointing_accumulated")
COMPLETIONS = 32
MAX_NORM_DIFFERENCE = 1e-3
RATES = ("tokens_per_s", "generated_per_s", "learned_per_s", "tokens_per_cpu_s")
SECONDS = ("step_seconds", "generation_seconds", "learning_seconds")
MEMORY = ("peak_rss", "above_baseline")
KEYS = (*RATES, *SECONDS, *MEMORY, "baseline_rss", "tokens_per_step", "cpu_seconds_per_step")

child = partial(common.child, "grpo_sides.py")


def measure(args: argparse.Namespace, setting: str, folder: Path) -> dict[str, Any]:
    """All runs of one setting: in every round, ours and one TRL variant in turn."""
    python, threads = sys.executable, args.threads
    where = {"folder": folder, "setting": setting}
    made = child(python, threads, "prepare", **common.inputs(args), **where)
    norms = {"ours": child(python, threads, "first", **where)["grad_norm"]}
    for variant in args.variants:
        found = child(args.trl_python, threads, "replay", variant=variant, **where)
        norms[variant] = found["grad_norm"]
    difference = max(abs(norm / norms["ours"] - 1) for norm in norms.values())
    if difference > MAX_NORM_DIFFERENCE:
        sys.exit(f"{setting}: gradients from the same completions differ: {norms}")
    print(f"{setting}: norms of the first gradient differ by {difference:.1e}", file=sys.stderr, flush=True)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ("ours", *args.variants)}
    for number in range(args.rounds):
        options = {**where, "steps": args.steps, "warmup": args.warmup, "seed": number}
        for variant in args.variants:
            runs["ours"].append(child(python, threads, "ours", **options))
            runs[variant].append(child(args.trl_python, threads, "trl", variant=variant, **options))
            show(setting, f"round {number + 1}/{args.rounds}", runs, variant)
    if setting == "full_length":
        check_lengths(made, runs)
    return {"model": made, "grad_norms": norms, "grad_norm_difference": difference, **summary(runs)}


def show(setting: str, when: str, runs: dict[str, list[dict[str, Any]]], variant: str) -> None:
    for name in ("ours", variant):
        run = runs[name][-1]
        print(
            f"{setting} {when}: {common.label(name)} {run['step_seconds']:.2f} s a step "
            f"({run['generation_seconds']:.2f} s generation), {run['tokens_per_step']:.0f} tokens, "
            f"{run['tokens_per_s']:.0f} tokens/s, {run['peak_rss'] / 1e6:.0f} MB",
            file=sys.stderr,
            flush=True,
        )


def check_lengths(made: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> None:
    """No completion may have stopped early."""
    tokens = {n for some in runs.values() for run in some for n in run["tokens"]}
    if tokens != {COMPLETIONS * made["limit"]}:
        sys.exit(f"full_length: steps of {sorted(tokens)} tokens")


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians per side, ratios to every TRL variant, and the headline: ours against the best of them."""
    sides = common.medians(runs, tuple(runs), KEYS)
    mine, variants = sides["ours"], [name for name in sides if name != "ours"]
    ratios = {
        name: {key: mine[key] / sides[name][key] for key in (*RATES, *MEMORY)}
        | {key: sides[name][key] / mine[key] for key in SECONDS}
        for name in variants
    }
    best = {key: min(r[key] for r in ratios.values()) for key in (*RATES, *SECONDS)}
    best |= {key: max(r[key] for r in ratios.values()) for key in MEMORY}
    return {"sides": sides, "ours_against": ratios, "headline": best, "runs": runs}


def table(setting: str, result: dict[str, Any]) -> str:
    made, head = result["model"], result["headline"]
    lines = [
        f"\n{setting}: {made['parameters']:,} parameters, prompts of {made['prompt_lengths']} tokens, "
        f"{COMPLETIONS} completions of at most {made['limit']}",
        f"{'':32}{'s/step':>8}{'generation':>12}{'learning':>10}{'tokens/step':>13}{'tokens/s':>10}{'generated/s':>13}"
        f"{'learned/s':>11}{'peak MB':>9}{'above start':>13}",
    ]
    for name, side in result["sides"].items():
        lines.append(
            f"{common.label(name):32.32}{side['step_seconds']:>8.2f}{side['generation_seconds']:>12.2f}"
            f"{side['learning_seconds']:>10.2f}{side['tokens_per_step']:>13.0f}{side['tokens_per_s']:>10.0f}"
            f"{side['generated_per_s']:>13.0f}{side['learned_per_s']:>11.0f}{side['peak_rss'] / 1e6:>9.0f}"
            f"{side['above_baseline'] / 1e6:>13.0f}"
        )
    lines.append(
        f"against the best TRL variant, per generated token: step {head['tokens_per_s']:.1f}x as fast, generation "
        f"{head['generated_per_s']:.1f}x, learning {head['learned_per_s']:.1f}x, processor time "
        f"{head['tokens_per_cpu_s']:.1f}x; per step {head['step_seconds']:.1f}x; peak memory {head['peak_rss']:.2f}x "
        f"({head['above_baseline']:.2f}x above imports and model); the first gradient's norm differs by "
        f"{result['grad_norm_difference']:.1e}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = common.arguments(__doc__, "grpo_vs_trl.json", VARIANTS)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--steps", type=int, default=5, help="steps of a run")
    parser.add_argument("--warmup", type=int, default=1, help="steps before the clock starts, at least 1")
    args = parser.parse_args()
    if args.pretrained:
        args.settings = ["stopping"]  # a real model stops where it stops
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for setting in args.settings:
            results[setting] = measure(args, setting, Path(folder) / setting)
    for setting, result in results.items():
        print(table(setting, result))
    runs = next(iter(results.values()))["runs"]
    mine, theirs = runs["ours"][0], runs[args.variants[0]][0]
    common.save(
        args, common.result_file(args), mine["threads"], {"versions": mine["versions"] | theirs["versions"]}, results
    )


if __name__ == "__main__":
    main()
