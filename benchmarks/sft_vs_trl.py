"""SFT on CPU, side by side with TRL's SFTTrainer: speed, memory, first loss, share of the machine's peak.

    pip install -e . && pip install --no-deps trl        (or the `bench` extra)
    python benchmarks/sft_vs_trl.py --data-dir DIR       (DIR/gsm8k/train.jsonl, DIR/banking77/train.csv)

The same random weights, tokenizer, rows in the same order, fused AdamW, cosine schedule and steps of eight examples,
float32. Every run is a process of its own, ours and TRL's in turn; the numbers are medians over `--rounds`. Each TRL
variant is measured, and the headline is against the fastest (leanest) one. A run on other tokens or with another first
loss ends the benchmark. What the numbers mean exactly is in `sft_sides.py`, which holds the two sides.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import common

DATASETS = ("gsm8k", "banking77")
VARIANTS = ("default", "no_checkpointing", "no_checkpointing_padding_free")
MAX_LOSS_DIFFERENCE = 1e-4
KEYS = ("samples_per_s", "step_seconds_median", "cpu_seconds_per_step", "peak_rss", "baseline_rss", "above_baseline")

child = partial(common.child, "sft_sides.py")


def measure(args: argparse.Namespace, dataset: str, folder: Path) -> dict[str, Any]:
    """All runs of one data set: in every round, ours and one TRL variant in turn."""
    python, threads = sys.executable, args.threads
    made = child(python, threads, "prepare", folder=folder, dataset=dataset, steps=args.steps, **common.inputs(args))
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ("peak", "ours", *args.variants)}
    options = {"folder": folder, "steps": args.steps, "warmup": args.warmup}
    for number in range(args.rounds):
        for variant in args.variants:
            runs["peak"].append(child(python, threads, "peak"))
            runs["ours"].append(child(python, threads, "ours", **options))
            runs[variant].append(child(args.trl_python, threads, "trl", variant=variant, **options))
            show(dataset, f"round {number + 1}/{args.rounds}", runs, variant)
    check(dataset, runs)
    return summary(args, made, runs)


def show(dataset: str, when: str, runs: dict[str, list[dict[str, Any]]], variant: str) -> None:
    mine, other = runs["ours"][-1], runs[variant][-1]
    print(
        f"{dataset} {when}: ours {mine['samples_per_s']:.2f} samples/s, {mine['peak_rss'] / 1e6:.0f} MB; "
        f"TRL {variant} {other['samples_per_s']:.2f} samples/s, {other['peak_rss'] / 1e6:.0f} MB",
        file=sys.stderr,
        flush=True,
    )


def check(dataset: str, runs: dict[str, list[dict[str, Any]]]) -> None:
    """Both sides must have trained on the same tokens and begun with the same loss."""
    everything = [r for name, some in runs.items() if name != "peak" for r in some]
    if len({r["rows_digest"] for r in everything}) > 1:
        sys.exit(f"{dataset}: the two sides tokenised the rows differently")
    difference = first_loss_difference(everything)
    if difference > MAX_LOSS_DIFFERENCE:
        sys.exit(f"{dataset}: the first losses differ by {difference:.2e}")


def first_loss_difference(runs: list[dict[str, Any]]) -> float:
    losses = [r["first_loss"] for r in runs]
    return max(losses) - min(losses)


def summary(args: argparse.Namespace, made: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians per side, ratios to every TRL variant, and the headline: ours against the best of them."""
    sides = common.medians(runs, ("ours", *args.variants), KEYS)
    ours = sides["ours"]
    peak = median(r["flops_per_s"] for r in runs["peak"])
    flops = runs["ours"][0]["useful_flops_per_step"]
    for side in sides.values():
        side["share_of_peak"] = flops * side["samples_per_s"] / 8 / peak
    ratios = {
        name: {
            "samples_per_s": ours["samples_per_s"] / sides[name]["samples_per_s"],
            "cpu_seconds": sides[name]["cpu_seconds_per_step"] / ours["cpu_seconds_per_step"],
            "peak_rss": ours["peak_rss"] / sides[name]["peak_rss"],
            "above_baseline": ours["above_baseline"] / sides[name]["above_baseline"],
        }
        for name in args.variants
    }
    everything = [r for name, some in runs.items() if name != "peak" for r in some]
    last = [r["last_loss"] for r in everything]
    return {
        "model": made,
        "useful_flops_per_step": flops,
        "matmul_peak_flops_per_s": peak,
        "sides": sides,
        "ours_against": ratios,
        "headline": {
            "samples_per_s": min(r["samples_per_s"] for r in ratios.values()),
            "peak_rss": max(r["peak_rss"] for r in ratios.values()),
            "above_baseline": max(r["above_baseline"] for r in ratios.values()),
        },
        "first_loss_difference": first_loss_difference(everything),
        "last_loss_difference": max(last) - min(last),
        "runs": runs,
    }


def table(dataset: str, result: dict[str, Any]) -> str:
    made, head = result["model"], result["headline"]
    lines = [
        f"\n{dataset}: {made['parameters']:,} parameters ({made['non_embedding']:,} without the tied embedding), "
        f"{made['tokens']:,} tokens in the tokenizer; {result['useful_flops_per_step'] / 1e9:.0f} GFLOP a step, "
        f"matmul peak {result['matmul_peak_flops_per_s'] / 1e9:.0f} GFLOP/s",
        f"{'':32}{'samples/s':>10}{'of peak':>9}{'CPU s/step':>12}{'peak MB':>9}{'above start':>13}",
    ]
    for name, side in result["sides"].items():
        lines.append(
            f"{common.label(name):32.32}{side['samples_per_s']:>10.2f}{side['share_of_peak']:>9.0%}{side['cpu_seconds_per_step']:>12.2f}"
            f"{side['peak_rss'] / 1e6:>9.0f}{side['above_baseline'] / 1e6:>13.0f}"
        )
    lines.append(
        f"against the best TRL variant: {head['samples_per_s']:.1f}x samples/s, {head['peak_rss']:.2f}x peak memory "
        f"({head['above_baseline']:.2f}x above imports and model); losses differ by "
        f"{result['first_loss_difference']:.1e} at step 1, {result['last_loss_difference']:.1e} at the last"
    )
    return "\n".join(lines)


def main() -> None:
    parser = common.arguments(__doc__, "sft_vs_trl.json", VARIANTS)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--steps", type=int, default=13, help="optimizer steps of a run")
    parser.add_argument("--warmup", type=int, default=3, help="steps before the clock starts, at least 1")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for dataset in args.datasets:
            results[dataset] = measure(args, dataset, Path(folder) / dataset)
    for dataset, result in results.items():
        print(table(dataset, result))
    first = next(iter(results.values()))["runs"]
    about = {"torch": first["peak"][0]["torch"], "trl": first[args.variants[0]][0]["version"]}
    common.save(args, common.result_file(args), first["peak"][0]["threads"], about, results)


if __name__ == "__main__":
    main()
