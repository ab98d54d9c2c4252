"""Stands in for the program in tests of `mix launch`: a run that writes what a run writes.

    python mix_program.py RECORD fit -c base.yaml -c variant.yaml ... --run.dir=DIR --run.resume=true

It appends a line to RECORD when it starts and when it ends. It goes on from the steps it has counted, saves them on
SIGTERM, and fails where the run directory holds a file FAIL. While a file HOLD_<name of the run> lies beside RECORD it
takes one step and waits.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import yaml

STEPS = 10
LONGEST = 600.0
"""Seconds after which a run that is held goes on, as after a test that has failed."""


def main(record: Path, words: list[str]) -> int:
    folder = Path(next(word.split("=", 1)[1] for word in words if word.startswith("--run.dir=")))
    config = yaml.safe_load(Path(words[max(i for i, word in enumerate(words) if word == "-c") + 1]).read_text())
    mix = config["data"]["init_args"]["mix"]
    folder.mkdir(parents=True, exist_ok=True)
    device = os.environ.get("CUDA_VISIBLE_DEVICES")

    def say(what: str, step: int) -> None:
        with record.open("a") as file:
            file.write(
                json.dumps({"run": folder.name, "what": what, "step": step, "device": device, "pid": os.getpid()})
                + "\n"
            )

    counted, hold = folder / "steps", record.parent / f"HOLD_{folder.name}"
    step = int(counted.read_text()) if counted.is_file() else 0
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, frame: stop.append(signum))
    say("start", step)
    if (folder / "FAIL").is_file():
        print("error: the planted failure")
        return 3
    (folder / "run.json").write_text(json.dumps({"status": "running"}))
    while step < STEPS and not stop:
        step += 1
        counted.write_text(str(step))
        until = time.monotonic() + LONGEST
        while hold.exists() and not stop and time.monotonic() < until:
            time.sleep(0.01)
    if stop:
        say("stop", step)
        return 0
    for task, best in (("code", "code"), ("facts", "wiki")):
        place = folder / "eval" / f"step_{step:06d}" / task
        place.mkdir(parents=True, exist_ok=True)
        bpb = 0.5 + 2.0 ** -mix.get(best, {"weight": 0.0})["weight"]
        facts = {"task": task, "step": step, "n": 1, "metrics": {"bpb": bpb}, "stderr": {}}
        (place / "metrics.json").write_text(json.dumps(facts))
    mixture = {leaf: {"requested": part["weight"], "realised": part["weight"]} for leaf, part in mix.items()}
    (folder / "run.json").write_text(json.dumps({"status": "finished", "mixture": mixture}))
    say("end", step)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
