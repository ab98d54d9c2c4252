"""`Sandbox`: runs snippets in worker processes and gives back outcomes, in order.

What a snippet does ends in its outcome. What the sandbox itself fails at is tried again and then raised.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from ..types import UserError
from . import wire
from .inside.probes import CODE, PROBES
from .inside.watch import PATIENCE, START_SECONDS
from .jobs import Job, Outcome, Protections, SandboxFault, SandboxSpec
from .worker import Worker, WorkerDied

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Workers that a job may lose before the run ends."""
WAIT = 3600.0
"""Most seconds of one wait for an answer; the operating system counts them in an int of milliseconds."""
GRACE_SECONDS = 10.0
"""Beyond all its limits, before a worker is given up."""
ENOUGH = {"strict": set(PROBES), "files": {"write", "read", "memory"}}
"""Level -> probes that it stops."""


class Sandbox:
    """Runs snippets. Its workers start at the first need and live until `close`, or until this process ends.

    A copy, pickled or forked, starts workers of its own. Not for several threads at once.

    Args:
        spec: limits, and the isolation without which nothing is run.
    """

    _without: tuple[str, ...] = ()  # mechanisms left out, for tests of the others

    def __init__(self, spec: SandboxSpec | None = None) -> None:
        self.spec = spec or SandboxSpec()
        self._workers: list[Worker] = []
        self._owner = os.getpid()
        self._protections: Protections | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"spec": self.spec, "_without": self._without}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["spec"])  # type: ignore[misc]
        self._without = state["_without"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_workers", None):
            self.close()

    @property
    def protections(self) -> Protections:
        """What was found to hold; starts the workers if need be.

        Raises:
            SandboxFault: a worker cannot start, or less holds than the spec asks for.
        """
        self._start()
        assert self._protections is not None
        return self._protections

    def run(self, jobs: Sequence[Job], _gate: bool = True) -> list[Outcome]:
        """The outcomes of jobs, in their order. Equal ones are run once.

        Raises:
            SandboxFault: workers keep failing, or less isolation holds than the spec asks for.
            UserError: the tables of a job cannot be created.
        """
        if not jobs:
            return []
        messages, images = wire.encode(jobs, _gate), wire.images(jobs)
        self._start()
        distinct = sorted(set(messages))  # those of the same tables or databases come after one another
        outcomes = dict(zip(distinct, self._run(distinct, images), strict=True))
        return [outcomes[message] for message in messages]

    def close(self) -> None:
        """End the workers; a later `run` starts new ones."""
        for worker in self._workers:
            if self._owner == os.getpid():
                worker.kill()
            else:
                worker.forget()  # this process is a fork of the one it works for
        self._workers = []

    def _start(self) -> None:
        """Start the workers, once per process, and try what they stop."""
        if self._owner != os.getpid():
            self.close()
            self._owner = os.getpid()
        if self._workers:
            return
        try:
            self._protections = None
            launched = [self._launched() for _ in range(self.spec.workers)]  # they start at the same time
            for worker in launched:
                self._workers.append(self._started(worker))
            self._protections = self._probed()
        except BaseException:
            self.close()
            raise
        print(f"sandbox: {self._protections}", file=sys.stderr)

    def _worker(self) -> Worker:
        patience = START_SECONDS + PATIENCE * self.spec.wall_seconds + GRACE_SECONDS
        return Worker({**asdict(self.spec), "without": self._without}, patience)

    def _launched(self) -> Worker | None:
        """A worker that is about to start; None if that has failed already."""
        try:
            return self._worker()
        except SandboxFault:
            return None  # the reason comes back when it is tried again

    def _started(self, worker: Worker | None = None) -> Worker:
        """A worker that has started, this one or another in its place, behind the same walls as the first."""
        for attempt in range(ATTEMPTS):
            try:
                worker = worker or self._worker()
                worker.start()
                break
            except SandboxFault as fault:
                if attempt == ATTEMPTS - 1:
                    raise
                log.warning("%s; starting another", fault)
                time.sleep(attempt)
                worker = None
        assert worker is not None
        known = self._workers[0].mechanisms if self._workers else worker.mechanisms
        if worker.mechanisms != known:
            worker.kill()
            raise SandboxFault(f"a worker of the sandbox has {worker.mechanisms}, where another had {known}")
        return worker

    def _run(self, messages: list[wire.Message], images: Mapping[str, bytes]) -> list[Outcome]:
        """One outcome per message; ``images`` are its databases by their digests."""
        outcomes: list[Outcome | None] = [None] * len(messages)
        waiting, failures = list(range(len(messages)))[::-1], [0] * len(messages)
        try:
            while waiting or any(worker.job is not None for worker in self._workers):
                self._hand_out(waiting, messages, images, failures)
                for worker in self._answered():
                    number = worker.job
                    assert number is not None
                    try:
                        outcomes[number] = wire.decode(*worker.take(), self.spec)
                    except (WorkerDied, wire.NotReached) as error:
                        self._failed(worker, number, waiting, failures, error)
        except wire.TablesRefused as error:
            self.close()
            raise UserError(f"sandbox: {error}") from error
        except BaseException:
            self.close()  # what is still running belongs to nobody
            raise
        return [outcome for outcome in outcomes if outcome is not None]

    def _hand_out(
        self, waiting: list[int], messages: list[wire.Message], images: Mapping[str, bytes], failures: list[int]
    ) -> None:
        for worker in list(self._workers):
            if waiting and worker.job is None:
                number = waiting.pop()
                try:
                    worker.give(number, *messages[number], images)
                except WorkerDied as error:
                    self._failed(worker, number, waiting, failures, error)

    def _answered(self) -> list[Worker]:
        """Wait for workers that have an answer, are gone, or are past their time."""
        busy = [worker for worker in self._workers if worker.job is not None]
        if not busy:
            return []
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.sock, selectors.EVENT_READ, worker)
            soonest = min(worker.deadline for worker in busy)
            ready = [key.data for key, _ in selector.select(min(max(0.0, soonest - time.monotonic()), WAIT))]
        late = [worker for worker in busy if worker not in ready and time.monotonic() > worker.deadline]
        for worker in late:
            worker.process.kill()  # and taking its answer fails
        return ready + late

    def _failed(self, worker: Worker, number: int, waiting: list[int], failures: list[int], error: Exception) -> None:
        """Put a job back and a new worker in the place of one that failed."""
        failures[number] += 1
        if failures[number] >= ATTEMPTS:
            raise SandboxFault(f"the sandbox lost {ATTEMPTS} workers on one snippet; the last: {error}") from error
        log.warning("sandbox: a worker failed (%s); starting another", error)
        waiting.append(number)
        self._workers.remove(worker)
        worker.kill()
        self._workers.append(self._started())

    def _probed(self) -> Protections:
        """Try what must not work.

        Raises:
            SandboxFault: more than the spec allows did work.
        """
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            secret = Path(folder) / "secret"
            secret.write_text("secret")
            port = 9
            with contextlib.suppress(OSError):  # where this process has no network, a snippet has none
                port = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            facts: dict[str, Any] = {
                "FOLDERS": [folder, tempfile.gettempdir(), "/dev/shm", "/var/tmp", str(Path.cwd()), "/"],
                "NAME": f".sandbox_probe_{os.getpid()}",
                "SECRET": str(secret),
                "PORT": port,
                "TRAINER": os.getpid(),
                "MEMORY": (self.spec.memory_mb + 64) * 2**20,
            }
            code = "".join(f"{name} = {value!r}\n" for name, value in facts.items()) + CODE
            (outcome,) = self._run(wire.encode([Job(code)], gate=False), {})
            for place in facts["FOLDERS"]:
                (Path(place) / facts["NAME"]).unlink(missing_ok=True)
        if outcome.rows is None or outcome.columns is None:
            raise SandboxFault(f"the sandbox cannot run its own probes: {outcome.status} {outcome.error}")
        probes = {name: value is True for (name, _), value in zip(outcome.columns, outcome.rows[0], strict=True)}
        return self._judged(probes)

    def _judged(self, probes: dict[str, bool]) -> Protections:
        """What the probes mean, if it is enough."""
        held = {name for name, stopped in probes.items() if stopped}
        level: Any = next((name for name, needed in ENOUGH.items() if needed <= held), "none")
        found = Protections(level, probes, self._workers[0].mechanisms)
        if ENOUGH[self.spec.min_protection] <= held:
            return found
        if not self.spec.allow_unsafe_execution:
            raise SandboxFault(
                f"min_protection is {self.spec.min_protection!r}, but this machine gives: {found}. Run where Landlock "
                "and seccomp are allowed, or set allow_unsafe_execution, if what the model writes may do all that you "
                "may do."
            )
        log.warning("sandbox: UNSAFE: snippets can do what this user can do: %s", found)
        return found
