"""Who answers for SCMP_ACT_NOTIFY: the listener is sent to the agent at ``listenerPath``.

Source: runtime-spec config-linux.md#containerprocessstate.
"""

from __future__ import annotations

import os
import time

from libpycontainer import jsontext
from libpycontainer import syscalls as sys_
from libpycontainer.errors import StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FD_NAME = "seccompFd"
CONNECT_TIMEOUT = 10.0
"""Seconds that a busy agent has to take a connection."""

EPROTOTYPE = 91


def on_record(section: Mapping[str, Any]) -> dict[str, str]:
    """What has to be remembered, until its listener is there, of a profile that asks an agent."""
    # A relative path is the creator's; somebody else may start the container from elsewhere.
    agent = {"listenerPath": os.path.abspath(section["listenerPath"])}
    if section.get("listenerMetadata"):
        agent["listenerMetadata"] = section["listenerMetadata"]
    return agent


def check(agent: Mapping[str, str]) -> None:
    """Raise :class:`StepError` when nobody has a socket at the path, before anything is made.

    The agent does not notice: a connection of another type than its socket's is refused by the
    kernel, with another reason than where there is none.
    """
    path = agent["listenerPath"]
    try:
        _connect(path, sys_.SOCK_SEQPACKET).close()
    except OSError as error:
        if error.errno == EPROTOTYPE:
            return
        raise _unreachable(path, error.strerror or str(error), error.errno) from None
    raise _unreachable(path, "it is not a stream socket", EPROTOTYPE)


def deliver(
    agent: Mapping[str, str], listener: sys_.Fd, state: Mapping[str, Any], pid: int
) -> None:
    """Send the agent the listener of process ``pid``, with the container's OCI ``state``.

    The listener stays the caller's. Raises :class:`StepError` when the agent does not take it.
    """
    document: dict[str, Any] = {"ociVersion": state["ociVersion"], "fds": [FD_NAME], "pid": pid}
    if "listenerMetadata" in agent:
        document["metadata"] = agent["listenerMetadata"]
    document["state"] = state
    data = jsontext.dumps(document).encode()
    path = agent["listenerPath"]
    try:
        with _connect_patiently(path) as socket:
            # A stream may take less than all at once; the descriptor goes with its first byte.
            sent = sys_.send(socket.fileno(), data, [listener.fileno()])
            while sent < len(data):
                sent += sys_.send(socket.fileno(), data[sent:])
    except OSError as error:
        raise _unreachable(path, error.strerror or str(error), error.errno) from None


def _unreachable(path: str, reason: str, number: int | None) -> StepError:
    return StepError(
        f"$.linux.seccomp.listenerPath: cannot give the listener to the agent at {path}: {reason}",
        op="seccomp",
        path=path,
        errno=number or 0,
    )


def _connect_patiently(path: str) -> sys_.Fd:
    deadline = time.monotonic() + CONNECT_TIMEOUT
    while True:
        try:
            return _connect(path, sys_.SOCK_STREAM)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(0, f"it takes no connection for {CONNECT_TIMEOUT:g} s") from None
            time.sleep(0.005)


def _connect(path: str, type: int) -> sys_.Fd:
    """By the directory's descriptor: a unix socket's path must not exceed 107 bytes."""
    head, name = os.path.split(path)
    directory = os.open(head, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with sys_.Fd(directory):
        return sys_.connect(f"/proc/self/fd/{directory}/{name}", type, nonblocking=True)
