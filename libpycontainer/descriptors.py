"""A file descriptor as an object, for those who need no more of the kernel than Python has.

Most verbs of the command never come to the shim, which takes its time to load.
"""

from __future__ import annotations

import os


class Fd:
    """A file descriptor with exactly one owner, closed when the owner lets go of it.

    ``with`` closes it; :meth:`detach` gives it away as a bare number and forgets it.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        if fd < 0:
            raise ValueError(f"not a file descriptor: {fd}")
        self._fd = fd

    def fileno(self) -> int:
        """The number; raises ``ValueError`` once it is closed or given away."""
        if self._fd < 0:
            raise ValueError("the descriptor is closed")
        return self._fd

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def detach(self) -> int:
        """Give the descriptor away: whoever takes the number closes it."""
        fd = self.fileno()
        self._fd = -1
        return fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Fd:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Only reached by code that dropped its last reference; the number must not linger.
        fd, self._fd = getattr(self, "_fd", -1), -1
        if fd >= 0:
            try:
                os.close(fd)
            except OSError:
                pass

    def __repr__(self) -> str:
        return f"Fd({self._fd})"
