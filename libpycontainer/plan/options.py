"""Mount options: the words of config.md and of mount(8), turned into flags."""

from __future__ import annotations

from libpycontainer import kernel
from libpycontainer.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ATIME = kernel.MOUNT_ATTR_ATIME

ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (kernel.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, kernel.MOUNT_ATTR_RDONLY),
    "nosuid": (kernel.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, kernel.MOUNT_ATTR_NOSUID),
    "nodev": (kernel.MOUNT_ATTR_NODEV, 0),
    "dev": (0, kernel.MOUNT_ATTR_NODEV),
    "noexec": (kernel.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, kernel.MOUNT_ATTR_NOEXEC),
    "nodiratime": (kernel.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, kernel.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (kernel.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, kernel.MOUNT_ATTR_NOSYMFOLLOW),
    # The three access time modes are one field: setting one means clearing the field first. What
    # takes one back leaves the others alone, and the kernel's default is relatime.
    "relatime": (kernel.MOUNT_ATTR_RELATIME, _ATIME),
    "norelatime": (0, 0),
    "noatime": (kernel.MOUNT_ATTR_NOATIME, _ATIME),
    "atime": (0, kernel.MOUNT_ATTR_NOATIME),
    "strictatime": (kernel.MOUNT_ATTR_STRICTATIME, _ATIME),
    "nostrictatime": (0, kernel.MOUNT_ATTR_STRICTATIME),
}
"""Option: attributes to set, attributes to clear. With an "r" before it: in the whole tree."""

PROPAGATION = {
    "private": kernel.MS_PRIVATE,
    "shared": kernel.MS_SHARED,
    "slave": kernel.MS_SLAVE,
    "unbindable": kernel.MS_UNBINDABLE,
}

SUPERBLOCK = {
    "sync": "sync",
    "async": "async",
    "dirsync": "dirsync",
    "lazytime": "lazytime",
    "nolazytime": "nolazytime",
    "mand": "mand",
    "nomand": "nomand",
}
"""Options that belong to the file system, not to the mount: fsconfig knows them by these names."""

IGNORED = frozenset({"defaults", "silent", "loud", "acl", "noacl", "iversion", "noiversion"})
"""Words without an effect here. Since Linux 5.x nobody but the file system sets iversion."""

EXTENSIONS = frozenset({"remount", "tmpcopyup", "idmap", "ridmap"})


class Options:
    """The options of one mount, sorted out."""

    __slots__ = (
        "bind",
        "clear",
        "data",
        "extensions",
        "given",
        "propagation",
        "recursive_bind",
        "set",
        "superblock",
        "tree_clear",
        "tree_set",
    )

    def __init__(self) -> None:
        self.set = 0
        self.clear = 0
        self.tree_set = 0
        self.tree_clear = 0
        self.given = False
        """Was any attribute named? A bind mount without one keeps its source's attributes."""
        self.propagation: list[tuple[int, bool]] = []
        self.bind = False
        self.recursive_bind = False
        self.superblock: list[str] = []
        self.data: list[tuple[str, str | None]] = []
        self.extensions: list[str] = []

    @property
    def read_only(self) -> bool:
        return bool(self.set & kernel.MOUNT_ATTR_RDONLY)


def names() -> list[str]:
    """Every word that a runtime takes itself, sorted: what ``features`` lists."""
    plain = {*ATTRIBUTES, *PROPAGATION}
    recursive = {f"r{word}" for word in plain}
    return sorted({*plain, *recursive, *SUPERBLOCK, *IGNORED, *EXTENSIONS, "bind", "rbind"})


def is_data(option: str) -> bool:
    """Is it none of the words that a runtime takes itself, so one for the file system?"""
    return not _known(Options(), option)


def parse(options: Iterable[str] | None) -> Options:
    """Sort a mount's options. Later ones win; what is not known belongs to the file system."""
    result = Options()
    for option in options or ():
        if not _known(result, option):
            for key, value in split_data(option):
                result.data.append((key, value))
    # The kernel takes no part of the access time field without the whole (man 2 mount_setattr).
    if (result.set | result.clear) & _ATIME:
        result.clear |= _ATIME
    if (result.tree_set | result.tree_clear) & _ATIME:
        result.tree_clear |= _ATIME
    return result


def _known(result: Options, option: str) -> bool:
    if option in ATTRIBUTES:
        set_, clear = ATTRIBUTES[option]
        result.set = result.set & ~clear | set_
        result.clear = result.clear & ~set_ | clear
        result.given = True
    elif option[:1] == "r" and option[1:] in ATTRIBUTES:
        set_, clear = ATTRIBUTES[option[1:]]
        result.tree_set = result.tree_set & ~clear | set_
        result.tree_clear = result.tree_clear & ~set_ | clear
    elif option in PROPAGATION:
        result.propagation.append((PROPAGATION[option], False))
    elif option[:1] == "r" and option[1:] in PROPAGATION:
        result.propagation.append((PROPAGATION[option[1:]], True))
    elif option in ("bind", "rbind"):
        result.bind = True
        result.recursive_bind = option == "rbind"
    elif option in SUPERBLOCK:
        result.superblock.append(SUPERBLOCK[option])
    elif option in EXTENSIONS:
        result.extensions.append(option)
    else:
        return option in IGNORED or option == ""
    return True


def split_data(text: str) -> list[tuple[str, str | None]]:
    r"""``"size=1m,mode=755"`` as pairs for fsconfig; ``\,`` is a comma in a value (overlayfs)."""
    items, item, escaped = [], "", False
    for char in text:
        if escaped:
            item += char if char == "," else "\\" + char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ",":
            items.append(item)
            item = ""
        else:
            item += char
    items.append(item + ("\\" if escaped else ""))
    pairs: list[tuple[str, str | None]] = []
    for entry in items:
        key, equals, value = entry.partition("=")
        if entry:
            pairs.append((key, value if equals else None))
    return pairs


def propagation_flag(word: str, path: str) -> tuple[int, bool]:
    """``rootfsPropagation``: the MS_ flag, and whether it goes for the whole tree."""
    plain = word[1:] if word[:1] == "r" and word[1:] in PROPAGATION else word
    if plain not in PROPAGATION:
        from libpycontainer.errors import SpecError

        raise SpecError([Problem(path, f"invalid value {word!r}, expected a propagation type")])
    return PROPAGATION[plain], plain != word
