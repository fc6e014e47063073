"""linux.netDevices: the host's network devices, lent to a container and taken back on delete.

A network namespace ends with its last process, and virtual devices end with it. So the container's
one, and the one that the devices came from, are pinned while devices are lent: each is mounted on
a file in the container's state directory. What is needed to take them back is on record before the
first one moves, so that any process may do it, whatever became of the container and its creator.
"""

from __future__ import annotations

import os

from libpycontainer import kernel, log, netlink
from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError, Problem, SpecError
from libpycontainer.namespaces import NS_GET_NSTYPE
from libpycontainer.spec.leaves import child
from libpycontainer.store import HOST_NETWORK, NETWORK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from libpycontainer.netlink import Netlink, Row
    from libpycontainer.spec.models import LinuxNetDevice
    from libpycontainer.store import Entry

    Change = tuple[str, Callable[..., None], tuple[object, ...]]

PATH = "$.linux.netDevices"
MAX_NAME = 15
SCOPE_GLOBAL = 0
_ENOENT, _EEXIST, _EINVAL = 2, 17, 22


# ---- into the container ------------------------------------------------------------------------


def lend(
    devices: Mapping[str, LinuxNetDevice], pid: int, record: dict[str, Any], entry: Entry
) -> None:
    """Move the host's devices into the network namespace of init, and bring them up there.

    Raises :class:`SpecError` for a device that is missing or a name that is taken, and
    :class:`ContainerError` where the kernel refuses. Whatever has happened until then is taken
    back by :func:`take_back`, which the caller registers beforehand.
    """
    with netlink.open_own() as home, _network_of(pid) as away:
        if os.path.sameopenfile(home.fileno(), away.fileno()):
            raise SpecError([Problem(PATH, "the container is in the host's own network namespace")])
        _pin(entry, HOST_NETWORK, home)
        _pin(entry, NETWORK, away)
        with _netlink(home, "the host's") as near, _netlink(away, "the container's") as far:
            rows = [_look(near, name, device.name) for name, device in devices.items()]
            _check_names(rows, far.links())
            record["netDevices"] = rows
            entry.save(record)
            for row in rows:
                _lend(near, far, away, row)
        entry.save(record)


def _network_of(pid: int) -> sys_.Fd:
    path = f"/proc/{pid}/ns/net"
    try:
        return sys_.Fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise _refused(PATH, "open the container's network namespace", error) from None


def _netlink(namespace: sys_.Fd, whose: str) -> Netlink:
    try:
        return netlink.Netlink(namespace)
    except OSError as error:
        raise _refused(PATH, f"work in {whose} network namespace", error) from None


def _look(near: Netlink, name: str, wanted: str | None) -> Row:
    """What must be known of a device to lend it and to have it back as it was."""
    link = near.link(name)
    # The kernel also finds a device by its other names.
    if link is None or link["name"] != name:
        raise SpecError([Problem(_where(name), "the host has no such network device")])
    master = near.link(link["master"]) if link["master"] else None
    link["master"] = master["name"] if master else None
    return device_row(link, near.addresses(link["index"]), wanted)


def device_row(link: Row, addresses: Iterable[Row], wanted: str | None) -> Row:
    """The record of one device; ``inside``, its index in the container, comes with the move."""
    permanent = [row for row in addresses if row["flags"] & netlink.IFA_F_PERMANENT]
    row = {**link, "rename": wanted or link["name"], "addresses": permanent}
    row["flags"] &= netlink.RESTORED_FLAGS
    return row


def _check_names(rows: Sequence[Row], present: Iterable[Row]) -> None:
    """Ask before anything moves; the kernel would answer when some devices have gone already."""
    taken = {name for link in present for name in (link["name"], *link["altnames"])}
    problems = [
        Problem(_where(row["name"]), f"the container has a network device {row['rename']} already")
        for row in rows
        if row["rename"] in taken
    ]
    if problems:
        raise SpecError(problems)


