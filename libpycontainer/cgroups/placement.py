"""PURE but for one question: which directory of each hierarchy a container gets."""

from __future__ import annotations

import os

from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from libpycontainer.cgroups.hierarchies import Hierarchy

_FIELD = "$.linux.cgroupsPath"


class Group:
    """A container's directory in one hierarchy: ``base`` is the mountpoint, ``path`` the rest."""

    __slots__ = ("base", "controllers", "name", "options", "path", "version")

    def __init__(
        self,
        name: str,
        controllers: tuple[str, ...],
        options: str,
        version: int,
        base: str,
        path: str,
    ) -> None:
        self.name = name
        self.controllers = controllers
        self.options = options
        self.version = version
        self.base = base
        self.path = path

    @property
    def directory(self) -> str:
        return self.base.rstrip("/") + self.path

    def record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "controllers": list(self.controllers),
            "options": self.options,
            "version": self.version,
            "base": self.base,
            "path": self.path,
        }

    @classmethod
    def load(cls, record: dict[str, Any]) -> Group:
        return cls(
            record["name"],
            tuple(record["controllers"]),
            record["options"],
            record["version"],
            record["base"],
            record["path"],
        )


def place(
    found: Sequence[Hierarchy],
    mode: str,
    cgroups_path: str | None,
    container_id: str,
    parent: str | None,
) -> tuple[Group, ...]:
    """The container's group in every hierarchy that ``mode`` uses, v1 ones first."""
    default = _join(clean(parent or ""), clean(container_id))
    inner = clean(cgroups_path) if cgroups_path else default
    if "\0" in inner:
        raise CgroupError(f"{_FIELD}: {inner!r} contains a null byte", op="place", path=inner)
    if inner.strip("/") == "":
        raise CgroupError(
            f"{_FIELD}: {cgroups_path!r} names a group that is not the container's own",
            op="place",
            path=cgroups_path or "",
        )
    used = sorted(
        (one for one in found if mode != "none" and (mode != "v2" or one.version == 2)),
        key=lambda one: one.version,
    )
    return tuple(
        Group(
            one.name,
            one.controllers,
            one.options,
            one.version,
            one.mountpoint,
            inner if inner.startswith("/") else _join(_start(one, mode, inner), inner),
        )
        for one in used
    )


def delegated(
    found: Sequence[Hierarchy], mode: str, container_id: str, parent: str | None
) -> tuple[Group, ...]:
    """The group in every hierarchy in which a caller without privilege may make one.

    That is under ``parent`` or, where an absolute one is not the caller's to use, under the
    caller's own group.
    """
    groups: list[Group] = []
    for one in found:
        for start in dict.fromkeys((parent, (parent or "").lstrip("/"))):
            try:
                placed = place((one,), mode, None, container_id, start)
            except CgroupError:
                # Its own group is out of sight.
                continue
            if placed and writable(placed[0]):
                groups += placed
                break
    return tuple(sorted(groups, key=lambda group: group.version))


def below(parent: Group, path: str) -> Group:
    """The group ``path`` below ``parent``'s."""
    inner = clean(path.lstrip("/"))
    if not inner or "\0" in inner:
        raise CgroupError(
            f"{_FIELD}: {path!r} names no group below {parent.path}", op="place", path=path
        )
    return Group(
        parent.name,
        parent.controllers,
        parent.options,
        parent.version,
        parent.base,
        _join(parent.path, inner),
    )


def clean(path: str) -> str:
    """Resolve ``.`` and ``..`` without ever climbing above where the path starts.

    A relative path is resolved as if it began at ``/``, so that no number of ``..`` leaves the
    group it is relative to. Symbolic links play no part: cgroupfs has none.
    """
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return ("/" if path.startswith("/") else "") + "/".join(parts)


def writable(group: Group) -> bool:
    """Whether the caller may make the group and move a process into it."""
    directory = group.directory
    while not os.path.isdir(directory) and len(directory) > len(group.base):
        directory = os.path.dirname(directory)
    return _may_divide(directory)


def _may_divide(directory: str) -> bool:
    return all(
        os.access(path, os.W_OK, effective_ids=True)
        for path in (directory, directory + "/cgroup.procs")
    )


def _start(hierarchy: Hierarchy, mode: str, inner: str) -> str:
    own = hierarchy.own_below_mount()
    if own is None:
        raise CgroupError(
            f"{_FIELD}: cannot place {inner!r} under the caller's own group: {hierarchy.own} is"
            f" outside of what {hierarchy.mountpoint} shows; use an absolute path",
            op="place",
            path=hierarchy.mountpoint,
        )
    if mode != "v2":
        return own
    # On v2 the caller's own group holds processes (the caller at least), so the kernel lets it
    # have no controllers for its children: runc takes its parent, and so do we. Where the caller
    # may not do so, his own group is what was delegated to him, see dividing.py.
    beside = os.path.dirname(own)
    mounted = hierarchy.mountpoint.rstrip("/")
    return own if not _may_divide(mounted + beside) and _may_divide(mounted + own) else beside


def _join(first: str, second: str) -> str:
    return f"{first.rstrip('/')}/{second.lstrip('/')}" if first else second
