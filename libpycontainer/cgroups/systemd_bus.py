"""Talking to systemd: one connection, its methods, the end of its jobs.

The messages are jeepney's, which is imported with this module and only then; the socket is our
own, as it must reach systemd's private socket as well, and log in from a user namespace.
Source: man 5 org.freedesktop.systemd1; https://dbus.freedesktop.org/doc/dbus-specification.html.
"""

from __future__ import annotations

import _socket
import errno
import os
import time

from libpycontainer.cgroups.systemd_properties import version_number
from libpycontainer.errors import CgroupError, ContainerError, UnsupportedError

try:
    from jeepney import low_level, wrappers
except ImportError:
    raise UnsupportedError(
        "cgroups made by systemd need the Python package jeepney, which is not installed:"
        " pip install 'libpycontainer[systemd]'",
        op="import",
        path="jeepney",
    ) from None

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from libpycontainer.cgroups.systemd_properties import Property

NAME = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
MANAGER = f"{NAME}.Manager"
UNIT = f"{NAME}.Unit"
UNIT_EXISTS, NO_SUCH_UNIT = f"{NAME}.UnitExists", f"{NAME}.NoSuchUnit"
_DAEMON, _DAEMON_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_JOB_REMOVED = (
    f"type='signal',sender='{NAME}',path='{PATH}',interface='{MANAGER}',member='JobRemoved'"
)
_REPLY_SECONDS = 25.0
_JOB_SECONDS = 30.0
_NUDGE_SECONDS = 0.05
_DONE = ("done", "skipped")
_LONGEST_LINE = 8192


class BusError(CgroupError):
    """systemd, or the bus, refused a call; ``name`` is the D-Bus error's."""

    def __init__(self, name: str, message: str, *, op: str) -> None:
        super().__init__(message, op=op, path=name)
        self.name = name