def _lend(near: Netlink, far: Netlink, away: sys_.Fd, row: Row) -> None:
    """One request moves and renames, so that no name of either side is in its way."""
    known = {link["index"] for link in far.links()}
    target = [("IFLA_IFNAME", row["rename"]), ("IFLA_NET_NS_FD", away.fileno())]
    _try(row, "move it into the container", near.change, row["index"], target)
    arrived = [link for link in far.links() if link["index"] not in known]
    link = next((link for link in arrived if link["mac"] == row["mac"]), None)
    if link is None:
        raise ContainerError(f"{_where(row['name'])}: it has not arrived in the container")
    row["inside"] = index = link["index"]
    for address in lent_addresses(row, link["name"]):
        what = f"give it the address {_shown(address)} in the container"
        _try(row, what, far.add_address, index, address)
    _try(row, "bring it up in the container", far.change, index, (), netlink.IFF_UP, netlink.IFF_UP)


def lent_addresses(row: Row, name: str) -> list[Row]:
    """The addresses that travel: permanent ones of global scope (runtime-spec config-linux.md).

    An IPv4 label begins with the device's name, and so follows it to its new one.
    """
    lent = []
    for address in row["addresses"]:
        if address["scope"] == SCOPE_GLOBAL:
            address = dict(address)
            if "label" in address:
                label = name + address["label"].removeprefix(row["name"])
                address["label"] = label if len(label) <= MAX_NAME else name
            lent.append(address)
    return lent


# ---- and back ----------------------------------------------------------------------------------


def take_back(record: Mapping[str, Any], entry: Entry, force: bool = False) -> None:
    """Move a container's devices back to where they came from, as they were, and let go of both.

    A device that is no longer there is only logged, and so is what it cannot have again. Raises
    :class:`ContainerError`, with the namespaces still pinned, where a device cannot be moved; with
    ``force`` that is logged too, and the device goes the way of its namespace.
    """
    rows = record.get("netDevices") or ()
    problems = _take_all_back(rows, entry) if rows else []
    if problems and not force:
        raise ContainerError("; ".join(problems), op="netDevices")
    for problem in problems:
        log.warn(problem)
    for name in (NETWORK, HOST_NETWORK):
        _unpin(entry.file(name))


def _take_all_back(rows: Sequence[Row], entry: Entry) -> list[str]:
    problems = []
    try:
        with (
            _pinned(entry, HOST_NETWORK) as home,
            _pinned(entry, NETWORK) as away,
            _netlink(home, "the host's") as near,
            _netlink(away, "the container's") as far,
        ):
            for row in reversed(rows):
                try:
                    _take_back(near, far, home, row)
                except (ContainerError, OSError) as error:
                    problems.append(str(error))
    except ContainerError as error:
        problems.append(str(error))
    return problems


def _take_back(near: Netlink, far: Netlink, home: sys_.Fd, row: Row) -> None:
    link = find_device(far.links(), row, row.get("inside"))
    if link is not None:
        name = _free_name(near, link, row)
        _clean(far, link, row)
        target = [("IFLA_IFNAME", name), ("IFLA_NET_NS_FD", home.fileno())]
        _try(row, "move it back to the host", far.change, link["index"], target)
        returned = near.link(name)
    else:
        # It never left, or somebody died while taking it back.
        returned = find_device(near.links(), row)
    if returned is None:
        log.warn(f"{_where(row['name'])}: it is no longer in the container, nor on the host")
        return
    _restore(near, returned["index"], row)


def find_device(links: Iterable[Row], row: Row, index: int | None = None) -> Row | None:
    """A lent device among ``links``, where it may have another name by now.

    Without the ``index`` that it has there (its lender died, or the kernel stopped half-way through
    the move) it is known by its address and its old index or one of its names.
    """
    for link in links:
        if link["kind"] != row["kind"]:
            continue
        if index is not None:
            if link["index"] == index:
                return link
        elif link["mac"] == row["mac"] and (
            link["index"] == row["index"] or link["name"] in (row["name"], row["rename"])
        ):
            return link
    return None


def _free_name(near: Netlink, link: Row, row: Row) -> str:
    """The old name or, where the host has used it meanwhile, one as the kernel would choose."""
    name: str = row["name"]
    number = link["index"]
    while near.link(name) is not None:
        name = f"dev{number}"
        number += 1
    if name != row["name"]:
        log.warn(f"{_where(row['name'])}: its name was taken meanwhile, it is {name} now")
    return name


