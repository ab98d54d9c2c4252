"""Taking rights away from this process, for good: namespaces, capabilities, Landlock, limits. Linux only.

Every function does one thing and says whether it worked; what must have worked is decided by probes, not here. The
filter of system calls is in `seccomp`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
import sysconfig

from .syscalls import LANDLOCK, Machine

libc = ctypes.CDLL(None, use_errno=True)

NEW_NAMESPACES = 0x40000000 | 0x08000000 | 0x04000000  # network, IPC, host name
NEW_USER = 0x10000000
READ_FILE, READ_DIR = 1 << 2, 1 << 3
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Landlock's ABI -> how many rights about files it knows; all of them are taken away."""


def unshare() -> str:
    """Leave the network and other namespaces, as root or, where that is allowed, as a user.

    Call it before anything starts a thread.

    Returns:
        How, or why not.
    """
    for flags, how in ((NEW_NAMESPACES, "root"), (NEW_NAMESPACES | NEW_USER, "user")):
        if not libc.unshare(flags):
            return how
    return f"no ({os.strerror(ctypes.get_errno())})"


def no_new_privileges() -> bool:
    return not libc.prctl(38, 1, 0, 0, 0)


def hide_from_debuggers() -> bool:
    """Not dumpable: other processes of this user cannot read this one's memory."""
    return not libc.prctl(4, 0, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent dies, even if that has happened already."""
    libc.prctl(1, 9, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def drop_capabilities(machine: Machine | None) -> str:
    """Give up all capabilities; a process of root keeps its files, which Landlock takes care of."""
    for capability in range(64):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; fails past the last one and without CAP_SETPCAP
    if machine is None:
        return "no (unknown machine)"
    header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
    return "all" if not libc.syscall(machine.capset, header, nothing) else "no"


def landlock_abi() -> int:
    """Version of Landlock; 0 = not there."""
    return max(0, libc.syscall(LANDLOCK["create_ruleset"], None, ctypes.c_size_t(0), 1))


def landlock(abi: int, readable: list[str] | None) -> bool:
    """Take away everything that Landlock knows, except reading below some folders. Holds for this thread's children.

    Args:
        abi: as `landlock_abi` gives it, above 0.
        readable: folders; those that do not exist are left out. None = a second layer around a process that has the
            first one already: it may not signal or trace what is outside.
    """
    files = (1 << FILE_RIGHTS.get(abi, 16)) - 1 if readable is not None else 1  # a layer needs one right: execution
    network, scopes = (3 if abi >= 4 else 0), (3 if abi >= 6 else 0)  # TCP; abstract sockets and signals
    attributes = struct.pack("QQQ", files, network, scopes)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = libc.syscall(LANDLOCK["create_ruleset"], attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    try:
        for folder in readable or ():
            with contextlib.suppress(OSError):
                handle = os.open(folder, os.O_PATH | os.O_CLOEXEC)
                rule = struct.pack("=Qi", READ_FILE | READ_DIR, handle)
                failed = libc.syscall(LANDLOCK["add_rule"], ruleset, 1, rule, 0)
                os.close(handle)
                if failed:
                    return False
        return not libc.syscall(LANDLOCK["restrict_self"], ruleset, 0)
    finally:
        os.close(ruleset)


def python_folders() -> list[str]:
    """Where Python's modules and the libraries they load are, and the time zones: all that may be read."""
    import sys

    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    paths |= {f"{sys.base_prefix}/lib/{version}", f"{sys.base_prefix}/{sys.platlibdir}/{version}"}
    paths |= {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo"}
    return sorted(paths)


def limit(memory: int, cpu_seconds: int, may_fork: bool) -> None:
    """Resource limits of a snippet.

    Args:
        memory: bytes of address space.
        cpu_seconds: after them the process is told, a second later it is killed.
        may_fork: nothing else keeps it from starting processes, so this tries to; it cannot stop root.
    """
    limits = [
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_MEMLOCK, 0, 0),
    ]
    if may_fork:
        limits.append((resource.RLIMIT_NPROC, 0, 0))
    for kind, soft, hard in limits:
        ceiling = resource.getrlimit(kind)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(kind, (soft, hard))
