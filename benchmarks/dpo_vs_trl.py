"""DPO on CPU, side by side with TRL's DPOTrainer: speed, memory, loss of the first and of the last step.

    pip install -e . && pip install --no-deps trl        (or the `bench` extra)
    python benchmarks/dpo_vs_trl.py --data-dir DIR       (DIR/pubmedqa/ori_pqal.json)

The same random weights, tokenizer, pairs in the same order, fused AdamW, cosine schedule and steps of eight pairs,
float32; prompts that are four times, once and a quarter as long as an answer, in tokens. Both sides compute the
reference in every step, from a copy of the policy; `precomputed` is TRL with its reference computed before training
and is compared with ours that does the same. Every run is a process of its own, ours and TRL's in turn; the numbers are
medians over `--rounds`. Each TRL variant is measured, and the headline is against the fastest (leanest) one. A run on
other tokens, or with another loss than the others at the first or the last step, ends the benchmark. TRL scores every
position on CPU, prompts and padding too, where on CUDA it scores answers only. What the numbers mean exactly is in
`dpo_sides.py`, which holds the two sides.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import common

SETTINGS = ("4:1", "1:1", "1:4")
VARIANTS = ("default", "no_checkpointing", "accumulated", "no_checkpointing_accumulated", "precomputed")
MAX_FIRST_DIFFERENCE = 1e-5
MAX_LAST_DIFFERENCE = 1e-3
KEYS = ("samples_per_s", "step_seconds_median", "cpu_seconds_per_step", "peak_rss", "baseline_rss", "above_baseline")

child = partial(common.child, "dpo_sides.py")


def rival(variant: str) -> str:
    """What of ours a TRL variant is compared with."""
    return "ours_cached" if variant == "precomputed" else "ours"


def label(side: str) -> str:
    return "lightning_posttrain, cached" if side == "ours_cached" else common.label(side)


def measure(args: argparse.Namespace, setting: str, folder: Path) -> dict[str, Any]:
    """All runs of one setting: in every round, ours and one TRL variant in turn."""
    python, threads = sys.executable, args.threads
    made = child(python, threads, "prepare", folder=folder, setting=setting, steps=args.steps, **common.inputs(args))
    options = {"folder": folder, "steps": args.steps, "warmup": args.warmup}
    mine = {"tokens_per_micro": args.tokens_per_micro}
    names = dict.fromkeys([*map(rival, args.variants), *args.variants])
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(args.rounds):
        for variant in args.variants:
            own = rival(variant)
            runs[own].append(child(python, threads, own, **options, **mine))
            runs[variant].append(child(args.trl_python, threads, "trl", variant=variant, **options))
            for name in (own, variant):
                show(f"{setting} round {number + 1}/{args.rounds}", name, runs[name][-1])
    differences = check(setting, [run for some in runs.values() for run in some])
    return {"model": made, **differences, **summary(runs)}


def show(when: str, name: str, run: dict[str, Any]) -> None:
    print(
        f"{when}: {label(name)} {run['samples_per_s']:.2f} pairs/s, {run['cpu_seconds_per_step']:.1f} CPU s a "
        f"step, {run['peak_rss'] / 1e6:.0f} MB, losses {run['first_loss']:.7f} to {run['last_loss']:.7f}",
        file=sys.stderr,
        flush=True,
    )


def check(setting: str, runs: list[dict[str, Any]]) -> dict[str, float]:
    """All must have seen the same tokens, begun with ln 2, and ended with the same loss."""
    if len({run["rows_digest"] for run in runs}) > 1:
        sys.exit(f"{setting}: the two sides tokenised the rows differently")
    first = max(abs(run["first_loss"] - math.log(2)) for run in runs)
    last = [run["last_loss"] for run in runs]
    if first > MAX_FIRST_DIFFERENCE:
        sys.exit(f"{setting}: a first loss differs from ln 2 by {first:.2e}")
    if max(last) - min(last) > MAX_LAST_DIFFERENCE:
        sys.exit(f"{setting}: the last losses differ: {sorted(last)}")
    return {"first_loss_difference": first, "last_loss_difference": max(last) - min(last), "last_loss": last[0]}


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians per side, ratios to every TRL variant, and the headline: ours against the best of them."""
    sides = common.medians(runs, tuple(runs), KEYS)
    ratios = {
        name: {
            "samples_per_s": sides[rival(name)]["samples_per_s"] / side["samples_per_s"],
            "cpu_seconds": side["cpu_seconds_per_step"] / sides[rival(name)]["cpu_seconds_per_step"],
            "peak_rss": sides[rival(name)]["peak_rss"] / side["peak_rss"],
            "above_baseline": sides[rival(name)]["above_baseline"] / side["above_baseline"],
        }
        for name, side in sides.items()
        if not name.startswith("ours")
    }
    found = {"sides": sides, "ours_against": ratios, "runs": runs}
    for headline, own in (("headline", "ours"), ("headline_precomputed", "ours_cached")):
        against = [ratio for name, ratio in ratios.items() if rival(name) == own]
        if against:
            best = {key: min(ratio[key] for ratio in against) for key in ("samples_per_s", "cpu_seconds")}
            found[headline] = best | {
                key: max(ratio[key] for ratio in against) for key in ("peak_rss", "above_baseline")
            }
    return found


