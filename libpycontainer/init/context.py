"""What the steps share: the descriptors, the container's root, the line to the caller."""

from __future__ import annotations

import os

from libpycontainer import syscalls as sys_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class StepFailure(Exception):  # noqa: N818 - it is a message first, an exception for the way up
    """A step did not work out; travels to the caller as one packet."""

    def __init__(
        self,
        message: str,
        *,
        op: str = "",
        path: str = "",
        errno: int = 0,
        step: int = 0,
        total: int = 0,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.op = op
        self.path = path
        self.errno = errno
        self.step = step
        self.total = total

    @classmethod
    def from_os_error(cls, context: Context, op: str, error: OSError) -> StepFailure:
        reason = error.strerror or str(error)
        path = error.filename if isinstance(error.filename, str) else ""
        detail = f" ({path})" if path and path not in context.title else ""
        number = error.errno or 0
        return cls(
            f"{context.title}: {reason}{detail}",
            op=op,
            path=path,
            errno=number,
            step=context.step,
            total=context.total,
        )

    @classmethod
    def wrap(cls, error: BaseException) -> StepFailure:
        return cls(f"{type(error).__name__}: {error}", op="init")


class Context:
    """The state of one spawner, and then of one init."""

    def __init__(self, socket: sys_.Fd) -> None:
        self.socket = socket
        """To the caller, until the container is created."""
        self.channel = socket
        """Where failures are reported: the caller, later whoever called start."""
        self.introduction: sys_.Fd | None = None
        """At its end when the spawner has told of us: no word of ours may come before that."""
        self.fds: dict[str, sys_.Fd] = {}
        self.root: sys_.Fd | None = None
        """The container's root; every path inside it is resolved from here."""
        self.null: sys_.Fd | None = None
        self.kernel_trees: dict[str, sys_.Fd] = {}
        """What was mounted on /proc and /sys, whatever becomes of these names meanwhile."""
        self.program: str | None = None
        self.args: list[str] = []
        self.env: list[str] = []
        self.step = 0
        self.total = 0
        self.title = ""
        self.progress = False
        """Is the caller to hear of every step? Until the container is created; nobody else is."""

    def fail(self, message: str, *, op: str = "", path: str = "", errno: int = 0) -> NoReturn:
        raise StepFailure(message, op=op, path=path, errno=errno, step=self.step, total=self.total)

    def report(self, failure: StepFailure) -> None:
        """Tell the other end, who may be gone: then there is nothing left to say."""
        fields = (
            "error",
            str(failure.step),
            str(failure.total),
            failure.op,
            failure.path,
            str(failure.errno),
            failure.message,
        )
        packet = "\0".join(field.replace("\0", "?") for field in fields)
        try:
            self.say(os.fsencode(packet)[:60000])
        except (OSError, ValueError):
            pass

    def announce(self) -> None:
        """Tell the caller of the step that comes now, if he wants to hear of it."""
        if not self.progress or self.channel is not self.socket:
            return
        try:
            self.log("progress", f"{self.step} {self.total} {self.title}")
        except OSError:
            # The container is created, and the caller has hung up.
            self.progress = False

    def log(self, level: str, message: str) -> None:
        text = message.replace("\0", "?")
        self.say(os.fsencode(f"log\0{level}\0{text}")[:60000])

    def say(self, packet: bytes) -> None:
        if self.introduction is not None:
            with self.introduction as end:
                os.read(end.fileno(), 1)
            self.introduction = None
        sys_.send(self.channel.fileno(), packet)

    def await_word(self, word: bytes) -> None:
        """Wait for one packet from the caller; without him there is nothing to go on for."""
        data, fds = sys_.receive(self.socket.fileno())
        for fd in fds:
            fd.close()
        if data != word:
            os._exit(1)

    def take(self, name: str) -> sys_.Fd:
        return self.fds.pop(name)

    def root_fd(self) -> int:
        assert self.root is not None
        return self.root.fileno()
