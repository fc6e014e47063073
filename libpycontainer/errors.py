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
    ``hint`` says what can be done about it: where one was given for the case at hand, a traceback
    shows it too, as a note; otherwise it is the class's own.
    """

    hint = "The sentence and the fields tell all that is known; what is common has its own class."

    def __init__(
        self, message: str, *, op: str = "", path: str = "", errno: int = 0, hint: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.op = op
        self.path = path
        self.errno = errno
        if hint:
            self.hint = hint
            self.add_note(hint)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # As it is, for pickle: no two classes are made from the same arguments.
        return _unpickled, (type(self), self.args), self.__dict__


def _unpickled(cls: type[ContainerError], args: tuple[Any, ...]) -> ContainerError:
    return cls.__new__(cls, *args)


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

    hint = "Correct the fields that are named; Spec.default() and pyrunc spec make valid documents."

    def __init__(self, problems: Iterable[Problem], *, source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        text = "; ".join(str(problem) for problem in self.problems)
        super().__init__(f"{source}: {text}" if source else text, op="load", path=source)


class ArgumentError(ContainerError, ValueError):
    """What was given for a parameter cannot be used: a wrong type, or a value that means nothing.

    ``parameter`` names it, ``value`` is what was given. It is a :class:`ValueError` too.
    """

    hint = "Correct the argument; the sentence says what is taken there."

    def __init__(
        self, message: str, *, parameter: str = "", value: Any = None, hint: str = ""
    ) -> None:
        super().__init__(message, op="argument", hint=hint)
        self.parameter = parameter
        self.value = value


class InvalidIDError(ContainerError):
    """The name is not one that a container may have."""

    hint = (
        "Letters, digits and _+-. make a name; a slash makes a path of names, one inside another."
    )


class NotFoundError(ContainerError):
    """No container of that name under this root."""

    hint = "Factory.list() tells which there are; each user, and each root=, has a list of its own."


class AlreadyExistsError(ContainerError):
    """A container of that name is there already, or another caller is making it right now."""

    hint = (
        "Take another name, or delete it; delete(force=True) also frees one whose maker has died."
    )


class BusyError(ContainerError):
    """Another call has been changing the same container for longer than one waits."""

    hint = "Try again: a hook, or a kernel with much to undo, may take its time in that other call."


class StatusError(ContainerError):
    """The container's status does not allow the verb (runtime-spec runtime.md#operations).

    ``verb`` is what was asked for, ``status`` what the container was at that moment.
    """

    hint = "Ask for the status first, and be ready for its change: others may act on it as well."

    def __init__(self, message: str, *, verb: str = "", status: str = "", hint: str = "") -> None:
        super().__init__(message, op=verb, hint=hint)
        self.verb = verb
        self.status = status


class StepError(ContainerError):
    """A step of the plan failed inside the container's init.

    ``step`` counts from 1, of ``total``; 0 stands for what happens outside the plan (cloning, the
    conversation).
    """

    hint = "pyrunc run --dry-run, or Factory.plan(), shows all the steps with what each will do."

    def __init__(
        self,
        message: str,
        *,
        step: int = 0,
        total: int = 0,
        op: str = "",
        path: str = "",
        errno: int = 0,
        hint: str = "",
    ) -> None:
        super().__init__(message, op=op, path=path, errno=errno, hint=hint)
        self.step = step
        self.total = total


class ExecutableError(StepError):
    """The program is missing (``errno`` ENOENT) or cannot be executed (EACCES, ENOEXEC ...)."""

    hint = "It is looked for inside, by the PATH of env=; a script's interpreter must be there too."


class HookError(ContainerError):
    """A hook could not be run, exited non-zero, or took longer than its timeout.

    ``op`` is the kind of hook and ``path`` its program; ``returncode`` is subprocess's: negative
    for a signal, ``None`` where there was no exit.
    """

    hint = "The end of its standard error is in the sentence; its input was the container's state."

    def __init__(
        self, message: str, *, hook: str = "", path: str = "", returncode: int | None = None
    ) -> None:
        super().__init__(message, op=hook, path=path)
        self.returncode = returncode


class CgroupError(ContainerError):
    """A cgroup could not be made, joined, configured, read or removed; ``path`` is its file."""

    hint = "The file tells the controller; without root, limits need a group that was delegated."


class UnsupportedError(ContainerError):
    """Asked for something that this host, or this version, cannot do."""

    hint = "The sentence names what is missing: a package, a right, a newer kernel, an option."


class InterpreterError(ContainerError):
    """No Python interpreter was found that could become the container's init."""

    hint = "Name one of the running version: Factory(interpreter='/usr/bin/python3.11')."


class ProtocolError(ContainerError):
    """The other end of the conversation died, hung, or said something out of turn."""

    hint = "Somebody has killed the container's init, or the kernel has for a limit: see its log."


class TimeoutExpired(ContainerError):  # noqa: N818 - the name that subprocess gives it
    """The process was still running when the time was up; only ``lc.run`` kills it then.

    ``timeout`` is in seconds; ``output`` (also ``stdout``) and ``stderr`` hold what had been
    captured so far, if anything was to be.
    """

    hint = "Give it more time, or end it by kill(); what lc.run had started is ended already."

    def __init__(
        self, message: str, *, timeout: float, output: Any = None, stderr: Any = None
    ) -> None:
        super().__init__(message, op="wait")
        self.timeout = timeout
        self.output = self.stdout = output
        self.stderr = stderr


class CallError(ContainerError):
    """A function that was called in a container raised what cannot be raised here as it is.

    ``type_name`` is the exception's class ("package.module.Name"), ``words`` what it said,
    ``stdout`` and ``stderr`` what had been captured, if anything was to be. All of it was said by
    the process in the container. The cause holds the traceback there.
    """

    hint = "The cause is the traceback in the container; builtin exceptions come out as themselves."

    def __init__(self, message: str, *, type_name: str = "", words: str = "") -> None:
        super().__init__(message, op="call")
        self.type_name = type_name
        self.words = words
        self.stdout: bytes | None = None
        self.stderr: bytes | None = None


class CallDiedError(CallError):
    """The process that was to call a function ended without an answer.

    ``returncode`` is subprocess's: negative for a signal, ``None`` where nobody kept it;
    ``out_of_memory`` says that the kernel has killed for the container's limit meanwhile.
    """

    hint = "Look at its stderr; with out_of_memory, raise memory= or have it need less."

    def __init__(
        self, message: str, *, returncode: int | None = None, out_of_memory: bool = False
    ) -> None:
        super().__init__(message)
        self.returncode = returncode
        self.out_of_memory = out_of_memory


class ResultError(CallError):
    """What came back from a call is no result: malformed, cut short, or more than is allowed."""

    hint = "Raise max_result= or max_output= where it is honest; else something inside tampers."


class RemoteTraceback(Exception):  # noqa: N818 - the name that concurrent.futures gives it
    """The cause of what a call raises: the traceback in the container, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class CalledProcessError(ContainerError):
    """A program that was to be checked exited non-zero, or was killed by a signal (negative).

    ``returncode``, ``cmd``, ``output`` (also ``stdout``) and ``stderr`` are subprocess's.
    """

    hint = (
        "Its stderr, where it was captured, tells why; -9 under a memory limit may be the kernel."
    )

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
