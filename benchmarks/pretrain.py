"""Pretraining on CPU beside the loops of transformers' Trainer and litgpt: speed, memory, losses, share of the peak.

    pip install -e . && pip install --no-deps litgpt
    python benchmarks/pretrain.py

The same random weights of an Olmo 3 as transformers writes it, the same blocks of tokens in the same order, the same
micro-batches and steps, fused AdamW, constant learning rate, no decay, gradients clipped to norm 1; for vocabularies of
8,192 and 100,352, in float32 and in bfloat16. ``trainer`` is `transformers.Trainer`; ``litgpt`` is
`litgpt.pretrain.fit` over the transformers model, with litgpt's chunked cross-entropy. Nothing is compiled on any side.
Every run is a process of its own, ours and a peer's in turn; the numbers are medians over `--rounds`, and the headline
is against the fastest (leanest) peer. A run on other tokens or with another first loss ends the benchmark. Ours is
measured also with z-loss and with documents that do not see each other, which the peers lack: these rows are compared
with nothing. What the numbers mean exactly is in `pretrain_sides.py`, which holds the sides.
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

VOCABULARIES = (8_192, 100_352)
PRECISIONS = ("32-true", "bf16-true")
PEERS = {"trainer": "transformers Trainer", "litgpt": "litgpt fit"}
EXTRA: dict[str, dict[str, Any]] = {"ours_z_loss": {"z_loss": 1e-5}, "ours_documents": {"shard": "documents"}}
LABELS = {
    "ours": "lightning_posttrain",
    "ours_z_loss": "lightning_posttrain, z-loss 1e-5",
    "ours_documents": "lightning_posttrain, documents",
    **PEERS,
}
MAX_LOSS_DIFFERENCE = {"32-true": 1e-4, "bf16-true": 1e-2}
KEYS = ("tokens_per_s", "step_seconds_median", "cpu_seconds_per_step", "peak_rss", "baseline_rss", "above_baseline")

child = partial(common.child, "pretrain_sides.py")


def measure(args: argparse.Namespace, vocab: int, precision: str, folder: Path) -> dict[str, Any]:
    """All runs of one setting: in every round, ours and one peer in turn, then the rows of ours alone."""
    folder.mkdir(parents=True)
    python, threads, setting = sys.executable, args.threads, f"{vocab}, {precision}"
    shape = ("model", "sequence_length", "sequences_per_step", "sequences_per_micro", "steps", "warmup")
    options = {
        "folder": folder,
        "vocab": vocab,
        "precision": precision,
        **{name: getattr(args, name) for name in shape},
    }
    made = child(python, threads, "prepare", **options)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ("peak", "ours", *args.peers, *EXTRA)}

    turns = [turn for peer in args.peers for turn in (("ours", python), (peer, args.peer_python))]
    turns += [(name, python) for name in EXTRA]
    for number in range(args.rounds):
        runs["peak"].append(child(python, threads, "peak", precision=precision))
        for name, interpreter in turns:
            role = "ours" if name in EXTRA else name
            runs[name].append(child(interpreter, threads, role, **options, **EXTRA.get(name, {})))
            show(f"{setting} round {number + 1}/{args.rounds}", name, runs[name][-1])
    compared = [run for name in ("ours", *args.peers) for run in runs[name]]
    return {"model": made, **check(setting, compared, MAX_LOSS_DIFFERENCE[precision]), **summary(args, made, runs)}


def show(when: str, name: str, run: dict[str, Any]) -> None:
    print(
        f"{when}: {LABELS[name]} {run['tokens_per_s']:.0f} tokens/s, {run['cpu_seconds_per_step']:.2f} CPU s a step, "
        f"{run['peak_rss'] / 1e6:.0f} MB, losses {run['first_loss']:.7f} to {run['last_loss']:.7f}",
        file=sys.stderr,
        flush=True,
    )


def check(setting: str, runs: list[dict[str, Any]], most: float) -> dict[str, float]:
    """All sides must have trained on the same tokens and begun with the same loss."""
    if len({run["digest"] for run in runs}) > 1:
        sys.exit(f"{setting}: the sides took other blocks, or in another order")
    first, last = ([run[key] for run in runs] for key in ("first_loss", "last_loss"))
    if max(first) - min(first) > most:
        sys.exit(f"{setting}: the first losses differ: {sorted(first)}")
    return {
        "first_loss": first[0],
        "first_loss_difference": max(first) - min(first),
        "last_loss": last[0],
        "last_loss_difference": max(last) - min(last),
    }


def summary(args: argparse.Namespace, made: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians per side, ratios to every peer, and the headline: ours against the best of them."""
    sides = common.medians(runs, ("ours", *args.peers, *EXTRA), KEYS)
    ours, peak = sides["ours"], median(run["flops_per_s"] for run in runs["peak"])
    for name, side in sides.items():
        tokens = args.sequences_per_step * args.sequence_length
        side["flops_per_s"] = made["flops_per_step"] * side["tokens_per_s"] / tokens
        if name != "ours_documents":  # whose attention needs less
            side["share_of_peak"] = side["flops_per_s"] / peak
    ratios = {
        name: {
            "tokens_per_s": ours["tokens_per_s"] / sides[name]["tokens_per_s"],
            "cpu_seconds": sides[name]["cpu_seconds_per_step"] / ours["cpu_seconds_per_step"],
            "peak_rss": ours["peak_rss"] / sides[name]["peak_rss"],
            "above_baseline": ours["above_baseline"] / sides[name]["above_baseline"],
        }
        for name in args.peers
    }
    best = {key: min(ratio[key] for ratio in ratios.values()) for key in ("tokens_per_s", "cpu_seconds")}
    least = {key: max(ratio[key] for ratio in ratios.values()) for key in ("peak_rss", "above_baseline")}
    return {
        "matmul_peak_flops_per_s": peak,
        "sides": sides,
        "ours_against": ratios,
        "headline": best | least,
        "runs": runs,
    }


