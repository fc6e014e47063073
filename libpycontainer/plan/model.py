"""What a plan consists of: plain, light records that print and serialise."""

from __future__ import annotations

import marshal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Step:
    """One thing that init does: the name of its function, the arguments, a sentence for people."""

    __slots__ = ("arguments", "op", "title")

    def __init__(self, op: str, title: str, **arguments: Any) -> None:
        self.op = op
        self.title = title
        self.arguments = arguments

    def __repr__(self) -> str:
        return f"Step({self.op!r}, {self.title!r}, **{self.arguments!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Step):
            return NotImplemented
        return (self.op, self.title, self.arguments) == (other.op, other.title, other.arguments)

    __hash__ = None  # type: ignore[assignment]


class Namespace:
    """A namespace that the caller's side must hold as a descriptor before init can enter it.

    Either ``path`` names an existing one, or it is made new (user and time namespaces): with
    ``uid_map`` and ``gid_map``, lines of "inside outside count", and ``setgroups`` allowed or not,
    or with ``offsets``, lines of "clock seconds nanoseconds". ``fd`` is the name under which steps
    refer to it.
    """

    __slots__ = ("fd", "gid_map", "offsets", "path", "setgroups", "type", "uid_map")

    def __init__(
        self,
        fd: str,
        type: str,
        *,
        path: str = "",
        uid_map: str = "",
        gid_map: str = "",
        setgroups: bool = True,
        offsets: str = "",
    ) -> None:
        self.fd = fd
        self.type = type
        self.path = path
        self.uid_map = uid_map
        self.gid_map = gid_map
        self.setgroups = setgroups
        self.offsets = offsets


class Tree:
    """A detached copy of mounts, made by the caller's side as init may not see the source.

    With ``uid_map`` and ``gid_map`` (lines of "inside outside count") the copy is id-mapped, with
    ``map_recursive`` the mounts below it as well. ``title`` is that of the step that needs it.
    """

    __slots__ = ("fd", "gid_map", "map_recursive", "path", "recursive", "title", "uid_map")

    def __init__(
        self,
        fd: str,
        path: str,
        *,
        recursive: bool,
        title: str,
        uid_map: str = "",
        gid_map: str = "",
        map_recursive: bool = False,
    ) -> None:
        self.fd = fd
        self.path = path
        self.recursive = recursive
        self.title = title
        self.uid_map = uid_map
        self.gid_map = gid_map
        self.map_recursive = map_recursive


class Plan:
    """Everything that will be done for one process, in order.

    ``enter`` runs on the host's side of the clone, in the process that is about to make init;
    ``steps`` run in init. ``namespaces`` and ``trees`` are made by the caller's side beforehand.
    """

    __slots__ = ("clone_flags", "enter", "namespaces", "steps", "trees", "warnings")

    def __init__(self) -> None:
        self.clone_flags = 0
        self.namespaces: list[Namespace] = []
        self.trees: list[Tree] = []
        self.enter: list[Step] = []
        self.steps: list[Step] = []
        self.warnings: list[str] = []

    def serialise(self) -> bytes:
        """The part that the spawner needs, in a form that it can read without any import."""

        def rows(steps: list[Step]) -> list[tuple[str, str, dict[str, Any]]]:
            return [(step.op, step.title, step.arguments) for step in steps]

        # Version 2 of the format is the last one that every CPython writes and reads alike.
        return marshal.dumps((self.clone_flags, rows(self.enter), rows(self.steps)), 2)

    def describe(self) -> str:
        """The plan as ``pyrunc run --dry-run`` prints it: one numbered line a step."""
        lines = [f"before: {self._namespace_line(namespace)}" for namespace in self.namespaces]
        for tree in self.trees:
            mapped = f", id-mapped ({'; '.join(tree.uid_map.splitlines())})" if tree.uid_map else ""
            lines.append(f"before: copy the mounts at {tree.path}{mapped}")
        total = len(self.enter) + len(self.steps)
        width = len(str(total))
        for number, step in enumerate([*self.enter, *self.steps], 1):
            if number == len(self.enter) + 1:
                lines.append("clone init")
            lines.append(f"step {number:>{width}}/{total}: {step.title}")
        return "\n".join(lines) + "\n"

    @staticmethod
    def _namespace_line(namespace: Namespace) -> str:
        if namespace.path:
            return f"open the {namespace.type} namespace {namespace.path}"
        detail = namespace.uid_map or namespace.offsets
        return f"make a {namespace.type} namespace ({'; '.join(detail.splitlines())})"
