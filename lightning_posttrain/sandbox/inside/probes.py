"""What is tried at the start, in a process like a snippet's: the sandbox believes these answers, not its own settings.

A probe is stopped if it raises. Together they are a snippet without a gate; it gives one row of booleans.
"""

from __future__ import annotations

PROBES = ("write", "read", "connect", "fork", "signal", "memory")

CODE = """
import os, socket, tempfile
def write():
    for folder in FOLDERS:
        try:
            with open(os.path.join(folder, NAME), "w") as file:
                file.write("x")
            return
        except OSError:
            pass
    raise PermissionError
def read():
    with open(SECRET) as file:
        assert file.read()
def connect():
    socket.socket().connect(("127.0.0.1", PORT))
def fork():
    if os.fork() == 0:
        os._exit(0)
def signal():
    os.kill(TRAINER, 0)
def memory():
    assert bytes(MEMORY)
def stopped(probe):
    try:
        probe()
    except (OSError, MemoryError):
        return True
    return False
import pandas
result = pandas.DataFrame({probe.__name__: [stopped(probe)] for probe in (write, read, connect, fork, signal, memory)})
"""