def table(setting: str, result: dict[str, Any]) -> str:
    made, head = result["model"], result["headline"]
    lines = [
        f"\n{setting}: {made['parameters']:,} parameters ({made['without_input_embedding']:,} without the input "
        f"embedding); {made['flops_per_step'] / 1e9:.0f} GFLOP a step, matmul peak "
        f"{result['matmul_peak_flops_per_s'] / 1e9:.0f} GFLOP/s",
        f"{'':34}{'tokens/s':>10}{'GFLOP/s':>9}{'of peak':>9}{'CPU s/step':>12}{'peak MB':>9}{'above start':>13}",
    ]
    for name, side in result["sides"].items():
        share = (
            f"{side['flops_per_s'] / 1e9:>9.0f}{side['share_of_peak']:>9.0%}" if "share_of_peak" in side else " " * 18
        )
        lines.append(
            f"{LABELS[name]:34.34}{side['tokens_per_s']:>10.0f}{share}{side['cpu_seconds_per_step']:>12.2f}"
            f"{side['peak_rss'] / 1e6:>9.0f}{side['above_baseline'] / 1e6:>13.0f}"
        )
    lines.append(
        f"against the best peer: {head['tokens_per_s']:.2f}x tokens/s ({head['cpu_seconds']:.2f}x per CPU second), "
        f"{head['peak_rss']:.2f}x peak memory ({head['above_baseline']:.2f}x above imports and model); first losses, "
        f"{result['first_loss']:.4f}, differ by {result['first_loss_difference']:.1e}, the last, "
        f"{result['last_loss']:.4f}, by {result['last_loss_difference']:.1e}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", nargs="+", type=int, default=VOCABULARIES)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=tuple(PEERS))
    parser.add_argument("--model", default="olmo3_14m")
    parser.add_argument("--sequence-length", type=int, default=1024, help="predictions of a block")
    parser.add_argument("--sequences-per-step", type=int, default=8)
    parser.add_argument("--sequences-per-micro", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5, help="optimizer steps of a run")
    parser.add_argument("--warmup", type=int, default=1, help="steps before the clock starts, at least 1")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS of every run; PyTorch's own choice by default")
    parser.add_argument(
        "--peer-python", default=sys.executable, help="interpreter that has litgpt, if this one has not"
    )
    parser.add_argument("--out", type=Path, default=common.HERE / "results" / "pretrain.json")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in args.precision:
            for vocab in args.vocab:
                results[f"{vocab}, {precision}"] = measure(
                    args, vocab, precision, Path(folder) / f"{vocab}-{precision}"
                )
    for setting, result in results.items():
        print(table(setting, result))
    runs = next(iter(results.values()))["runs"]
    peak = runs["peak"][0]
    names = ("model", "sequence_length", "sequences_per_step", "sequences_per_micro")
    about = {"torch": peak["torch"], **{peer: runs[peer][0]["version"] for peer in args.peers}}
    common.save(args, args.out, peak["threads"], about | {name: getattr(args, name) for name in names}, results)


if __name__ == "__main__":
    main()
