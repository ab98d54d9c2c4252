"""Stands in for the program in tests of trials as processes: a run that leaves what a run leaves.

    python program.py RECORD fit ... --run.dir=DIR --run.resume=true

It appends a line to RECORD when it starts and when it ends, goes on from the steps it has counted, saves them on
SIGTERM, and ignores that where the run directory holds a file STUBBORN. While a file HOLD_<name of DIR> lies beside
RECORD it takes one step and waits.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

STEPS = 10
LONGEST = 600.0
"""Seconds after which a run that is held goes on, as after a test that has failed."""


def main(record: Path, words: list[str]) -> int:
    folder = Path(next(word.split("=", 1)[1] for word in words if word.startswith("--run.dir=")))
    point = [word for word in words if word.startswith("--") and not word.startswith("--run.")]

    def say(what: str, step: int) -> None:
        facts = {"run": folder.name, "what": what, "step": step, "point": point, "parent": os.getppid()}
        with record.open("a") as file:
            file.write(json.dumps({**facts, "pid": os.getpid(), "at": time.time()}) + "\n")

    counted, hold = folder / "steps", record.parent / f"HOLD_{folder.name}"
    step = int(counted.read_text()) if counted.is_file() else 0
    stop: list[int] = []
    stubborn = (folder / "STUBBORN").exists()
    signal.signal(signal.SIGTERM, lambda signum, frame: None if stubborn else stop.append(signum))
    (folder / "run.json").write_text(json.dumps({"status": "running"}))
    say("start", step)
    while step < STEPS and not stop:
        step += 1
        counted.write_text(str(step))
        until = time.monotonic() + LONGEST
        while hold.exists() and not stop and time.monotonic() < until:
            time.sleep(0.01)
    if stop:
        say("stop", step)
        return 143
    place = folder / "eval" / f"step_{step:06d}" / "banking77"
    place.mkdir(parents=True)
    facts = {"task": "banking77", "step": step, "n": 10, "metrics": {"accuracy": len(str(point)) / 1000}, "stderr": {}}
    (place / "metrics.json").write_text(json.dumps(facts))
    (folder / "config.yaml").write_text(json.dumps({"run": {"dir": str(folder)}}))
    (folder / "run.json").write_text(json.dumps({"status": "finished"}))
    say("end", step)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
