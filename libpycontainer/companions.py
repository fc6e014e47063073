"""Processes that ``exec`` started, and the inits that they hold up.

The init of a pid namespace is not gone before every process in it has been reaped. What ``exec``
starts is this program's child, so nobody else reaps it: an init that is waited for, or killed,
would wait for a handle that was dropped. So each is remembered here, with a pidfd of its own, until
it has ended and been reaped.
"""

from __future__ import annotations

import _thread
import os

from libpycontainer import reaping
from libpycontainer.descriptors import Fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libpycontainer.process import Process
    from libpycontainer.waiting import Identity

_started: dict[tuple[int, int], list[Companion]] = {}
"""By init's pid and start time. Lists are only appended to, and replaced as a whole."""

_lock = _thread.RLock()
"""Held for every look at them: to reap one is to look for those beside itself."""


class Companion:
    """One process that exec started: the caller's handle, as long as he keeps it open."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._pidfd = Fd(os.dup(process.fileno()))

    def fileno(self) -> int:
        return self._pidfd.fileno()

    def reap_if_ended(self) -> bool:
        """Has it ended? Then it is reaped, and its exit code kept in the caller's handle."""
        if not reaping.wait_readable(self.fileno(), 0):
            return False
        if self._process.held:
            if self._process.poll() is None:
                # Somebody inside traces it, and has not let go.
                return False
        else:
            try:
                reaping.reap(self.fileno(), 0)
            except TimeoutError:
                return False
            except OSError:
                # Reaped already, by its handle or by the program's own waitpid.
                pass
        self._pidfd.close()
        return True


def add(init: Identity, process: Process) -> None:
    """Remember a process that was started beside ``init``."""
    with _lock:
        running = remaining(init)
        _started[init.pid, init.start_time] = [*running, Companion(process)]


def remaining(init: Identity) -> list[Companion]:
    """Reap those beside ``init`` that have ended; returns the others."""
    key = (init.pid, init.start_time)
    if key not in _started:
        return []
    with _lock:
        running = [each for each in _started.get(key, ()) if not each.reap_if_ended()]
        if running:
            _started[key] = running
        else:
            _started.pop(key, None)
        return running
