"""What cgroup hierarchies this host has mounted, and where in each of them the caller sits.

Source: man 7 cgroups; man 5 proc_pid_mountinfo. The mount table is read once per process, the
caller's own place at every call: a service may well have moved itself meanwhile.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = "/sys/fs/cgroup"


class Hierarchy:
    """One mounted hierarchy.

    ``name`` is its directory name (``cpu,cpuacct``, ``unified``); ``controllers`` what it
    carries (``name=systemd`` for a named one, nothing for v2, whose controllers are enabled per
    group); ``options`` what a new mount of it is asked for with (``""`` for v2); ``own`` the
    caller's own path, as /proc/self/cgroup says it, and ``root`` the path that ``mountpoint``
    shows: both count from the caller's cgroup namespace.
    """

    __slots__ = ("controllers", "mountpoint", "name", "options", "own", "root", "version")

    def __init__(
        self,
        name: str,
        controllers: tuple[str, ...],
        options: str,
        mountpoint: str,
        own: str,
        version: int,
        root: str = "/",
    ) -> None:
        self.name = name
        self.controllers = controllers
        self.options = options
        self.mountpoint = mountpoint
        self.own = own
        self.version = version
        self.root = root

    def __repr__(self) -> str:
        return f"Hierarchy({self.name!r}, own={self.own!r}, mountpoint={self.mountpoint!r})"

    def own_below_mount(self) -> str | None:
        """The caller's own path counted from the mountpoint; ``None`` when it lies outside."""
        if self.root.startswith("/..") or self.own.startswith("/.."):
            return None
        if self.root == "/":
            return self.own
        if self.own == self.root:
            return "/"
        return self.own[len(self.root) :] if self.own.startswith(self.root + "/") else None