def _clean(far: Netlink, link: Row, row: Row) -> None:
    """Take off what the container may have put on a device, before the host sees it."""
    index = link["index"]
    changes: list[Change] = [("state down", far.change, (index, (), 0, netlink.IFF_UP))]
    for field, attribute in (("mtu", "IFLA_MTU"), ("mac", "IFLA_ADDRESS")):
        if link[field] != row[field]:
            change = [(attribute, row[field])]
            changes.append((f"{field} {row[field]}", far.change, (index, change)))
    # With another name that the host has too, the device could not be moved.
    for altname in sorted(set(link["altnames"]) - set(row["altnames"])):
        changes.append((f"names without {altname}", far.remove_altname, (index, altname)))
    _try_all(row, changes)


def _restore(near: Netlink, index: int, row: Row) -> None:
    """Give a device back what it lost on its ways. It is down when it arrives on the host."""
    changes: list[Change] = []
    master = near.link(row["master"]) if row["master"] else None
    if master is not None:
        change = [("IFLA_MASTER", master["index"])]
        changes.append((f"master {row['master']}", near.change, (index, change)))
    for address in row["addresses"]:
        changes.append((f"address {_shown(address)}", near.add_address, (index, address)))
    mask = netlink.RESTORED_FLAGS
    changes.append(("flags", near.change, (index, (), row["flags"], mask)))
    _try_all(row, changes)


def _try_all(row: Row, changes: Iterable[Change]) -> None:
    """A device that lacks something is worth more than none."""
    for what, change, arguments in changes:
        try:
            change(*arguments)
        except OSError as error:
            if error.errno != _EEXIST:
                where = _where(row["name"])
                log.warn(f"{where}: it cannot have its {what} again: {error.strerror}")


# ---- pins --------------------------------------------------------------------------------------


def _pin(entry: Entry, name: str, namespace: sys_.Fd) -> None:
    """Mount a namespace on a file, which keeps it and whatever is in it.

    Where the directory's mount is shared (as /run is under systemd), the mount reaches other mount
    namespaces and leaves them again with :func:`_unpin`. Where it is not, a mount namespace that is
    made meanwhile and lives on keeps a network namespace from its end, but no device: they are
    taken out of it first.
    """
    path = entry.file(name)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        source = f"/proc/self/fd/{namespace.fileno()}"
        target = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        with (
            sys_.Fd(target),
            sys_.clone_tree(kernel.AT_FDCWD, source, recursive=False) as tree,
        ):
            sys_.attach_tree(tree.fileno(), target)
    except OSError as error:
        raise _refused(PATH, f"mount a network namespace on {path}", error) from None


def _pinned(entry: Entry, name: str) -> sys_.Fd:
    """A namespace that was pinned. Raises :class:`ContainerError` where it is not, or not here."""
    path = entry.file(name)
    try:
        fd = sys_.Fd(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
    except OSError as error:
        raise _refused(PATH, f"open {path}", error) from None
    try:
        kind = sys_.ioctl(fd.fileno(), NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != kernel.CLONE_NEWNET:
        fd.close()
        raise ContainerError(
            f"{PATH}: no network namespace is mounted on {path} here; delete the container in the "
            "mount namespace that it was created in, or with force, which gives its devices up",
            op="netDevices",
            path=path,
        )
    return fd


def _unpin(path: str) -> None:
    steps: tuple[tuple[Callable[..., None], tuple[Any, ...]], ...] = (
        (sys_.umount, (path, kernel.MNT_DETACH)),
        (os.unlink, (path,)),
    )
    for step, arguments in steps:
        try:
            step(*arguments)
        except OSError as error:
            # Not there, or nothing mounted: the pinning did not come that far.
            if error.errno not in (_ENOENT, _EINVAL):
                raise _refused(PATH, f"remove {path}", error) from None


# ---- words -------------------------------------------------------------------------------------


def _where(name: str) -> str:
    return child(PATH, name)


def _shown(address: Row) -> str:
    return f"{address.get('local') or address.get('address')}/{address['prefixlen']}"


def _try(row: Row, what: str, action: Callable[..., None], *arguments: object) -> None:
    try:
        action(*arguments)
    except OSError as error:
        raise _refused(_where(row["name"]), what, error) from None


def _refused(where: str, what: str, error: OSError) -> ContainerError:
    return ContainerError(
        f"{where}: cannot {what}: {error.strerror}", op="netDevices", errno=error.errno or 0
    )
