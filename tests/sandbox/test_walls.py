"""The filter of system calls, run by a BPF machine of ten lines; the other walls are tested by `hostile`."""

import errno
import os
import platform
import struct
from pathlib import Path

import pytest

from lightning_posttrain.sandbox.inside import lockdown, seccomp
from lightning_posttrain.sandbox.inside.syscalls import machine

PID = 4711
ALLOWED, NEVER = "allowed", "killed"


def verdict(filter_: bytes, arch: int, number: int, *arguments: int) -> str | int:
    """What a filter says about a call: allowed, killed, or an error number."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    code = [struct.unpack_from("HBBI", filter_, i) for i in range(0, len(filter_), 8)]
    value, at = 0, 0
    while True:
        operation, yes, no, k = code[at]
        at += 1
        if operation == seccomp.LOAD:
            (value,) = struct.unpack_from("<I", data, k)
        elif operation == seccomp.AND:
            value &= k
        elif operation == seccomp.RETURN:
            return {seccomp.ALLOW: ALLOWED, seccomp.KILL: NEVER}.get(k, k & 0xFFFF)
        else:
            at += yes if (value == k if operation == seccomp.EQUAL else value >= k) else no


@pytest.mark.parametrize("name", ["x86_64", "aarch64"])
def test_filter(name: str):
    numbers = machine(name)
    assert numbers is not None
    filter_ = seccomp.addressed(seccomp.program(numbers, may_open=True), PID)
    assert filter_ == seccomp.program(numbers, may_open=True, pid=PID)

    def says(call: str, *arguments: int) -> str | int:
        number = {**numbers.always, **numbers.conditional}[call]
        return verdict(filter_, numbers.audit_arch, number, *arguments)

    assert all(says(call) == ALLOWED for call in numbers.always)
    assert says("openat", 0, 0, os.O_RDONLY | os.O_CLOEXEC) == ALLOWED
    for flag in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_APPEND, 0o20000000):
        assert says("openat", 0, 0, flag) == errno.EPERM
    assert says("openat2") == says("clone3") == errno.ENOSYS
    assert says("clone", 0x3D0F00) == ALLOWED  # what pthread_create asks for
    assert says("clone", 17) == errno.EPERM  # and fork
    assert says("kill", PID, 9) == ALLOWED
    assert {says(call, pid, 9) for call in ("kill", "tkill", "tgkill") for pid in (1, 0, PID + 1, 2**32 - 1)} == {
        errno.EPERM
    }
    assert says("prlimit64", 0, 7, 0) == ALLOWED
    assert says("prlimit64", 0, 7, 1) == says("prlimit64", 0, 7, 1 << 32) == errno.EPERM
    assert says("fcntl", 3, 1) == ALLOWED
    assert says("fcntl", 3, 8) == errno.EPERM  # F_SETOWN
    assert says("prctl", 15) == ALLOWED
    assert says("prctl", 1) == says("prctl", 22) == errno.EPERM  # PR_SET_PDEATHSIG, PR_SET_SECCOMP
    assert says("faccessat") == errno.ENOENT
    assert says("wait4") == errno.ECHILD


@pytest.mark.parametrize("name", ["x86_64", "aarch64"])
def test_everything_else_is_refused(name: str):
    numbers = machine(name)
    assert numbers is not None
    filter_ = seccomp.program(numbers, may_open=False, pid=PID)
    known = {*numbers.always.values(), *numbers.conditional.values()}
    unknown = [number for number in range(600) if number not in known]
    assert {verdict(filter_, numbers.audit_arch, number) for number in unknown} == {errno.EPERM}
    assert verdict(filter_, numbers.audit_arch, numbers.conditional["openat"]) == errno.EACCES
    assert verdict(filter_, 0x40000003, 1) == NEVER  # the calls of another kind of machine, with other numbers
    assert verdict(filter_, numbers.audit_arch, 0x40000001) == NEVER


def test_no_call_has_two_rules():
    for name in ("x86_64", "aarch64"):
        numbers = machine(name)
        assert numbers is not None
        values = [*numbers.always.values(), *numbers.conditional.values()]
        assert len(values) == len(set(values))


def test_unknown_machines_have_no_filter():
    assert machine("riscv64") is None
    assert machine() is not None or platform.machine() not in ("x86_64", "aarch64")


def test_only_pythons_folders_may_be_read():
    folders = lockdown.python_folders()
    assert not {"/", "/root", "/home", "/tmp", "/etc", "/proc", str(Path.cwd())} & set(folders)
    assert all(folder.startswith("/lib") or "/lib" in folder or folder == "/usr/share/zoneinfo" for folder in folders)
