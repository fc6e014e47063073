"""linux.intelRdt: the container's class of cache and memory bandwidth, a group of resctrl.

Sources: runtime-spec config-linux.md#intelrdt; the kernel's Documentation/filesystems/resctrl.rst.
A directory below the file system's root is a class, one in a class's mon_groups counts for a part
of it; whoever makes such a directory finds its files in it, and a task belongs to one of each.
"""

from __future__ import annotations

import os

from libpycontainer.errors import ContainerError, Problem, SpecError, UnsupportedError
from libpycontainer.log import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from libpycontainer.spec.models import LinuxIntelRdt

MOUNTINFO = "/proc/self/mountinfo"
PATH = "$.linux.intelRdt"
_ENOENT = 2
_EEXIST = 17


def find_root(mountinfo: str = "") -> str:
    """Where resctrl is mounted. Raises :class:`UnsupportedError` where it is not."""
    with open(mountinfo or MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            mount, _, kind = line.partition(" - ")
            if kind.startswith("resctrl "):
                return _unescape(mount.split()[4])
    raise UnsupportedError(f"{PATH}: this host has no resctrl file system mounted", op="resctrl")


def _unescape(path: str) -> str:
    """A path as man 5 proc_pid_mountinfo writes it: space, tab, newline, backslash in octal."""
    head, *rest = path.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def resolve(rdt: LinuxIntelRdt, id: str, root: str = "") -> dict[str, Any]:
    """Decide on the groups of container ``id``: what :func:`make`, :func:`join`, :func:`remove` do.

    The result goes on record before anything is made. ``new`` says that the class is to be made,
    ``ours`` that it ends with the container. Raises :class:`UnsupportedError` without resctrl and
    :class:`SpecError` for a class that does not exist, or that has other limits.
    """
    root = root or find_root()
    writes = schema_writes(rdt)
    # resctrl's classes are no tree, and a colon is not in anybody's name.
    name = id.replace("/", ":")
    group = os.path.join(root, rdt.clos_id.strip("/") if rdt.clos_id else name).rstrip("/")
    exists = os.path.isdir(group)
    where = f"{PATH}.closID" if rdt.clos_id else PATH
    if exists and not os.path.exists(f"{group}/tasks"):
        raise SpecError([Problem(where, f"{group} is not a class of resctrl but a part of it")])
    if rdt.clos_id and not exists and not writes:
        text = f"there is no class {group}, and no schema to make it with"
        raise SpecError([Problem(where, text)])
    if rdt.clos_id and exists:
        _compare(group, writes)
    return {
        "group": group,
        "new": not exists,
        "ours": not exists and not rdt.clos_id,
        "writes": writes,
        "monitor": f"{group}/mon_groups/{name}" if rdt.enable_monitoring else "",
    }


def schema_writes(rdt: LinuxIntelRdt) -> list[str]:
    """What is written to ``schemata``, one write each: a later one may name a resource again.

    The two older fields are one value, in which memBwSchema decides about the memory bandwidth.
    """
    cache, bandwidth = rdt.l3_cache_schema or "", rdt.mem_bw_schema or ""
    lines = [line for line in cache.split("\n") if not (bandwidth and line.startswith("MB:"))]
    combined = "\n".join(line for line in (*lines, bandwidth) if line)
    writes = [combined] if combined else []
    for index, line in enumerate(rdt.schemata or ()):
        if "\n" in line:
            raise SpecError([Problem(f"{PATH}.schemata[{index}]", "must be a single line")])
    if rdt.schemata:
        writes.append("\n".join(rdt.schemata))
    return writes


def _compare(group: str, writes: Sequence[str]) -> None:
    """A class that others may share is used as it is, or not at all."""
    wanted: dict[tuple[str, str], str] = {}
    for text in writes:
        wanted.update(parse_schemata(text))
    if not wanted:
        return
    present = parse_schemata(_read(f"{group}/schemata"))
    differ = [
        f"{resource}:{domain} is {present.get((resource, domain), 'missing')} and not {value}"
        for (resource, domain), value in wanted.items()
        if present.get((resource, domain)) != value
    ]
    if differ:
        text = f"the class {group} exists with other limits: {', '.join(differ)}"
        raise SpecError([Problem(f"{PATH}.closID", text)])


def parse_schemata(text: str) -> dict[tuple[str, str], str]:
    """The values of "L3:0=ff;1=0f" lines by resource and domain, without padding and zeros."""
    found = {}
    for line in text.splitlines():
        resource, _, domains = line.partition(":")
        for part in domains.split(";"):
            domain, equals, value = part.partition("=")
            if equals:
                plain = value.strip().lower().removeprefix("0x").lstrip("0") or "0"
                found[resource.strip(), domain.strip().lstrip("0") or "0"] = plain
    return found


def make(record: dict[str, Any]) -> None:
    """Make the groups on record and set their limits; :func:`unmake` is the way back.

    Raises :class:`ContainerError` with resctrl's own explanation.
    """
    group, monitor = record["group"], record["monitor"]
    if record["new"]:
        try:
            _change(group, f"make the class {group}", os.mkdir, group, 0o755)
            record["made"] = True
        except ContainerError as error:
            if error.errno != _EEXIST:
                raise
            # Another container of the class was faster; whose it is decides who removes it.
            record["ours"] = False
    for text in record["writes"]:
        _change(group, f"set {text!r} for {group}", _write, f"{group}/schemata", text + "\n")
    if monitor:
        _change(group, f"make the monitoring group {monitor}", os.mkdir, monitor, 0o755)
        record["monitored"] = True


def join(record: Mapping[str, Any], pid: int) -> None:
    """Put a process, and whatever it will start, into the groups on record."""
    group = record["group"]
    for directory in (group, record["monitor"]):
        if directory:
            what = f"put process {pid} into {directory}"
            _change(group, what, _write, f"{directory}/tasks", str(pid))


def change(record: dict[str, Any], rdt: LinuxIntelRdt) -> Callable[[], None]:
    """Give a container's class the limits of ``rdt``; returns what brings the old ones back.

    Raises :class:`ContainerError`, with the old limits in force.
    """
    group = record["group"]
    path = f"{group}/schemata"
    old = "".join(f"{line.strip()}\n" for line in _read(path).splitlines())

    def take_back() -> None:
        _change(group, f"bring back {old!r} for {group}", _write, path, old)

    try:
        for text in schema_writes(rdt):
            _change(group, f"set {text!r} for {group}", _write, path, text + "\n")
    except BaseException:
        take_back()
        raise
    return take_back


def remove(record: Mapping[str, Any]) -> None:
    """Remove what belongs to a container that is gone. What is missing already is fine."""
    for directory in (record["monitor"], record["group"] if record["ours"] else ""):
        _remove(directory)


def unmake(record: Mapping[str, Any]) -> None:
    """Remove what :func:`make` has made before the creation failed, a shared class as well."""
    if record.get("monitored"):
        _remove(record["monitor"])
    if record.get("made"):
        _remove(record["group"])


def _remove(directory: str) -> None:
    if not directory:
        return
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno != _ENOENT:
            warn(f"{PATH}: cannot remove {directory}: {error.strerror}")


def _change(group: str, what: str, action: Any, *arguments: object) -> None:
    try:
        action(*arguments)
    except OSError as error:
        raise ContainerError(
            f"{PATH}: cannot {what}: {error.strerror}{_last_status(group)}",
            op="resctrl",
            path=group,
            errno=error.errno or 0,
        ) from None


def _last_status(group: str) -> str:
    """What resctrl says about its last command; it is kept at the root."""
    for root in (os.path.dirname(group), group):
        try:
            text = _read(f"{root}/info/last_cmd_status").strip()
        except OSError:
            continue
        return f" ({text})" if text and text != "ok" else ""
    return ""


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    """One write(2), as these files want it; they are there or it is an error."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
