"""Every exception that libpycontainer raises on purpose: one tree, fields first.

A caller decides on the class and the fields; the sentence is for people. Nothing here imports
anything: the sealed init and a cold command line both pay for this module.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class ContainerError(Exception):
    """Base of the tree.

    ``op`` names what was being done (``"mount"``, ``"clone3"``), ``path`` what it was done to,
    ``errno`` is the kernel's number (0 when no system call is to blame). Each may be empty.
    """

    def __init__(self, message: str, *, op: str = "", path: str = "", errno: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.op = op
        self.path = path
        self.errno = errno

    def __str__(self) -> str:
        return self.message


_LONGEST = 1000


def _short(text: str) -> str:
    """A sentence for people: of a value as long as a book its beginning and its end are enough."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"


class Problem:
    """One thing that is wrong (or doubtful) in a document, and where: ``$.process.cwd``.

    ``warning`` is true for what the OCI specification tells a runtime to report and then ignore.
    """

    __slots__ = ("message", "path", "warning")

    def __init__(self, path: str, message: str, *, warning: bool = False) -> None:
        self.path = path
        self.message = message
        self.warning = warning

    def __str__(self) -> str:
        return f"{self.path}: {_short(self.message)}"

    def __repr__(self) -> str:
        kind = ", warning=True" if self.warning else ""
        return f"Problem({self.path!r}, {self.message!r}{kind})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Problem):
            return NotImplemented
        mine = (self.path, self.message, self.warning)
        return mine == (other.path, other.message, other.warning)

    def __hash__(self) -> int:
        return hash((self.path, self.message, self.warning))


class SpecError(ContainerError):
    """A document that cannot be used: unreadable, not JSON, misshapen, or against the rules.

    ``problems`` holds every one of them, each with its JSON path; ``source`` the file, if any.
    """

    def __init__(self, problems: Iterable[Problem], *, source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        text = "; ".join(str(problem) for problem in self.problems)
        super().__init__(f"{source}: {text}" if source else text, op="load", path=source)


class InvalidIDError(ContainerError):
    """The name is not one that a container may have."""


class NotFoundError(ContainerError):
    """No container of that name under this root."""


class AlreadyExistsError(ContainerError):
    """A container of that name is there already, or another caller is making it right now."""


class BusyError(ContainerError):
    """Another call has been changing the same container for longer than one waits."""


class StatusError(ContainerError):
    """The container's status does not allow the verb (runtime-spec runtime.md#operations)."""

    def __init__(self, message: str, *, verb: str = "", status: str = "") -> None:
        super().__init__(message, op=verb)
        self.verb = verb
        self.status = status


class StepError(ContainerError):
    """A step of the plan failed inside the container's init.

    ``step`` counts from 1; 0 stands for what happens outside the plan (cloning, the conversation).
    """

    def __init__(
        self,
        message: str,
        *,
        step: int = 0,
        total: int = 0,
        op: str = "",
        path: str = "",
        errno: int = 0,
    ) -> None:
        super().__init__(message, op=op, path=path, errno=errno)
        self.step = step
        self.total = total


class ExecutableError(StepError):
    """The program is missing (``errno`` ENOENT) or cannot be executed (EACCES, ENOEXEC ...)."""


class HookError(ContainerError):
    """A hook could not be run, exited non-zero, or took longer than its timeout.

    ``returncode`` is subprocess's: negative for a signal, ``None`` where there was no exit.
    """

    def __init__(
        self, message: str, *, hook: str = "", path: str = "", returncode: int | None = None
    ) -> None:
        super().__init__(message, op=hook, path=path)
        self.returncode = returncode


class CgroupError(ContainerError):
    """A cgroup could not be made, joined, configured, read or removed; ``path`` is its file."""


class UnsupportedError(ContainerError):
    """Asked for something that this host, or this version, cannot do."""


class InterpreterError(ContainerError):
    """No Python interpreter was found that could become the container's init."""


class ProtocolError(ContainerError):
    """The other end of the conversation died, hung, or said something out of turn."""


class TimeoutExpired(ContainerError):  # noqa: N818 - the name that subprocess gives it
    """The process was still running when the time was up; only ``lc.run`` kills it then.

    ``timeout`` is in seconds; ``output`` (also ``stdout``) and ``stderr`` hold what had been
    captured so far, if anything was to be.
    """

    def __init__(
        self, message: str, *, timeout: float, output: Any = None, stderr: Any = None
    ) -> None:
        super().__init__(message, op="wait")
        self.timeout = timeout
        self.output = self.stdout = output
        self.stderr = stderr


class CalledProcessError(ContainerError):
    """A program that was to be checked exited non-zero, or was killed by a signal (negative)."""

    def __init__(self, returncode: int, cmd: Any, output: Any = None, stderr: Any = None) -> None:
        if returncode < 0:
            how = f"died with signal {-returncode}"
        else:
            how = f"returned non-zero exit status {returncode}"
        super().__init__(f"command {cmd!r} {how}", op="run")
        self.returncode = returncode
        self.cmd = cmd
        self.output = self.stdout = output
        self.stderr = stderr
