"""What ``run`` and ``create`` share: the flags, the bundle, the descriptors, the rules."""

from __future__ import annotations

import os
import sys

from libpycontainer.cli import readiness
from libpycontainer.cli.command import CommandError, Invocation
from libpycontainer.cli.options import Flag
from libpycontainer.errors import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libpycontainer.container import Container
    from libpycontainer.spec.models import Process as SpecProcess
    from libpycontainer.spec.models import Spec

CONSOLE_SOCKET = Flag(
    "console-socket",
    "path to an AF_UNIX socket which will receive a file descriptor referencing the master end"
    " of the console's pseudoterminal",
)
PIDFD_SOCKET = Flag(
    "pidfd-socket",
    "path to an AF_UNIX socket which will receive a file descriptor referencing the process",
)
PID_FILE = Flag("pid-file", "specify the file to write the process id to")
DETACH = Flag("detach", "detach from the container's process", short="d", kind="bool")
PRESERVE_FDS = Flag(
    "preserve-fds",
    "pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total)",
    kind="int",
)
BUNDLE = Flag(
    "bundle",
    "path to the root of the bundle directory, defaults to the current directory",
    short="b",
)
NO_PIVOT = Flag(
    "no-pivot",
    "do not use pivot root to jail process inside rootfs; for a rootfs on top of a ramdisk",
    kind="bool",
)
NO_SUBREAPER = Flag(
    "no-subreaper",
    "accepted for compatibility: no subreaper is used to reap reparented processes",
    kind="bool",
)
FLAGS = (
    BUNDLE,
    CONSOLE_SOCKET,
    PIDFD_SOCKET,
    PID_FILE,
    NO_PIVOT,
    Flag(
        "no-new-keyring",
        "do not create a new session keyring for the container: it inherits the caller's",
        kind="bool",
    ),
    PRESERVE_FDS,
    Flag(
        "dry-run",
        "print what would be done to the host and inside the container, and do nothing",
        kind="bool",
    ),
)
_CONFIG = "config.json"
_FIRST_FD = 3
_ROOTLESS = ("", "auto", "true", "t", "1", "false", "f", "0")


class Launch:
    """A bundle read and found fit for its command line; nothing has been made yet.

    Raises :class:`CommandError`, :class:`~libpycontainer.errors.SpecError` and OSError.
    """

    def __init__(self, invocation: Invocation, *, detach: bool) -> None:
        options = invocation.options
        self._invocation = invocation
        self.id = invocation.container_id
        if invocation.globals.text("rootless").lower() not in _ROOTLESS:
            raise CommandError("--rootless takes 'true', 'false' or 'auto'")
        self.bundle = os.path.abspath(options.text("bundle"))
        # Before anything is opened here: what the caller left closed would soon be one of ours.
        self._preserved, self._environment = inherited_fds(options.number("preserve-fds"))
        if not options.enabled("dry-run"):
            # It boots while we find out the rest.
            invocation.factory().prepare()
        self.spec = load_spec(self.bundle)
        check_terminal(self.process, options.text("console-socket"), detach=detach)

    @property
    def process(self) -> SpecProcess:
        """What the container is to run."""
        assert self.spec.process is not None
        return self.spec.process

    @property
    def may_start_at_once(self) -> bool:
        """Whether nobody is to be told of the process before its program runs."""
        return not self._invocation.options.text("pidfd-socket")

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments for the library's ``create`` that the flags stand for."""
        options = self._invocation.options
        return {
            "bundle": self.bundle,
            "console_socket": options.text("console-socket") or None,
            "preserve_fds": self._preserved,
            "extra_env": self._environment,
            "notify": readiness.wanted(),
            "no_pivot": options.enabled("no-pivot"),
            "new_keyring": not options.enabled("no-new-keyring"),
            "pid_file": options.text("pid-file") or None,
        }

    def create(self, **more: Any) -> Container:
        """Make the container, up to where its init waits for ``start``."""
        factory = self._invocation.factory()
        container = factory.create(self.id, self.spec, **self.arguments(), **more)
        path = self._invocation.options.text("pidfd-socket")
        if path:
            try:
                assert container.process is not None
                send_pidfd(path, container.process.fileno(), "standard")
            except BaseException as error:
                discard(container, error)
                raise
        return container

    def dry_run(self) -> str:
        """The plan, one line a step. Nothing is made, on the host or under the state root."""
        options = self._invocation.options
        plan = self._invocation.factory().plan(
            self.id,
            self.spec,
            bundle=self.bundle,
            preserve_fds=self._preserved,
            extra_env=self._environment,
            notify=readiness.wanted(),
            no_pivot=options.enabled("no-pivot"),
            new_keyring=not options.enabled("no-new-keyring"),
        )
        return plan.describe()


def load_spec(bundle: str) -> Spec:
    """The configuration of the bundle, as the light record that reads like a ``Spec``.

    Raises :class:`CommandError`, also for one without a process,
    :class:`~libpycontainer.errors.SpecError`.
    """
    from libpycontainer.spec import light

    path = os.path.join(bundle, _CONFIG)
    if not os.path.isdir(bundle):
        problem = "not a directory" if os.path.exists(bundle) else "no such file or directory"
        raise CommandError(f"the bundle {bundle}: {problem}")
    if not os.path.exists(path):
        raise CommandError(f"JSON specification file {_CONFIG} not found in {bundle}")
    spec = light.load(path)
    if spec.process is None:
        raise CommandError("process property must not be empty")
    return spec


def discard(container: Container, cause: BaseException) -> None:
    """Delete a container because of ``cause``, which a failure to do so is added to."""
    try:
        container.delete(force=True)
    except ContainerError as error:
        cause.add_note(f"cannot delete container {container.id}: {error}")


def check_terminal(process: SpecProcess, console_socket: str, *, detach: bool) -> None:
    """A terminal needs somebody to hold its master: this process, or the console socket's owner."""
    terminal = bool(process.terminal)
    if detach and terminal and not console_socket:
        raise CommandError(
            "cannot allocate tty if pyrunc will detach without setting console socket"
        )
    if console_socket and not (detach and terminal):
        raise CommandError("cannot use console socket if pyrunc will not detach or allocate tty")


def inherited_fds(asked: int) -> tuple[int, tuple[str, ...]]:
    """How many descriptors from 3 on the container gets, and the environment that tells of them.

    systemd's socket activation comes first, if it was meant for this process (man 3
    sd_listen_fds): some clients hand on the variables of their own activation.
    """
    listen = 0
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        count = os.environ.get("LISTEN_FDS", "")
        listen = int(count) if count.isascii() and count.isdigit() else 0
    check_preserved(asked, listen)
    environment = (f"LISTEN_FDS={listen}", "LISTEN_PID=1") if listen else ()
    return listen + asked, environment


def check_preserved(asked: int, listen: int = 0) -> None:
    """Refuse a number of descriptors to pass on that the caller has not opened."""
    if asked < 0:
        raise CommandError(f"--preserve-fds must not be negative, but is {asked}")
    for fd in range(_FIRST_FD, _FIRST_FD + listen + asked):
        if not _is_open(fd):
            raise CommandError(f"descriptor {fd} is to be preserved, but it is not open")


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def send_pidfd(path: str, pidfd: int, kind: str) -> None:
    """Send a pidfd to whoever listens at ``path``; ``kind`` is runc's word for whose it is."""
    import _socket

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(path)
        rights = pidfd.to_bytes(4, sys.byteorder)
        connection.sendmsg(
            [kind.encode("ascii")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
        )
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), f"dial unix {path}") from None
    finally:
        connection.close()