def table(setting: str, result: dict[str, Any]) -> str:
    made = result["model"]
    prompts, answers = (
        "{0:.0f} to {2:.0f} (median {1:.0f})".format(*made[f"{x}_tokens"]) for x in ("prompt", "answer")
    )
    lines = [
        f"\nprompt to answer {setting}: {made['parameters']:,} parameters, {made['pairs']} pairs, realised ratio "
        f"{made['ratio']:.2f}, prompts of {prompts} tokens, answers of {answers}; "
        f"{made['distinct_tokens_per_step']:.0f} distinct tokens a step, {made['padded_tokens_per_step']:.0f} when "
        "padded",
        f"{'':36}{'pairs/s':>9}{'s/step':>9}{'CPU s/step':>12}{'peak MB':>9}{'above start':>13}",
    ]
    for name, side in result["sides"].items():
        lines.append(
            f"{label(name):36.36}{side['samples_per_s']:>9.2f}{side['step_seconds_median']:>9.2f}"
            f"{side['cpu_seconds_per_step']:>12.2f}{side['peak_rss'] / 1e6:>9.0f}{side['above_baseline'] / 1e6:>13.0f}"
        )
    for headline, what in (("headline", "the best TRL variant"), ("headline_precomputed", "TRL precomputed")):
        if head := result.get(headline):
            lines.append(
                f"against {what}: {head['samples_per_s']:.1f}x pairs/s ({head['cpu_seconds']:.1f}x per processor "
                f"second), {head['peak_rss']:.2f}x peak memory ({head['above_baseline']:.2f}x above imports)"
            )
    lines.append(
        f"first losses are ln 2 to {result['first_loss_difference']:.1e}; the last, {result['last_loss']:.4f}, differ "
        f"by {result['last_loss_difference']:.1e}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = common.arguments(__doc__, "dpo_vs_trl.json", VARIANTS)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS, help="prompt to answer, in tokens")
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps of a run")
    parser.add_argument("--warmup", type=int, default=1, help="steps before the clock starts, at least 1")
    parser.add_argument("--tokens-per-micro", type=int, default=2048, help="of ours")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for setting in args.settings:
            results[setting] = measure(args, setting, Path(folder) / setting.replace(":", "_to_"))
    for setting, result in results.items():
        print(table(setting, result))
    runs = next(iter(results.values()))["runs"]
    mine, theirs = runs[rival(args.variants[0])][0], runs[args.variants[0]][0]
    about = {"versions": mine["versions"] | theirs["versions"], "tokens_per_micro": args.tokens_per_micro}
    common.save(args, common.result_file(args), mine["threads"], about, results)


if __name__ == "__main__":
    main()
