"""Network devices as the kernel's route sockets tell and change them (man 7 rtnetlink).

pyroute2 knows the messages and is imported by the first socket, because that takes longer than a
whole container. Its own sockets are not used: they run an event loop, which fails in a program
that has one running already, and reach another namespace by forking.
"""

from __future__ import annotations

import os

from libpycontainer import kernel
from libpycontainer import syscalls as sys_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Row = dict[str, Any]

IFF_UP = 0x1
RESTORED_FLAGS = IFF_UP | 0x80 | 0x100 | 0x200 | 0x1000
"""UP, NOARP, PROMISC, ALLMULTI and MULTICAST: what an administrator sets on a device."""

IFA_F_PERMANENT = 0x80
SETTABLE_ADDRESS_FLAGS = 0x02 | 0x10 | 0x100 | 0x200 | 0x400
"""NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN; the others are the kernel's."""

_NEWLINK, _GETLINK, _NEWADDR, _GETADDR, _DELLINKPROP = 16, 18, 20, 22, 109
_REQUEST, _ACK, _DUMP, _EXCL, _CREATE = 0x1, 0x4, 0x300, 0x200, 0x400
_DUMP_INTERRUPTED, _ACK_TLVS = 0x10, 0x200
_ERROR, _DONE = 2, 3
_ENODEV = 19
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_HEADER = 16
_BUFFER = 1 << 17

_ADDRESS_ATTRIBUTES = {
    "local": "IFA_LOCAL",
    "address": "IFA_ADDRESS",
    "broadcast": "IFA_BROADCAST",
    "label": "IFA_LABEL",
    "priority": "IFA_RT_PRIORITY",
}


class Netlink:
    """A route socket in the network namespace behind a descriptor, which stays the caller's.

    Every call raises :class:`OSError` with the kernel's number and, where it gives one, its own
    explanation. A link is a row: ``index``, ``name``, ``altnames``, ``kind`` ("veth", "" for
    hardware), ``mac``, ``mtu``, ``flags``, ``master`` (an index, or ``None``).
    """

    def __init__(self, namespace: sys_.Fd) -> None:
        import socket

        from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
        from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

        self._link_message, self._address_message = ifinfmsg, ifaddrmsg
        self._sequence = 0
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        with _Inside(namespace):
            self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        for option in (_CAP_ACK, _EXT_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def link(self, which: str | int) -> Row | None:
        """The device of a name or an index, ``None`` where there is none."""
        message = self._link_message()
        if isinstance(which, int):
            message["index"] = which
        else:
            message["attrs"] = [("IFLA_IFNAME", which)]
        try:
            answers = self._ask(message, _GETLINK, _ACK)
        except OSError as error:
            if error.errno == _ENODEV:
                return None
            raise
        return link_row(answers[0]) if answers else None

    def links(self) -> list[Row]:
        """Every device of the namespace."""
        return [link_row(answer) for answer in self._dump(self._link_message, _GETLINK)]

    def addresses(self, index: int) -> list[Row]:
        """The addresses of one device, in their order, the first of a network being primary."""
        answers = self._dump(self._address_message, _GETADDR)
        return [address_row(answer) for answer in answers if answer["index"] == index]

    def change(
        self,
        index: int,
        attributes: Sequence[tuple[str, object]] = (),
        flags: int = 0,
        mask: int = 0,
    ) -> None:
        """Change a device; those ``flags`` that are in ``mask`` are set, or else cleared."""
        message = self._link_message()
        message["index"] = index
        message["flags"], message["change"] = flags & mask, mask
        message["attrs"] = list(attributes)
        self._ask(message, _NEWLINK, _ACK)

    def remove_altname(self, index: int, name: str) -> None:
        message = self._link_message()
        message["index"] = index
        message["attrs"] = [("IFLA_PROP_LIST", {"attrs": [("IFLA_ALT_IFNAME", name)]})]
        self._ask(message, _DELLINKPROP, _ACK)

    def add_address(self, index: int, row: Row) -> None:
        """Give a device an address as :meth:`addresses` tells it."""
        message = self._address_message()
        message["index"] = index
        for field in ("family", "prefixlen", "scope"):
            message[field] = row[field]
        flags = row["flags"] & SETTABLE_ADDRESS_FLAGS
        message["attrs"] = [("IFA_FLAGS", flags)] if flags else []
        message["attrs"] += [
            (name, row[field]) for field, name in _ADDRESS_ATTRIBUTES.items() if field in row
        ]
        self._ask(message, _NEWADDR, _ACK | _CREATE | _EXCL)

    def _dump(self, kind: Any, type: int) -> list[Any]:
        while True:
            answers = self._ask(kind(), type, _DUMP)
            if not any(answer["header"]["flags"] & _DUMP_INTERRUPTED for answer in answers):
                return answers

    def _ask(self, message: Any, type: int, flags: int) -> list[Any]:
        """One request, and its answers up to the acknowledgement or the end of the dump."""
        import struct

        self._sequence += 1
        header = message["header"]
        header["type"], header["flags"] = type, _REQUEST | flags
        header["sequence_number"] = self._sequence
        message.encode()
        self._socket.send(message.data)
        answers: list[Any] = []
        while True:
            data = self._socket.recv(_BUFFER)
            while len(data) >= _HEADER:
                length, kind, mine, sequence = struct.unpack_from("=IHHI", data)
                part, data = data[:length], data[max(_HEADER, (length + 3) & ~3) :]
                if sequence != self._sequence:
                    continue
                if kind == _ERROR:
                    raise_error(part, mine)
                if kind in (_ERROR, _DONE):
                    return answers
                answer = message.__class__(part)
                answer.decode()
                answers.append(answer)


class _Inside:
    """The calling thread's stay in another network namespace; no other thread is moved."""

    def __init__(self, namespace: sys_.Fd) -> None:
        self._namespace = namespace

    def __enter__(self) -> None:
        self._home = open_own()
        try:
            # Whoever may not enter its own namespace could not come back to it either.
            sys_.setns(self._home.fileno(), kernel.CLONE_NEWNET)
            sys_.setns(self._namespace.fileno(), kernel.CLONE_NEWNET)
        except BaseException:
            self._home.close()
            raise

    def __exit__(self, *exc: object) -> None:
        with self._home:
            sys_.setns(self._home.fileno(), kernel.CLONE_NEWNET)


def open_own() -> sys_.Fd:
    """The calling thread's network namespace; the caller owns the descriptor."""
    return sys_.Fd(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))