class CgroupMount:
    """How one hierarchy appears below a container's mount of type ``cgroup``.

    ``name`` is the directory to mount at, below the destination (``""``: the destination
    itself); ``fstype`` and ``options`` are for a new mount inside a cgroup namespace, ``source``
    is the container's own directory on the host, for a bind mount without one; ``symlinks`` are
    the names next to ``name`` that lead to it (``cpu -> cpu,cpuacct``).
    """

    __slots__ = ("fstype", "name", "options", "source", "symlinks")

    def __init__(
        self, name: str, fstype: str, options: str, source: str, symlinks: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.fstype = fstype
        self.options = options
        self.source = source
        self.symlinks = symlinks


class _Mount:
    __slots__ = ("fstype", "identity", "mountpoint", "options", "parent", "root")

    def __init__(self, line: str) -> None:
        fields = line.split(" ")
        separator = fields.index("-", 6)
        self.identity = fields[0]
        self.parent = fields[1]
        self.root = _unescape(fields[3])
        self.mountpoint = _unescape(fields[4])
        self.fstype = fields[separator + 1]
        self.options = fields[separator + 3].split(",")


_table: tuple[_Mount, ...] | None = None
_joined: tuple[object, str, tuple[Hierarchy, ...]] = ((), "", ())
"""What the last call found, and what it found it from: seldom anything changes in between."""


def hierarchies() -> tuple[Hierarchy, ...]:
    """The hierarchies that the caller can reach, in the order in which they were mounted."""
    global _joined
    mounts, own = _mounted(), _read("/proc/self/cgroup")
    if _joined[0] is not mounts or _joined[1] != own:
        _joined = (mounts, own, _join(mounts, own))
    return _joined[2]


def own_mounts() -> tuple[CgroupMount, ...]:
    """How the groups that the caller itself sits in appear below a mount of type ``cgroup``.

    Beside v1 hierarchies the unified one stays out, as with runc.
    """
    found = hierarchies()
    mounts = []
    for one in [one for one in found if one.version == 1] or found:
        place = one.own_below_mount()
        if place is None:
            continue
        source = one.mountpoint + place.rstrip("/")
        if one.version == 2:
            mounts.append(CgroupMount("", "cgroup2", "", source))
        else:
            symlinks = one.controllers if len(one.controllers) > 1 else ()
            mounts.append(CgroupMount(one.name, "cgroup", one.options, source, symlinks))
    return tuple(mounts)


def unified_path(pid: int) -> str | None:
    """The directory of the v2 group that a process is in; ``None`` without one in sight."""
    own = _own_paths(_read(f"/proc/{pid}/cgroup")).get("")
    for mount in _mounted():
        if own is not None and mount.fstype == "cgroup2" and not own.startswith("/.."):
            root = "" if mount.root == "/" else mount.root
            if own == root or own.startswith(root + "/"):
                return mount.mountpoint + own[len(root) :]
    return None


def mode() -> str:
    """``"v1"``, ``"hybrid"``, ``"v2"`` or ``"none"``: what is mounted on this host."""
    return _mode(_mounted())


def parse(mountinfo: str, cgroup: str) -> tuple[Hierarchy, ...]:
    """:func:`hierarchies` from the texts of /proc/self/mountinfo and /proc/self/cgroup."""
    return _join(_visible(mountinfo), cgroup)


def parse_mode(mountinfo: str) -> str:
    """:func:`mode` from the text of /proc/self/mountinfo."""
    return _mode(_visible(mountinfo))


def _mode(mounts: Sequence[_Mount]) -> str:
    if any(mount.fstype == "cgroup2" and mount.mountpoint == ROOT for mount in mounts):
        return "v2"
    kinds = {mount.fstype for mount in mounts}
    if "cgroup" in kinds:
        return "hybrid" if "cgroup2" in kinds else "v1"
    return "v2" if kinds else "none"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        # A kernel without cgroups has no /proc/self/cgroup.
        return ""


def _mounted() -> tuple[_Mount, ...]:
    global _table
    if _table is None:
        _table = _visible(_read("/proc/self/mountinfo"))
    return _table


def _visible(mountinfo: str) -> tuple[_Mount, ...]:
    """The cgroup mounts that a path look-up still reaches: nothing is mounted over them."""
    lines = mountinfo.splitlines()
    if not any(" - cgroup" in line for line in lines):
        return ()
    mounts = {mount.identity: mount for mount in map(_Mount, lines)}
    children: dict[str, list[_Mount]] = {}
    for mount in mounts.values():
        children.setdefault(mount.parent, []).append(mount)
    return tuple(
        mount
        for mount in mounts.values()
        if mount.fstype in ("cgroup", "cgroup2") and not _covered(mount, mounts, children)
    )


def _covered(mount: _Mount, mounts: dict[str, _Mount], children: dict[str, list[_Mount]]) -> bool:
    """Whether something is mounted on top of it, or on a directory on the way to it."""
    seen = set()
    below, current = mount, mounts.get(mount.identity)
    while current is not None and current.identity not in seen:
        seen.add(current.identity)
        where = current.mountpoint
        for other in children.get(current.identity, ()):
            if other is not below and other.mountpoint == where:
                return True
        for other in children.get(current.parent, ()):
            if other is not current and where.startswith(other.mountpoint.rstrip("/") + "/"):
                return True
        below, current = current, mounts.get(current.parent)
    return False


def _join(mounts: Sequence[_Mount], cgroup: str) -> tuple[Hierarchy, ...]:
    chosen: dict[str, Hierarchy] = {}
    own = _own_paths(cgroup)
    # Other mounts of a hierarchy (a container's, seen from the host) come second to /sys/fs/cgroup.
    for mount in sorted(mounts, key=lambda mount: not _under_root(mount.mountpoint)):
        for key, path in own.items():
            if key not in chosen and _matches(mount, key):
                chosen[key] = _hierarchy(mount, key, path)
    order = {id(mount): index for index, mount in enumerate(mounts)}
    positions = {mount.mountpoint: order[id(mount)] for mount in mounts}
    return tuple(sorted(chosen.values(), key=lambda found: positions[found.mountpoint]))


def _hierarchy(mount: _Mount, key: str, own: str) -> Hierarchy:
    return Hierarchy(
        name=mount.mountpoint.rpartition("/")[2],
        controllers=tuple(key.split(",")) if key else (),
        options=key,
        mountpoint=mount.mountpoint,
        own=own,
        version=1 if key else 2,
        root=mount.root,
    )


def _under_root(mountpoint: str) -> bool:
    return mountpoint == ROOT or mountpoint.startswith(ROOT + "/")


def _matches(mount: _Mount, key: str) -> bool:
    if not key:
        return mount.fstype == "cgroup2"
    return mount.fstype == "cgroup" and all(part in mount.options for part in key.split(","))


def _own_paths(cgroup: str) -> dict[str, str]:
    """``hierarchy-ID:controllers:path`` lines, by controllers; v2's controllers are ``""``."""
    found = {}
    for line in cgroup.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            found[parts[1]] = parts[2]
    return found


def _unescape(text: str) -> str:
    """The kernel writes space, tab, newline and backslash as three octal digits."""
    if "\\" not in text:
        return text
    head, *rest = text.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)
