"""Running a lifecycle hook (runtime-spec config.md#posix-platform-hooks).

Both sides run hooks, the caller's and init, so this module is part of what init may import.
"""

from __future__ import annotations

import os
import select
import time

from libpycontainer import syscalls as sys_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

KILL = 9
OUTPUT_LIMIT = 4096


def execute(
    path: str,
    args: Sequence[str],
    env: Sequence[str],
    timeout: int | None,
    state: bytes,
) -> str:
    """Run one hook with the state document on its standard input; returns what went wrong, or "".

    ``timeout`` is in seconds; a hook that exceeds it is killed. The hook gets exactly ``env``.
    What it prints is only kept to be quoted when it fails.
    """
    output = sys_.memfd("hook-output")
    with output, sys_.sealed_memfd("hook-state", state) as stdin:
        fds = [stdin.fileno(), output.fileno(), output.fileno()]
        try:
            _pid, pidfd = sys_.spawn(list(args), list(env), fds, path=path)
        except OSError as error:
            return error.strerror or str(error)
        with pidfd:
            in_time = _wait(pidfd, timeout)
            if not in_time:
                sys_.send_signal(pidfd.fileno(), KILL)
            status = reap(pidfd)
        if not in_time:
            return f"still running after {timeout} s, killed"
        if status == 0:
            return ""
        said = os.pread(output.fileno(), OUTPUT_LIMIT, 0).decode("utf-8", "replace").strip()
        how = f"exit status {status}" if status > 0 else f"killed by signal {-status}"
        return f"{how}, output: {said}" if said else how


def _wait(pidfd: sys_.Fd, timeout: float | None) -> bool:
    """Wait for the end of a process; false when the time (seconds) is up first."""
    poll = select.poll()
    poll.register(pidfd.fileno(), select.POLLIN)
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if poll.poll(None if left is None else left * 1000):
            return True
        if left == 0.0:
            return False


def reap(pidfd: sys_.Fd | int) -> int:
    """The exit code of an ended child, negative for a signal, also when somebody else reaped it.

    Raises ``OSError(ENODATA)`` where the kernel (before 6.15) has lost it to that somebody.
    """
    number = pidfd if isinstance(pidfd, int) else pidfd.fileno()
    try:
        result = os.waitid(os.P_PIDFD, number, os.WEXITED)
    except ChildProcessError:
        status = sys_.exit_status(number)
        if status is None:
            raise
        return os.waitstatus_to_exitcode(status)
    assert result is not None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
