"""What the comparisons with TRL share: runs in processes of their own, options, medians, results.

The process that starts the runs imports neither torch nor numpy: its memory would count in theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent


def child(script: str, python: str, threads: int | None, role: str, **options: Any) -> dict[str, Any]:
    """Run one role of a script in a process of its own; this one stays small, so that it adds no memory."""
    words = [python, str(HERE / script), role]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    env = dict(os.environ, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    if threads:
        env["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run(words, capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def medians(runs: dict[str, list[dict[str, Any]]], sides: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
    """``{side: {key: median over its runs}}``."""
    return {name: {key: median(run[key] for run in runs[name]) for key in keys} for name in sides}


def label(side: str) -> str:
    return "lightning_posttrain" if side == "ours" else f"TRL {side.replace('_', ' ')}"


def arguments(description: str | None, result: str, variants: Sequence[str]) -> argparse.ArgumentParser:
    """Options of every comparison with TRL."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--pretrained", type=Path, help="folder of a real model, in place of 14M random weights")
    parser.add_argument("--variants", nargs="+", choices=variants, default=variants, help="of TRL")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS of every run; PyTorch's own choice by default")
    parser.add_argument("--trl-python", default=sys.executable, help="interpreter that has TRL, if this one has not")
    parser.add_argument("--out", type=Path, help=f"results/{result} by default, or with the model's name in it")
    parser.set_defaults(result=result)
    return parser


def inputs(args: argparse.Namespace) -> dict[str, Any]:
    """What the role ``prepare`` reads: data, and the model if there is one."""
    return {"data_dir": args.data_dir} | ({"pretrained": args.pretrained} if args.pretrained else {})


def result_file(args: argparse.Namespace) -> Path:
    """Where the results go: ``--out``, or the comparison's own file, with the name of a real model in it."""
    name = Path(args.result)
    return args.out or HERE / "results" / (
        f"{name.stem}_{args.pretrained.name}{name.suffix}" if args.pretrained else args.result
    )


def save(args: argparse.Namespace, out: Path, threads: int, about: dict[str, Any], results: dict[str, Any]) -> None:
    """Write the results with the machine and what else there is to know about the runs."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads"
    about = {"machine": machine, **about, "steps": args.steps, "warmup": args.warmup, "rounds": args.rounds}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"about": about, **results}, indent=1) + "\n", "utf-8")
