"""Running a lifecycle hook (runtime-spec config.md#posix-platform-hooks).

Both sides run hooks, the caller's and init, so this module is part of what init may import.
"""

from __future__ import annotations

import os

from libpycontainer import reaping
from libpycontainer import syscalls as sys_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

KILL = 9
OUTPUT_LIMIT = 4096


class Failure:
    """Why a hook failed, and its exit code (negative for a signal), if it came that far."""

    __slots__ = ("reason", "returncode")

    def __init__(self, reason: str, returncode: int | None) -> None:
        self.reason = reason
        self.returncode = returncode


def execute(
    path: str,
    args: Sequence[str],
    env: Sequence[str],
    timeout: int | None,
    state: bytes,
) -> Failure | None:
    """Run one hook with the state document on its standard input; returns what went wrong, if so.

    ``timeout`` is in seconds; a hook that exceeds it is killed. The hook gets exactly ``env``.
    What it prints is only kept to be quoted when it fails.
    """
    output = sys_.memfd("hook-output")
    with output, sys_.sealed_memfd("hook-state", state) as stdin, sys_.Child() as child:
        fds = [stdin.fileno(), output.fileno(), output.fileno()]
        try:
            return _run(child, path, args, env, fds, timeout)
        except BaseException:
            # A Ctrl-C, say: nobody else would ever wait for it.
            _end(child)
            raise


def _run(
    child: sys_.Child,
    path: str,
    args: Sequence[str],
    env: Sequence[str],
    fds: Sequence[int],
    timeout: int | None,
) -> Failure | None:
    try:
        sys_.spawn(list(args), list(env), fds, path=path, child=child)
    except OSError as error:
        return Failure(error.strerror or str(error), None)
    in_time = reaping.wait_readable(child.fileno(), timeout)
    if not in_time:
        sys_.send_signal(child.fileno(), KILL)
    status = reaping.reap(child.fileno())
    if not in_time:
        return Failure(f"still running after {timeout} s, killed", status)
    if status == 0:
        return None
    said = os.pread(fds[1], OUTPUT_LIMIT, 0).decode("utf-8", "replace").strip()
    how = f"exit status {status}" if status > 0 else f"killed by signal {-status}"
    return Failure(f"{how}, output: {said}" if said else how, status)


def _end(child: sys_.Child) -> None:
    if not child.started:
        return
    try:
        sys_.send_signal(child.fileno(), KILL)
        reaping.reap(child.fileno())
    except OSError:
        # It was over, and reaped, already.
        pass
