"""A table, and a place with a secret, a canary and listeners for snippets that want to get at them."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from lightning_posttrain.sandbox import Job, Sandbox, SandboxSpec, Table
from tests.conftest import HANGS

NUMBERS = Table("numbers", (("x", "int64"), ("name", "string")), ((1, "a"), (2, "b"), (3, None)))
SECRET = "hunter-2-of-the-sandbox"


@dataclass
class Bait:
    """What a hostile snippet is offered, and whether it took it."""

    root: Path
    tcp: socket.socket
    udp: socket.socket

    def place(self, name: str, code: str) -> str:
        """The snippet with a folder of its own to attack."""
        folder = self.root / name
        folder.mkdir()
        (folder / "canary").write_text("alive")
        os.utime(folder / "canary", (1_000_000, 1_000_000))
        (folder / "planted.py").write_text(f"raise SystemExit({SECRET!r})")
        names = {"canary": folder / "canary", "folder": folder, "secret": self.root / "secret", "trainer": os.getpid()}
        names |= {"port": self.tcp.getsockname()[1], "udp": self.udp.getsockname()[1]}
        for word, value in names.items():
            code = code.replace(f"{{{word}}}", str(value))
        return code

    def untouched(self, name: str) -> bool:
        folder = self.root / name
        state = (folder / "canary").stat()
        about = (state.st_mode & 0o777, state.st_uid, state.st_mtime)
        same = about == (0o644, os.getuid(), 1_000_000) and (folder / "canary").read_text() == "alive"
        return same and {path.name for path in folder.iterdir()} == {"canary", "planted.py"}

    def unheard(self) -> bool:
        """Nobody has called."""
        for listener in (self.tcp, self.udp):
            listener.setblocking(False)
            try:
                listener.accept() if listener is self.tcp else listener.recv(9)
            except BlockingIOError:
                continue
            return False
        return True


@pytest.fixture(scope="module")
def bait(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bait]:
    root = tmp_path_factory.mktemp("bait")
    root.chmod(0o755)
    (root / "secret").write_text(SECRET)
    before = os.umask(0o022)
    os.environ["SANDBOX_SECRET"] = SECRET
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        yield Bait(root, tcp, udp)
    del os.environ["SANDBOX_SECRET"]
    os.umask(before)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxSpec(workers=1, wall_seconds=HANGS)) as sandbox:
        yield sandbox


def ibis_job(code: str, *tables: Table, **options: object) -> Job:
    return Job(code, tables or (NUMBERS,), **options)  # type: ignore[arg-type]


def workers_of(pid: int) -> list[psutil.Process]:
    """Worker processes that a process has started."""
    found = psutil.Process(pid).children()
    return [process for process in found if "sandboxed.inside" in " ".join(process.cmdline())]


def orphans() -> list[psutil.Process]:
    """Processes of any sandbox that have lost their owner."""
    found = []
    for process in psutil.process_iter(["cmdline", "ppid", "status"]):
        mine = "sandboxed.inside" in " ".join(process.info["cmdline"] or ())
        if mine and process.info["ppid"] == 1 and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found