def raise_error(part: bytes, flags: int) -> None:
    """Raise what an NLMSG_ERROR message says; its error 0 is an acknowledgement."""
    import struct

    (code,) = struct.unpack_from("=i", part, _HEADER)
    if code == 0:
        return
    text = os.strerror(-code)
    # After the error, and the header of the request, come the kernel's own words (attribute 1).
    offset = _HEADER + 4 + _HEADER
    while flags & _ACK_TLVS and offset + 4 <= len(part):
        length, attribute = struct.unpack_from("=HH", part, offset)
        if attribute == 1:
            words = part[offset + 4 : offset + length].rstrip(b"\0").decode("utf-8", "replace")
            text = f"{text} ({words})"
        offset += max(4, (length + 3) & ~3)
    raise OSError(-code, text)


def link_row(message: Any) -> Row:
    """A link message as a row that JSON can hold."""
    properties = message.get_attr("IFLA_PROP_LIST")
    return {
        "index": message["index"],
        "name": message.get_attr("IFLA_IFNAME"),
        "altnames": list(properties.get_attrs("IFLA_ALT_IFNAME")) if properties else [],
        "kind": message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "",
        "mac": message.get_attr("IFLA_ADDRESS"),
        "mtu": message.get_attr("IFLA_MTU"),
        "flags": message["flags"],
        "master": message.get_attr("IFLA_MASTER"),
    }


def address_row(message: Any) -> Row:
    """An address message as a row that JSON can hold; what the kernel left out is left out."""
    flags = message.get_attr("IFA_FLAGS")
    row = {
        "family": message["family"],
        "prefixlen": message["prefixlen"],
        "scope": message["scope"],
        "flags": message["flags"] if flags is None else flags,
    }
    for field, name in _ADDRESS_ATTRIBUTES.items():
        value = message.get_attr(name)
        if value is not None:
            row[field] = value
    return row
