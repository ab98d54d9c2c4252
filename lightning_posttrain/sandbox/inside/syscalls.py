"""Numbers of the system calls that the sandbox names, for x86_64 and aarch64. Other machines have no filter.

Lists every call that a snippet may make; what is not here is refused. Conditions on arguments are in `seccomp`.
"""

from __future__ import annotations

import platform
from typing import NamedTuple

ALWAYS = """
read 0 63; write 1 64; readv 19 65; writev 20 66; pread64 17 67; preadv 295 69; lseek 8 62; close 3 57
close_range 436 436; fstat 5 80; newfstatat 262 79; statx 332 291; readlinkat 267 78; getdents64 217 61; getcwd 79 17
stat 4 -; lstat 6 -; readlink 89 -; getdents 78 -; dup 32 23; dup2 33 -; dup3 292 24; fadvise64 221 223; umask 95 166
mmap 9 222; munmap 11 215; mprotect 10 226; mremap 25 216; madvise 28 233; brk 12 214; msync 26 227; mincore 27 232
membarrier 324 283; get_mempolicy 239 236; futex 202 98; set_robust_list 273 99; get_robust_list 274 100; rseq 334 293
rt_sigaction 13 134; rt_sigprocmask 14 135; rt_sigreturn 15 139; rt_sigpending 127 136; sigaltstack 131 132
set_tid_address 218 96; restart_syscall 219 128; exit 60 93; exit_group 231 94; arch_prctl 158 -
getpid 39 172; gettid 186 178; getppid 110 173; getpgid 121 155; getsid 124 156; getpgrp 111 -
getuid 102 174; geteuid 107 175; getgid 104 176; getegid 108 177; getgroups 115 158; getresuid 118 148
getresgid 120 150; clock_gettime 228 113; clock_getres 229 114; clock_nanosleep 230 115; nanosleep 35 101
gettimeofday 96 169; time 201 -; times 100 153; getrusage 98 165; getrlimit 97 163; sysinfo 99 179; uname 63 160
sched_yield 24 124; sched_getaffinity 204 123; sched_getparam 143 121; sched_getscheduler 145 120; getcpu 309 168
getrandom 318 278; poll 7 -; ppoll 271 73; select 23 -; pselect6 270 72; pipe 22 -; pipe2 293 59; eventfd2 290 19
epoll_create1 291 20; epoll_ctl 233 21; epoll_wait 232 -; epoll_pwait 281 22
"""
"""Allowed whatever the arguments are. Name, number on x86_64, number on aarch64 ("-": not there)."""

CONDITIONAL = """
open 2 -; openat 257 56; openat2 437 437; clone 56 220; clone3 435 435; fcntl 72 25; ioctl 16 29; prctl 157 167
prlimit64 302 261; kill 62 129; tkill 200 130; tgkill 234 131; wait4 61 260; waitid 247 95
access 21 -; faccessat 269 48; faccessat2 439 439
"""
"""Allowed with some arguments, or refused in a way of their own."""

LANDLOCK = {"create_ruleset": 444, "add_rule": 445, "restrict_self": 446}
"""The same everywhere."""


class Machine(NamedTuple):
    """One kind of machine: what seccomp calls it, and the numbers of its calls."""

    audit_arch: int
    always: dict[str, int]
    conditional: dict[str, int]
    capset: int


def machine(name: str | None = None) -> Machine | None:
    """The numbers of this machine, or of the one named; None if they are not known here."""
    kinds = {"x86_64": (0, 0xC000003E, 126), "aarch64": (1, 0xC00000B7, 91)}
    column, audit_arch, capset = kinds.get(name or platform.machine(), (-1, 0, 0))
    if column < 0:
        return None
    return Machine(audit_arch, _column(ALWAYS, column), _column(CONDITIONAL, column), capset)


def _column(table: str, column: int) -> dict[str, int]:
    entries = [entry.split() for line in table.strip().splitlines() for entry in line.split(";")]
    return {name: int(numbers[column]) for name, *numbers in entries if numbers[column] != "-"}
