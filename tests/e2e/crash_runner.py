"""Runs trainings that get killed: ``python -m tests.e2e.crash_runner WORK CASES.json`` writes ``WORK/results.json``.

Imports once and forks a child per attempt, so an attempt costs a fraction of a second. Every attempt of a case resumes
from the newest intact checkpoint; a fault says how the attempt ends. The faults use real signals and real file limits.
A case with a ``world`` of 2 runs two ranks of DDP over gloo; its fault happens in rank 1, or ``everywhere``.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import lightning as L
import torch

from lightning_posttrain.callbacks import checkpoint_io
from lightning_posttrain.callbacks.checkpoint import find_resume
from lightning_posttrain.types import UserError
from tests.conftest import HANGS
from tests.tinyrun import train


def kill(signum: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), signum)


class At(L.Callback):
    """Calls ``action`` at one place of the run."""

    def __init__(self, place: str, step: int, action: Callable[[], Any]) -> None:
        self.place, self.step, self.action = place, step, action
        setattr(self, place, self.hook)

    def hook(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.action()


class NaN(L.Callback):
    """Makes the loss of one step NaN."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == self.step - 1:
            plain = pl_module.micro_loss
            pl_module.micro_loss = lambda micro, step: (plain(micro, step)[0] * float("nan"), {})


def during_save(step: int, action: Callable[[int], Any], names: tuple[str, ...]) -> None:
    """Call ``action(n)`` before the n-th call of the named os functions (or file writes), from ``step``'s save on."""
    state = {"armed": False, "count": 0}

    def counted(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if state["armed"]:
                state["count"] += 1
                action(state["count"])
            return plain(*args, **kwargs)

        return call

    save = checkpoint_io.AtomicCheckpointIO.save_checkpoint

    def armed_save(self: Any, checkpoint: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        state["armed"] = state["armed"] or checkpoint["global_step"] == step
        save(self, checkpoint, *args, **kwargs)

    checkpoint_io.AtomicCheckpointIO.save_checkpoint = armed_save  # type: ignore[method-assign]
    for name in names:
        owner = checkpoint_io._HashingWriter if name == "write" else os
        setattr(owner, name, counted(getattr(owner, name)))


def during_call(place: str, number: int) -> None:
    """Kill this process before the ``number``-th call of ``module:name`` or ``module:Class.name``."""
    path, _, name = place.partition(":")
    owner: Any = importlib.import_module(path)
    *outer, leaf = name.split(".")
    for part in outer:
        owner = getattr(owner, part)
    plain, calls = getattr(owner, leaf), count(1)

    def counted(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            kill()
        return plain(*args, **kwargs)

    setattr(owner, leaf, counted)


def install(fault: dict[str, Any]) -> list[L.Callback]:
    """Set the fault up in this process; returns the callbacks it needs."""
    kind, step = fault.get("kind"), fault.get("step", 0)
    number, signum = fault.get("number", 1), fault.get("signal", signal.SIGKILL)
    if kind == "after_step":
        return [At("on_train_batch_start", step, kill), At("on_train_end", step, kill)]
    if kind == "signal_in":
        return [At(fault["place"], step, lambda: kill(signum))]
    if kind == "kill_in_save":
        names = ("write",) if fault["what"] == "write" else ("fsync", "replace", "unlink", "symlink")
        during_save(step, lambda n: kill() if n == number else None, names)
    elif kind == "signals_while_saving":
        during_save(step, lambda n: kill(signum) if n <= number else None, ("write",))
    elif kind == "file_limit":
        return [At("on_train_batch_start", step - 1, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)))]
    elif kind == "no_space":
        usage = shutil.disk_usage("/")
        full = type(usage)(usage.total, usage.total, 1000)
        return [At("on_train_batch_start", step - 1, lambda: setattr(shutil, "disk_usage", lambda _: full))]
    elif kind == "kill_in_call":
        during_call(fault["place"], number)
    elif kind == "nan":
        return [NaN(step)]
    elif kind is not None:
        raise ValueError(kind)
    return []


def attempt(folder: Path, number: int, fault: dict[str, Any], options: dict[str, Any], rank: int) -> None:
    """One process of a case; ends in an exit code or a signal."""
    signal.alarm(int(HANGS))
    with (folder / f"stderr-{number}{f'-{rank}' if rank else ''}").open("w") as file:
        os.dup2(file.fileno(), 2)
    code: Any = 1
    try:
        _, weights = train(
            folder,
            find_resume(folder / "checkpoints"),
            callbacks=tuple(install(fault)),
            record=folder / f"record-{number}.jsonl" if rank == 0 else None,
            rank=rank,
            **options,
        )
        (folder / f"weights{rank or ''}").write_text(weights)
        code = 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except SystemExit as exit_:
        code = exit_.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def run(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    """All attempts of a case: exit codes of the ranks, and what was in the folder after each."""
    folder.mkdir(parents=True)
    exits, files = [], []
    world = case.get("options", {}).get("world", 1)
    for number, fault in enumerate(case["attempts"]):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = []
        for rank in range(world):
            child = os.fork()
            if child == 0:
                if world > 1:
                    ddp = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": rank, "NODE_RANK": 0}
                    os.environ.update({k: str(v) for k, v in ddp.items()}, GLOO_SOCKET_IFNAME="lo")
                attempt(
                    folder,
                    number,
                    fault if rank == world - 1 or fault.get("everywhere") else {},
                    case.get("options", {}),
                    rank,
                )
            children.append(child)
        exits += [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        files.append(sorted(path.name for path in (folder / "checkpoints").glob("*")))
    return {"exits": exits, "files": files}


def main() -> None:
    torch.set_num_threads(1)
    work, cases = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    results = {name: run(work / name, case) for name, case in cases.items()}
    (work / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
