"""PURE: the unit that a container is for systemd, and the group that systemd makes for it.

Sources: runc's docs/systemd.md; man 5 systemd.unit, systemd.slice; systemd's cgroup-util for the
escaping of names that the kernel's own files have.
"""

from __future__ import annotations

from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

FIELD = "$.linux.cgroupsPath"
ROOT_SLICE = "-.slice"
_SLICE, _SCOPE = ".slice", ".scope"
_LONGEST = 255
_VALID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids")
_FILES = ("tasks", "notify_on_release", "release_agent")


class Unit:
    """A transient scope, or a slice, and the slice that it lies in."""

    __slots__ = ("name", "slice")

    def __init__(self, name: str, slice: str) -> None:
        self.name = name
        self.slice = slice

    @property
    def is_slice(self) -> bool:
        return self.name.endswith(_SLICE)

    @property
    def path(self) -> str:
        """Its group, below that of the systemd instance which it belongs to."""
        if self.is_slice:
            return expand(self.name)
        return f"{expand(self.slice).rstrip('/')}/{_group_name(self.name)}"

    def __repr__(self) -> str:
        return f"Unit({self.name!r}, {self.slice!r})"


def unit(cgroups_path: str | None, container_id: str, *, user: bool) -> Unit:
    """The unit that ``slice:prefix:name`` names; ``:runc:<container id>`` when there is no path.

    ``user`` is for a user's own systemd, whose default slice is another. Raises
    :class:`~libpycontainer.errors.CgroupError` for what systemd would not take.
    """
    if not cgroups_path:
        return Unit(_checked(f"runc-{_escape(container_id)}{_SCOPE}"), _default_slice(user))
    parts = cgroups_path.split(":")
    if len(parts) != 3:
        _refuse(f"expected slice:prefix:name, as systemd makes the cgroup, not {cgroups_path!r}")
    parent, prefix, name = parts
    if parent == "-":
        parent = ROOT_SLICE
    parent = parent or _default_slice(user)
    expand(parent)
    if not name:
        _refuse(f"{cgroups_path!r} has no name after the second colon")
    if name.endswith(_SLICE):
        if expand(name) == "/":
            _refuse(f"{name!r} is systemd's root slice, which is not the container's own")
        return Unit(_checked(name), parent)
    return Unit(_checked(f"{prefix}-{name}{_SCOPE}"), parent)


def expand(slice: str) -> str:
    """``/a.slice/a-b.slice`` for ``a-b.slice``: each dash in the name is one level more."""
    stem = slice.removesuffix(_SLICE)
    if slice == ROOT_SLICE:
        return "/"
    if stem == slice or any(not part for part in stem.split("-")):
        _refuse(f"{slice!r} is not the name of a slice (a-b.slice is the slice b in a.slice)")
    _checked(slice)
    path, prefix = "", ""
    for part in stem.split("-"):
        prefix += part
        path += "/" + _group_name(prefix + _SLICE)
        prefix += "-"
    return path


def _default_slice(user: bool) -> str:
    return "user.slice" if user else "system.slice"


def _checked(name: str) -> str:
    wrong = sorted(set(name) - _VALID)
    if wrong:
        _refuse(f"{name!r} cannot be a unit of systemd: it contains {''.join(wrong)!r}")
    if len(name) > _LONGEST:
        _refuse(f"{name!r} cannot be a unit of systemd: it is longer than {_LONGEST} characters")
    return name


def _escape(container_id: str) -> str:
    """A container's name as part of a unit's, as systemd-escape(1) spells what it does not take."""
    return "".join(
        char if char in _VALID and char not in "\\@:" else _spelled(char) for char in container_id
    )


def _spelled(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode())


def _group_name(name: str) -> str:
    """The directory of a unit: systemd keeps clear of the names of the kernel's own files."""
    stem = name.partition(".")[0]
    own = name[0] in "._" or name in _FILES or stem == "cgroup" or stem in _CONTROLLERS
    return f"_{name}" if own else name


def _refuse(what: str) -> NoReturn:
    raise CgroupError(f"{FIELD}: {what}", op="place")
