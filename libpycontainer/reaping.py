"""The end of a child, seen through its pidfd. Both sides wait for children: init for its hooks."""

from __future__ import annotations

import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_POLL = (1 << 31) - 1
_FIRST_DELAY, _LAST_DELAY = 0.001, 0.05


def wait_readable(fd: int, timeout: float | None) -> bool:
    """Wait until a pidfd says that its process ended; false when the time (seconds) is up."""
    return bool(wait_any([fd], timeout))


def wait_any(fds: Iterable[int], timeout: float | None) -> list[int]:
    """Those of several pidfds whose process has ended; empty when the time (seconds) is up."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        # poll(2) counts milliseconds in an int: some 24 days, after which it is asked again.
        if ended := poll.poll(None if left is None else min(left * 1000, MAX_POLL)):
            return [fd for fd, _event in ended]
        if left == 0.0:
            return []


def reap(pidfd: int, timeout: float | None = None) -> int:
    """The exit code of an ended child, negative for a signal, also when somebody else reaped it.

    Waits for the end where it has not come. Raises ``OSError(ENODATA)`` where the kernel (before
    6.15) has lost the code to that somebody, and :class:`TimeoutError` after ``timeout`` seconds: a
    process that is traced by another one has ended for that one first (man 2 ptrace), and a tracer
    inside of a container that never takes note must not hold whoever waits here.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    delay = _FIRST_DELAY
    while True:
        try:
            result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            from libpycontainer.syscalls import exit_status

            status = exit_status(pidfd)
            if status is None:
                raise
            return os.waitstatus_to_exitcode(status)
        if result is not None:
            return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError("the process cannot be reaped yet")
        if wait_readable(pidfd, 0):
            # It has ended, and somebody traces it: there is nothing that could be waited for.
            time.sleep(delay if left is None else min(delay, left))
            delay = min(delay * 2, _LAST_DELAY)
        else:
            wait_readable(pidfd, left)
