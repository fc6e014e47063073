"""What a verb declares about itself, and what it is handed when it runs."""

from __future__ import annotations

from libpycontainer.cli.options import Flag, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from libpycontainer.cli.log import Log
    from libpycontainer.container import Container
    from libpycontainer.factory import Factory

PROGRAM = "pyrunc"

# A verb fails with this, unless it names another code; so does a command line that is no good.
FAILURE = 1


class CommandError(Exception):
    """Something the command itself refuses; the text is all that the user gets to read."""


class Command:
    """One verb: its texts for ``--help``, its flags, how many arguments it takes, and its work.

    ``action`` returns the exit code. ``failure`` is the exit code, and ``prefix`` the beginning of
    the message, when it raises instead. ``interspersed`` is false where the arguments are another
    program's command line. ``most`` None stands for any number of arguments.
    """

    __slots__ = (
        "action",
        "arguments",
        "description",
        "failure",
        "flags",
        "interspersed",
        "least",
        "most",
        "name",
        "prefix",
        "usage",
    )

    def __init__(
        self,
        name: str,
        action: Callable[[Invocation], int],
        *,
        usage: str,
        arguments: str = "",
        description: str = "",
        flags: Sequence[Flag] = (),
        least: int = 0,
        most: int | None = None,
        prefix: str = "",
        failure: int = FAILURE,
        interspersed: bool = True,
    ) -> None:
        self.name = name
        self.action = action
        self.usage = usage
        self.arguments = arguments
        self.description = description
        self.flags = flags
        self.least = least
        self.most = most
        self.prefix = prefix
        self.failure = failure
        self.interspersed = interspersed

    def count_problem(self, given: int) -> str | None:
        """What runc says about a number of arguments that the verb does not take."""
        if self.least == self.most != given:
            return f'{PROGRAM}: "{self.name}" requires exactly {self.least} argument(s)'
        if given < self.least:
            return f'{PROGRAM}: "{self.name}" requires a minimum of {self.least} argument(s)'
        if self.most is not None and given > self.most:
            return f'{PROGRAM}: "{self.name}" requires a maximum of {self.most} argument(s)'
        return None


class Invocation:
    """One verb being run: its own options and arguments, the global ones, and the log."""

    __slots__ = ("_factory", "arguments", "command", "globals", "log", "options")

    def __init__(
        self,
        command: Command,
        options: Options,
        arguments: Sequence[str],
        *,
        globals_: Options,
        log: Log,
    ) -> None:
        self.command = command
        self.options = options
        self.arguments = arguments
        self.globals = globals_
        self.log = log
        self._factory: Factory | None = None

    @property
    def container_id(self) -> str:
        """The first argument of nearly every verb. Raises :class:`CommandError` when empty."""
        if not self.arguments[0]:
            raise CommandError("container id cannot be empty")
        return self.arguments[0]

    def factory(self) -> Factory:
        """The library's factory over the state root that the global options name.

        A container without a ``cgroupsPath`` goes under the caller's own group, as runc's do.
        """
        if self._factory is None:
            from libpycontainer.factory import Factory

            self._factory = Factory(
                state_root(self.globals),
                cgroup_parent=None,
                systemd_cgroup=self.globals.enabled("systemd-cgroup"),
            )
        return self._factory

    def container(self) -> Container:
        """The container that the first argument names, as the state root has it now."""
        return self.factory().load(self.container_id)

    def close(self) -> None:
        """Let go of what the verb has not used."""
        if self._factory is not None:
            self._factory.close()


def state_root(globals_: Options) -> str | None:
    """The root of ``--root``, absolute; None leaves the choice to the library.

    The file system's own root is refused: an empty or mistyped option would otherwise have
    ``list`` and ``delete`` look at the host's directories as if they were containers.
    """
    import os

    if not globals_.given("root"):
        return None
    root = os.path.abspath(globals_.text("root")) if globals_.text("root") else "/"
    if not root.strip("/"):
        raise CommandError("Option --root argument should not be set to /")
    return root
