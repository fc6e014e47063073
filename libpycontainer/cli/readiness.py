"""NOTIFY_SOCKET: what ``run``, ``create`` and ``start`` do about it, as runc does.

The variable in the caller's own environment means that this very process is (the start of) a
service whose readiness the container is to report. A NOTIFY_SOCKET in the configuration is the
container's business alone (podman's way).
"""

from __future__ import annotations

import os

from libpycontainer.errors import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libpycontainer.cli.log import Log
    from libpycontainer.container import Container
    from libpycontainer.notify import Relay
    from libpycontainer.process import Process

_VARIABLE = "NOTIFY_SOCKET"


def wanted() -> bool:
    """Is somebody waiting for the container's readiness?"""
    return bool(os.environ.get(_VARIABLE))


def relay(log: Log) -> Relay | None:
    """A relay to whoever waits. Where nobody listens (any more), a warning and no relay."""
    if not wanted():
        return None
    from libpycontainer.notify import Relay

    try:
        return Relay(os.environ[_VARIABLE])
    except ContainerError as error:
        log.warning(str(error))
        return None


def wait(process: Process | None, relay: Relay | None, log: Log) -> None:
    """Return when the started container is ready, or has ended and will never be."""
    if relay is None or process is None:
        return
    with relay:
        try:
            relay.serve(process, until_ready=True)
        except OSError as error:
            log.warning(f"readiness was not passed on: {error.strerror}")


class Background:
    """Serves a relay for as long as this process waits for its container in the foreground."""

    def __init__(self, relay: Relay | None, log: Log) -> None:
        import _thread

        self._relay = relay
        self._log = log
        self._done = _thread.allocate_lock()

    def start(self, container: Container) -> None:
        """Start the container and, if there is anything to pass on, a thread that does it."""
        container.start(notify=self._relay)
        if self._relay is not None:
            import _thread

            self._done.acquire()
            _thread.start_new_thread(self._serve, (container,))

    def _serve(self, container: Container) -> None:
        assert self._relay is not None
        try:
            assert container.process is not None
            # The service is this process, which ends with the container and with its exit code.
            self._relay.serve(container.process, main_pid=os.getpid())
        except OSError as error:
            self._log.warning(f"readiness was not passed on: {error.strerror}")
        finally:
            self._done.release()

    def finish(self) -> None:
        """Wait until everything that the ended container had reported has been passed on."""
        with self._done:
            if self._relay is not None:
                self._relay.close()
