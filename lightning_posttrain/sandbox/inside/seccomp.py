"""The filter of system calls: a list of what is allowed, everything else fails with EPERM.

What it stops that nothing else does for root without namespaces: new processes, sockets, signals to others, changes of
modes and times, shared memory. Which paths may be read is Landlock's business: a filter sees no paths. Without Landlock
the filter allows no opening of files at all.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from .syscalls import Machine

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, AND, EQUAL, AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06  # BPF opcodes on 32-bit words
NUMBER, ARCH, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; arguments have 64 bits, low word first
X32_BIT = 0x40000000
WRITING = 0o3 | 0o100 | 0o1000 | 0o2000 | 0o20000000  # access mode, O_CREAT, O_TRUNC, O_APPEND, O_TMPFILE
CLONE_THREAD = 0x10000
PLAIN_FCNTL = (0, 1, 2, 3, 4, 1030)  # duplicate, flags; not F_SETOWN, which sends signals
OWN = 0xFFFFFFFE  # stands for the process that the filter is for
PLAIN_PRCTL = (15, 16)  # the thread's name

Instruction = tuple[int, int, int, int]


def _return(value: int) -> Instruction:
    return (RETURN, 0, 0, value)


def _refuse(number: int = errno.EPERM) -> Instruction:
    return _return(ERRNO | number)


def _load(argument: int, high: bool = False) -> Instruction:
    return (LOAD, 0, 0, ARGUMENTS + 8 * argument + 4 * high)


def _one_of(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    """Allow if the argument is one of the values."""
    checks = [code for value in values for code in ((EQUAL, 0, 1, value), _return(ALLOW))]
    return [_load(argument), *checks, _refuse()]


def _masked(argument: int, mask: int, allow_zero: bool) -> list[Instruction]:
    """Allow if none of the mask's bits is set, or, not ``allow_zero``, if one is."""
    zero, other = (_return(ALLOW), _refuse()) if allow_zero else (_refuse(), _return(ALLOW))
    return [_load(argument), (AND, 0, 0, mask), (EQUAL, 0, 1, 0), zero, other]


def _conditions(pid: int, may_open: bool) -> dict[str, list[Instruction]]:
    """What is done about the calls that are looked at more closely."""
    own = _one_of(0, (pid,))
    absent = [_refuse(errno.ENOSYS)]  # callers then fall back to the older call, whose arguments can be seen
    hidden = [_refuse(errno.ENOENT)]  # DuckDB aborts if a file is there but cannot be opened
    return {
        "open": _masked(1, WRITING, True) if may_open else [_refuse(errno.EACCES)],
        "openat": _masked(2, WRITING, True) if may_open else [_refuse(errno.EACCES)],
        "openat2": absent,
        "clone": _masked(0, CLONE_THREAD, False),
        "clone3": absent,
        "fcntl": _one_of(1, PLAIN_FCNTL),
        "ioctl": [_refuse(errno.ENOTTY)],
        "prctl": _one_of(0, PLAIN_PRCTL),
        "prlimit64": [_load(2), (EQUAL, 0, 3, 0), _load(2, high=True), (EQUAL, 0, 1, 0), _return(ALLOW), _refuse()],
        "kill": own,
        "tgkill": own,
        "tkill": own,  # of the thread that runs the snippet, whose number is that of the process
        "wait4": [_refuse(errno.ECHILD)],
        "waitid": [_refuse(errno.ECHILD)],
        "access": hidden,
        "faccessat": hidden,
        "faccessat2": hidden,
    }


def program(machine: Machine, may_open: bool, pid: int = OWN) -> bytes:
    """The filter as BPF.

    Args:
        machine: numbers of the calls.
        may_open: allow opening files for reading.
        pid: the only process that may be signalled.
    """
    code: list[Instruction] = [
        (LOAD, 0, 0, ARCH),
        (EQUAL, 1, 0, machine.audit_arch),
        _return(KILL),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, X32_BIT),
        _return(KILL),
    ]
    for number in machine.always.values():
        code += [(EQUAL, 0, 1, number), _return(ALLOW)]
    conditions = _conditions(pid, may_open)
    for name, number in machine.conditional.items():
        code += [(EQUAL, 0, len(conditions[name]), number), *conditions[name]]
    return b"".join(_packed(instruction) for instruction in [*code, _refuse()])


def addressed(filter_: bytes, pid: int) -> bytes:
    """A filter made without a process, for a process: making it anew takes longer than a small query."""
    return filter_.replace(_packed((EQUAL, 0, 1, OWN)), _packed((EQUAL, 0, 1, pid)))


def _packed(instruction: Instruction) -> bytes:
    return struct.pack("HBBI", *instruction)


def install(libc: ctypes.CDLL, filter_: bytes) -> None:
    """Apply a filter to this thread and what it starts. Needs no_new_privs.

    Raises:
        OSError: the kernel does not take it.
    """
    buffer = ctypes.create_string_buffer(filter_, len(filter_))
    header = struct.pack("HxxxxxxP", len(filter_) // 8, ctypes.addressof(buffer))
    if libc.prctl(22, 2, header, 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "seccomp")
