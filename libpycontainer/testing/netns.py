"""A network namespace to hold, to enter for a while, and to run programs in."""

from __future__ import annotations

import os

from libpycontainer import kernel
from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError, UnsupportedError
from libpycontainer.testing import entering

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from typing import Any


class CannotHere(Exception):  # noqa: N818 - a reason, which a test is skipped with
    """Why no network namespace can be made on this host."""


class NetworkNamespace:
    """A fresh network namespace with its loopback up, that lives until it is closed.

    ``path`` can be given to whatever takes one: ``pyroute2.NetNS(netns.path)``,
    ``Spec.evolve(network=netns)``, ``nsenter --net=...``; it means something as long as this
    process lives. An ordinary user gets a user namespace of his own around it.
    """

    def __init__(self) -> None:
        self._user: sys_.Fd | None = None
        try:
            if os.geteuid() != 0:
                self._user = entering.user_namespace()
            self._fd = self._make()
        except (entering.Obstacle, ContainerError) as error:
            self._let_go_of_user()
            raise CannotHere(str(error)) from None

    def _make(self) -> sys_.Fd:
        """Made by a child, and taken over by its path before it ends."""
        told, telling = os.pipe()
        held, holding = os.pipe()
        pid = entering.fork()
        if pid == 0:
            self._be_maker(telling, held, holding)
        os.close(telling)
        os.close(held)
        try:
            said = os.read(told, 4096)
            if said != b"made":
                raise entering.Obstacle(said.decode("utf-8", "replace") or "the child died")
            path = f"/proc/{pid}/ns/net"
            return sys_.Fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        finally:
            os.close(told)
            os.close(holding)
            os.waitpid(pid, 0)

    def _be_maker(self, telling: int, held: int, holding: int) -> None:
        try:
            os.close(holding)
            self._join_user()
            sys_.unshare(kernel.CLONE_NEWNET)
            sys_.loopback_up()
            os.write(telling, b"made")
            os.read(held, 1)
        except OSError as error:
            os.write(telling, f"cannot make a network namespace: {error.strerror}".encode())
        finally:
            os._exit(0)

    @property
    def path(self) -> str:
        """A path that opens it, from any process of this user."""
        return f"/proc/{os.getpid()}/fd/{self._fd.fileno()}"

    def fileno(self) -> int:
        """The descriptor, which stays this object's."""
        return self._fd.fileno()

    def __fspath__(self) -> str:
        return self.path

    def enter(self) -> Entered:
        """``with netns.enter():`` moves this thread into it; other threads stay where they are.

        Raises :class:`UnsupportedError` for an ordinary user.
        """
        if self._user is not None:
            raise UnsupportedError(
                "only root can enter a network namespace and come back",
                op="setns",
                hint="Use netns.run([...]), or run the test inside: @pytest.mark.container.",
            )
        return Entered(self._fd)

    def run(self, args: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        """:func:`subprocess.run` inside; output is captured as text unless it is said otherwise."""
        import subprocess

        if not {"stdout", "stderr", "capture_output"} & options.keys():
            options["capture_output"] = True
        if not {"text", "encoding", "errors", "universal_newlines"} & options.keys():
            options["text"] = True
        if self._user is not None:
            # A user namespace is entered by whole processes only.
            return subprocess.run(args, preexec_fn=self._join, **options)
        with self.enter():
            return subprocess.run(args, **options)

    def _join(self) -> None:
        self._join_user()
        sys_.setns(self._fd.fileno(), kernel.CLONE_NEWNET)

    def _join_user(self) -> None:
        if self._user is not None:
            sys_.setns(self._user.fileno(), kernel.CLONE_NEWUSER)

    def _let_go_of_user(self) -> None:
        if self._user is not None:
            self._user.close()

    def close(self) -> None:
        """Let it go: it ends with the last process and descriptor in it."""
        self._fd.close()
        self._let_go_of_user()

    def __enter__(self) -> NetworkNamespace:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<NetworkNamespace closed>" if self._fd.closed else f"<NetworkNamespace {self.path}>"


class Entered:
    """This thread's stay in another network namespace."""

    def __init__(self, namespace: sys_.Fd) -> None:
        self._namespace = namespace
        self._before: sys_.Fd | None = None

    def __enter__(self) -> None:
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._before = sys_.Fd(own)
        sys_.setns(self._namespace.fileno(), kernel.CLONE_NEWNET)

    def __exit__(self, *exc: object) -> None:
        assert self._before is not None
        with self._before:
            sys_.setns(self._before.fileno(), kernel.CLONE_NEWNET)
