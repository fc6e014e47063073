"""Mounts in words: what the class methods of :class:`~libpycontainer.spec.models.Mount` make."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from libpycontainer import quantities
from libpycontainer.errors import ArgumentError

if TYPE_CHECKING:
    from libpycontainer.quantities import Size

    Path = str | os.PathLike[str]

QUIET = ("nosuid", "noexec", "nodev")


def path(value: Path, name: str) -> str:
    """``value`` as text. Raises :class:`ArgumentError` for what cannot be a path."""
    try:
        text = os.fspath(value)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise ArgumentError(f"{name}: expected a path, not {value!r}", parameter=name, value=value)
    if not text or "\0" in text:
        raise ArgumentError(f"{name}: {text!r} is not a path", parameter=name, value=value)
    return text


def absolute(value: Path, name: str) -> str:
    """A path inside the container, which has no directory that a relative one could count from."""
    text = path(value, name)
    if not text.startswith("/"):
        raise ArgumentError(
            f"{name}: {text!r} is not an absolute path", parameter=name, value=value
        )
    return text


def flag(value: object, name: str) -> bool:
    if value is not True and value is not False:
        raise ArgumentError(
            f"{name}: expected True or False, not {value!r}", parameter=name, value=value
        )
    return value


def words(values: Iterable[str], name: str) -> list[str]:
    """A list of texts; one text alone, which is a list of letters to Python, is refused."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ArgumentError(
            f"{name}: expected a list, not {values!r}", parameter=name, value=values
        )
    found = list(values)
    for each in found:
        if not isinstance(each, str):
            raise ArgumentError(f"{name}: expected text, not {each!r}", parameter=name, value=each)
    return found


def bind(
    source: Path, destination: Path | None, read_only: bool, recursive: bool, options: Iterable[str]
) -> dict[str, Any]:
    shown = os.path.abspath(path(source, "source"))
    made = ["rbind" if flag(recursive, "recursive") else "bind", "nosuid", "nodev"]
    if flag(read_only, "read_only"):
        made += ["ro", "rro"] if recursive else ["ro"]
    return _mount(
        shown if destination is None else destination,
        "bind",
        shown,
        [*made, *words(options, "options")],
    )


def tmpfs(
    destination: Path,
    size: Size | None,
    mode: int,
    read_only: bool,
    executable: bool,
    options: Iterable[str],
) -> dict[str, Any]:
    if not isinstance(mode, int) or not 0 <= mode <= 0o7777:
        raise ArgumentError(
            f"mode: expected permissions such as 0o755, not {mode!r}", parameter="mode", value=mode
        )
    made = ["nosuid", "nodev", f"mode={mode:04o}"]
    if not flag(executable, "executable"):
        made.append("noexec")
    if flag(read_only, "read_only"):
        made.append("ro")
    if size is not None:
        count = quantities.size(size)
        if count <= 0:
            raise ArgumentError(f"size: {size!r} leaves no room", parameter="size", value=size)
        made.append(f"size={count}")
    return _mount(destination, "tmpfs", "tmpfs", [*made, *words(options, "options")])


def kernel(destination: Path, type: str, *options: str, read_only: bool = False) -> dict[str, Any]:
    """A file system of the kernel's own, of which its name is the source."""
    made = [*options, "ro"] if flag(read_only, "read_only") else list(options)
    return _mount(destination, type, type, made)


def _mount(destination: Path, type: str, source: str, options: list[str]) -> dict[str, Any]:
    return {
        "destination": absolute(destination, "destination"),
        "type": type,
        "source": source,
        "options": options,
    }
