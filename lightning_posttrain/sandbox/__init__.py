"""Runs what a model wrote, away from everything: Ibis on DuckDB, DuckDB's SQL, and SQLite's.

The only room of the package that executes text. Whether a result is right is decided elsewhere.

Every snippet gets a process of its own, forked from a worker that is a program of its own and holds nothing of the
trainer's. What the process cannot do, and what sees to it:

    read files, other than Python's own     Landlock; without it the filter of system calls lets it open none
    write, rename, delete, change modes     Landlock, the filter, a file size of 0
    use the network                         the filter, Landlock (TCP), a network namespace where allowed
    start processes, signal others          the filter, Landlock (signals)
    see the environment or other memory     an environment of its own, a fresh program, not dumpable, no /proc
    use up memory, time, output             limits, a clock outside, SIGKILL for its whole group
    stay                                    the group is killed, and dies with its worker, which dies with the trainer
    reach files through DuckDB              settings that are locked, besides the above
    write, attach, set through SQLite       its authorizer: a query reads tables and computes; besides the above

Not covered: holes in the kernel, what can be learned from timing, names and sizes of files (they can be asked for, not
read). A snippet of Python that leaves its rails can claim any rows as its answer, or that an expression was deferred:
the answer is made in the snippet's own process, so no secret could prove it genuine. It never sees what is expected, so
score on tables that the prompt does not show. For the same reason rows of tables that earlier jobs had may linger where
such a snippet can find them: give jobs that must not see each other's tables sandboxes of their own. Queries have no
such rails to leave. Machines other than x86_64 and aarch64 have no filter, and are refused.
"""

from .jobs import Database, Job, Outcome, Protections, SandboxFault, SandboxSpec, Table
from .sandbox import Sandbox

__all__ = ["Database", "Job", "Outcome", "Protections", "Sandbox", "SandboxFault", "SandboxSpec", "Table"]