class Bus:
    """A connection to a systemd instance. Close it, or use it in a ``with`` block.

    Every method raises :class:`~libpycontainer.errors.CgroupError`.
    """

    def __init__(self, address: str, *, direct: bool) -> None:
        self._direct = direct
        self._serial = 0
        self._parser = low_level.Parser()
        self._results: dict[str, str] = {}
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            deadline = time.monotonic() + _REPLY_SECONDS
            self._socket.settimeout(_REPLY_SECONDS)
            self._socket.connect(address)
            self._log_in(deadline)
            if not direct:
                self._call(_DAEMON, _DAEMON_PATH, _DAEMON, "Hello")
            self.version = version_number(self.get(PATH, MANAGER, "Version"))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- what is asked of systemd ------------------------------------------------------------

    def manager(self, method: str, signature: str = "", *body: Any) -> tuple[Any, ...]:
        """Call one of systemd's own methods."""
        return self._call(NAME, PATH, MANAGER, method, signature, *body)

    def get(self, path: str, interface: str, name: str) -> Any:
        """A property's value."""
        ((_signature, value),) = self._call(NAME, path, _PROPERTIES, "Get", "ss", interface, name)
        return value

    def get_all(self, path: str, interface: str) -> dict[str, tuple[str, Any]]:
        """Every property of an interface: its D-Bus signature and its value."""
        (found,) = self._call(NAME, path, _PROPERTIES, "GetAll", "s", interface)
        return dict(found)

    def unit(self, name: str) -> str:
        """The object path of a unit that is loaded."""
        (path,) = self.manager("GetUnit", "s", name)
        return str(path)

    def start(self, name: str, properties: Sequence[Property]) -> None:
        """Make a transient unit and wait until it is there.

        What is left of a unit of that name that failed is cleared away first. When the job fails,
        the unit is too: nothing is left.
        """
        auxiliary: list[Any] = []
        arguments = ("ssa(sv)a(sa(sv))", name, "replace", list(properties), auxiliary)
        self._subscribe()
        try:
            (job,) = self.manager("StartTransientUnit", *arguments)
        except BusError as error:
            if error.name != UNIT_EXISTS:
                raise
            self.reset_failed(name)
            (job,) = self.manager("StartTransientUnit", *arguments)
        try:
            result = self._wait(job, f"start {name}")
            if result not in _DONE:
                raise CgroupError(f"systemd cannot start {name}: {result}", op="start", path=name)
        except BaseException as error:
            try:
                self.stop(name)
            except CgroupError as problem:
                error.add_note(f"while stopping {name}: {problem}")
            raise

    def stop(self, name: str) -> None:
        """Stop a unit, with all that is in it, and forget that it failed. One that is gone is fine.

        A unit that would not stop is not an error here: what is left of its group will tell.
        """
        self._subscribe()
        try:
            (job,) = self.manager("StopUnit", "ss", name, "replace")
            self._wait(job, f"stop {name}")
        except BusError as error:
            if error.name != NO_SUCH_UNIT:
                raise
        self.reset_failed(name)

    def reset_failed(self, name: str) -> None:
        """Let systemd forget a failed unit."""
        try:
            self.manager("ResetFailedUnit", "s", name)
        except BusError as error:
            if error.name != NO_SUCH_UNIT:
                raise

    def set(self, name: str, properties: Sequence[Property]) -> None:
        """Change properties of a unit, as long as it lives."""
        self.manager("SetUnitProperties", "sba(sv)", name, True, list(properties))

    # ---- messages ----------------------------------------------------------------------------

    def _subscribe(self) -> None:
        """Have the ends of jobs reported. A direct connection hears of them anyway."""
        if self._direct:
            return
        self._call(_DAEMON, _DAEMON_PATH, _DAEMON, "AddMatch", "s", _JOB_REMOVED)
        try:
            self.manager("Subscribe")
        except BusError as error:
            if not error.name.endswith(".AlreadySubscribed"):
                raise

    def _wait(self, job: str, what: str) -> str:
        deadline = time.monotonic() + _JOB_SECONDS
        while job not in self._results:
            try:
                self._take(self._receive(deadline))
            except TimeoutError:
                raise CgroupError(
                    f"systemd did not {what} within {_JOB_SECONDS:g} seconds",
                    op=what,
                    errno=errno.ETIMEDOUT,
                ) from None
        return self._results.pop(job)

    def _call(
        self, name: str, path: str, interface: str, method: str, signature: str = "", *body: Any
    ) -> tuple[Any, ...]:
        address = wrappers.DBusAddress(path, bus_name=name, interface=interface)
        message = wrappers.new_method_call(address, method, signature or None, body)
        deadline = time.monotonic() + _REPLY_SECONDS
        try:
            serial = self._send(message)
            if self._direct and serial == 1:
                self._nudge()
            while True:
                answer = self._receive(deadline)
                fields = answer.header.fields
                if fields.get(low_level.HeaderFields.reply_serial) == serial:
                    break
                self._take(answer)
        except OSError as error:
            raise CgroupError(
                f"systemd does not answer {method}: {error.strerror or 'timed out'}",
                op=method,
                errno=error.errno or errno.ETIMEDOUT,
            ) from None
        if answer.header.message_type is low_level.MessageType.error:
            refusal = fields.get(low_level.HeaderFields.error_name, "")
            text = answer.body[0] if answer.body and isinstance(answer.body[0], str) else refusal
            raise BusError(refusal, f"systemd refuses {method}: {text}", op=method)
        return tuple(answer.body)

    def _send(self, message: low_level.Message) -> int:
        self._serial += 1
        self._socket.settimeout(_REPLY_SECONDS)
        self._socket.sendall(message.serialise(self._serial))
        return self._serial

    def _nudge(self) -> None:
        """Have systemd look at the first message, if it read it together with BEGIN.

        Its side of a direct connection then waits for more to come before it looks again.
        """
        self._socket.settimeout(_NUDGE_SECONDS)
        try:
            self._parser.add_data(self._socket.recv(65536))
        except TimeoutError:
            address = wrappers.DBusAddress(PATH, bus_name=NAME, interface=f"{_DAEMON}.Peer")
            self._send(wrappers.new_method_call(address, "Ping"))

    def _take(self, message: low_level.Message) -> None:
        """Note the end of a job; nothing else that comes unasked is of interest."""
        if message.header.message_type is not low_level.MessageType.signal:
            return
        if message.header.fields.get(low_level.HeaderFields.member) == "JobRemoved":
            _id, job, _unit, result = message.body
            self._results[job] = result

    def _receive(self, deadline: float) -> low_level.Message:
        while True:
            message = self._parser.get_next_message()
            if message is not None:
                return message
            self._parser.add_data(self._read(65536, deadline))

    def _read(self, size: int, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        data = self._socket.recv(size)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return data

    def _log_in(self, deadline: float) -> None:
        """As whoever the kernel says we are: an id of our own telling could be a namespace's."""
        self._socket.sendall(b"\0AUTH EXTERNAL\r\n")
        self._expect(b"DATA", deadline)
        self._socket.sendall(b"DATA\r\n")
        self._expect(b"OK", deadline)
        self._socket.sendall(b"BEGIN\r\n")

    def _expect(self, word: bytes, deadline: float) -> None:
        line = b""
        while not line.endswith(b"\r\n") and len(line) < _LONGEST_LINE:
            line += self._read(1, deadline)
        if line.split()[:1] != [word]:
            text = line.decode("ascii", "replace").strip()
            raise CgroupError(f"the bus does not let this user in: {text}", op="connect")


def connect(*, user: bool) -> Bus:
    """A connection to the system's systemd, or to the caller's own; the caller closes it.

    Raises :class:`~libpycontainer.errors.CgroupError` that says what has been tried.
    """
    failures = []
    for address, direct in _addresses(user):
        shown = "@" + address[1:] if address.startswith("\0") else address
        try:
            return Bus(address, direct=direct)
        except OSError as error:
            failures.append(f"{shown}: {error.strerror or 'timed out'}")
        except ContainerError as error:
            failures.append(f"{shown}: {error}")
    whose = "the systemd of this user" if user else "systemd"
    raise CgroupError(f"cannot reach {whose} ({'; '.join(failures)})", op="connect")


def _addresses(user: bool) -> Iterator[tuple[str, bool]]:
    """Sockets to try, and whether systemd itself is behind them."""
    variable = "DBUS_SESSION_BUS_ADDRESS" if user else "DBUS_SYSTEM_BUS_ADDRESS"
    for address in _sockets_of(os.environ.get(variable, "")):
        yield address, False
    if user:
        # Some clients keep nothing of the environment but this.
        runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
        yield f"{runtime}/bus", False
        yield f"{runtime}/systemd/private", True
    else:
        yield "/run/dbus/system_bus_socket", False
        yield "/run/systemd/private", True


def _sockets_of(addresses: str) -> Iterator[str]:
    """The unix sockets of a D-Bus server address (``unix:path=/run/user/1000/bus;…``)."""
    for address in addresses.split(";"):
        transport, _, rest = address.partition(":")
        if transport != "unix":
            continue
        for key, _, value in (part.partition("=") for part in rest.split(",")):
            if key == "path":
                yield _unescape(value)
            elif key == "abstract":
                yield "\0" + _unescape(value)


def _unescape(text: str) -> str:
    head, *rest = text.split("%")
    return head + "".join(chr(int(part[:2], 16)) + part[2:] for part in rest)
