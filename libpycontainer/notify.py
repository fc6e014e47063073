"""Readiness of a program in a container, passed on to systemd (man 3 sd_notify).

systemd tells a service by NOTIFY_SOCKET where to report, and believes only the service's own
processes. A container sees no such path and, in a cgroup of its own, has no such standing. So it
gets a socket of its own: creation binds an empty directory of the container's state to /run/notify
and sets the variable, :meth:`Relay.bind` puts a socket into it when the container is started, and
:meth:`Relay.serve` repeats to the host's socket what was reported there::

    relay = notify.Relay(os.environ["NOTIFY_SOCKET"])
    container = factory.create("web", spec, notify=True)
    container.start(notify=relay)
    relay.serve(container.process, until_ready=True)

Only "READY=1" is repeated, as runc does it: the rest of the protocol (MAINPID, FDSTORE, WATCHDOG
...) would let a container speak for its host's service.
"""

from __future__ import annotations

import os
import select
import sys

from libpycontainer.errors import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libpycontainer.process import Process
    from libpycontainer.spec.models import Spec

DIRECTORY = "notify"
SOCKET = "notify.sock"
INSIDE = "/run/notify"
VARIABLE = f"NOTIFY_SOCKET={INSIDE}/{SOCKET}"

BARRIER_TIMEOUT = 30.0
"""Seconds that a host's socket has for a barrier; one that knows none keeps it open for ever."""

_READY = b"READY=1"
_DATAGRAM = 4096
# What may still wait in a socket whose container has ended (net.unix.max_dgram_qlen). Somebody
# else who holds it open might write on for ever.
_QUEUED = 1000


def possible(spec: Spec) -> bool:
    """Can the socket be brought into this container? Not without a mount namespace."""
    namespaces = (spec.linux.namespaces if spec.linux else None) or ()
    return any(namespace.type == "mount" for namespace in namespaces)


def with_mount(document: dict[str, Any], directory: str) -> dict[str, Any]:
    """The configuration ``document`` with the host's ``directory`` at /run/notify, last of all."""
    mount = {
        "destination": INSIDE,
        "source": directory,
        "options": ["bind", "nosuid", "noexec", "nodev", "ro"],
    }
    return {**document, "mounts": [*(document.get("mounts") or ()), mount]}


def make_directory(path: str) -> None:
    """Make the directory that will hold the socket, open to every user inside."""
    os.mkdir(path)
    # mkdir's own mode is subject to the umask.
    os.chmod(path, 0o755)


class Relay:
    """Between a container's socket and the host's, which is connected to at once.

    ``host`` is what NOTIFY_SOCKET says: a path, or "@" and an abstract name. Raises
    :class:`ContainerError` where nobody listens. ``ready`` tells whether the container has
    reported. The relay owns both sockets; :meth:`close` or leaving its block closes them.
    """

    def __init__(self, host: str) -> None:
        import _socket

        self.ready = False
        self._main_pid = 0
        self._inside: _socket.socket | None = None
        self._host = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        try:
            self._host.connect("\0" + host[1:] if host.startswith("@") else host)
        except OSError as error:
            self._host.close()
            raise ContainerError(
                f"cannot reach the notification socket {host}: {error.strerror or error}",
                op="connect",
                path=host,
                errno=error.errno or 0,
            ) from None

    def bind(self, directory: str) -> bool:
        """Put the container's socket into ``directory``; false where the container has none.

        Called by :meth:`Container.start` while nobody else may start the container.
        """
        import _socket

        try:
            fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            try:
                os.unlink(SOCKET, dir_fd=fd)
            except FileNotFoundError:
                pass
            self._inside = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
            # By descriptor: a unix socket's path must not exceed 107 bytes, a state root may.
            self._inside.bind(f"/proc/self/fd/{fd}/{SOCKET}")
            os.chmod(SOCKET, 0o777, dir_fd=fd)
        except OSError as error:
            raise ContainerError(
                f"cannot make {directory}/{SOCKET}: {error.strerror or error}",
                op="bind",
                path=f"{directory}/{SOCKET}",
                errno=error.errno or 0,
            ) from None
        finally:
            os.close(fd)
        return True

    def serve(
        self, process: Process, *, main_pid: int | None = None, until_ready: bool = False
    ) -> bool:
        """Pass readiness on until ``process``, the container's init, ends; returns :attr:`ready`.

        With ``until_ready`` it also returns once the host has taken note of it. ``main_pid`` is
        what the host is told to look after: init's own pid unless given.

        What comes later, or is not passed on, is read and dropped, so that nobody inside is kept
        waiting. So are descriptors: a barrier from inside is over when it is read here, and
        nothing is read as long as the host's answer to the barrier of this side is due.
        Raises ``OSError`` when the host's socket fails.
        """
        if self._inside is None:
            return False
        self._main_pid = process.pid if main_pid is None else main_pid
        inside, pidfd = self._inside.fileno(), process.fileno()
        poller = select.poll()
        poller.register(inside, select.POLLIN)
        poller.register(pidfd, select.POLLIN)
        left = _QUEUED
        while left and not (until_ready and self.ready):
            found = dict(poller.poll())
            if inside in found:
                self._take()
            elif pidfd in found:
                break
            if pidfd in found:
                left -= 1
        return self.ready

    def _take(self) -> None:
        assert self._inside is not None
        # No room for descriptors: the kernel closes them. Closing one here could be made to hang.
        lines = self._inside.recv(_DATAGRAM).split(b"\n")
        if not self.ready and _READY in lines:
            self.ready = True
            # In one message: between two, systemd would look after the wrong process.
            self._host.send(b"%s\nMAINPID=%d" % (_READY, self._main_pid))
            self._barrier()

    def _barrier(self) -> None:
        """Wait until the host has processed everything sent so far (man 3 sd_notify_barrier).

        Its sender must be alive then, or systemd cannot tell whose message it was.
        """
        import _socket

        mine, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                rights = theirs.to_bytes(4, sys.byteorder)
                ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
                self._host.sendmsg([b"BARRIER=1"], ancillary)
            finally:
                os.close(theirs)
            poller = select.poll()
            # The other end's closing is always reported, as POLLHUP.
            poller.register(mine, 0)
            poller.poll(BARRIER_TIMEOUT * 1000)
        finally:
            os.close(mine)

    def close(self) -> None:
        for each in (self._inside, self._host):
            if each is not None:
                each.close()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
