"""Where containers are recorded: one directory each under the state root.

``state.json`` is the record, replaced as a whole and never edited; ``config.json`` the
configuration as it was when the container was created; ``start.sock`` what init waits on; ``netns``
and ``netns.host`` the namespaces that lent network devices are in and came from. The directory
itself is the name's reservation (mkdir is atomic) and its lock (flock ends with its holder, however
that dies). ``containers`` holds the directories of the containers inside this one: ``job/task-1``
is recorded in ``job/containers/task-1``.
"""

from __future__ import annotations

import os

from libpycontainer import jsontext
from libpycontainer.descriptors import Fd
from libpycontainer.errors import (
    AlreadyExistsError,
    BusyError,
    ContainerError,
    InvalidIDError,
    NotFoundError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE = "state.json"
CONFIG = "config.json"
START_SOCKET = "start.sock"
NETWORK = "netns"
HOST_NETWORK = "netns.host"
CONTAINERS = "containers"
LOCK_TIMEOUT = 10.0
MAX_ID = 255
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


def default_root() -> str:
    """/run/libpycontainer for root, $XDG_RUNTIME_DIR/libpycontainer for everybody else."""
    if os.geteuid() == 0 and not _mapped_root():
        return "/run/libpycontainer"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if os.geteuid() == 0 and not os.environ.get("XDG_RUNTIME_DIR"):
        return "/run/libpycontainer"
    return os.path.join(runtime, "libpycontainer")


def _mapped_root() -> bool:
    """Root of a user namespace only (as rootless podman runs us) may not write to /run."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split()[1:2] != ["0"]


def check_id(id: str) -> None:
    """Raise :class:`InvalidIDError` unless ``id`` is a name that runc would take, or such names.

    ``job/task-1`` is the container ``task-1`` inside of ``job``.
    """
    if not isinstance(id, str) or not id:
        raise InvalidIDError(f"invalid container id {id!r}: it must not be empty")
    if len(id) > MAX_ID:
        raise InvalidIDError(f"invalid container id: {len(id)} characters, {MAX_ID} at most")
    for name in id.split("/"):
        if name in ("", ".", ".."):
            raise InvalidIDError(
                f"invalid container id {id!r}: a name in it must not be empty, '.' or '..'"
            )
        if not _ID_CHARACTERS.issuperset(name):
            raise InvalidIDError(
                f"invalid container id {id!r}: only letters, digits and the characters _+-. may be"
                " used, and / between the names of a path"
            )


def ancestors(id: str) -> list[str]:
    """The containers that ``id`` lies inside of, the outermost first: none for a plain name."""
    names = id.split("/")
    return ["/".join(names[:depth]) for depth in range(1, len(names))]


class Store:
    """The containers under one state root, which is made (mode 0700) when it is first written."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    def path(self, id: str) -> str:
        """The directory of a container, there or not."""
        return os.path.join(self.root, id.replace("/", f"/{CONTAINERS}/"))

    def reserve(self, id: str) -> Entry:
        """Take a name for a new container; the entry comes locked.

        Raises :class:`AlreadyExistsError` when it is taken, also by a caller who is not done, and
        :class:`NotFoundError` when the container that it would lie inside of does not exist.
        """
        check_id(id)
        path = self.path(id)
        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            if "/" in id:
                self._open_parent(id, os.path.dirname(path))
            os.mkdir(path, 0o700)
        except FileExistsError as error:
            if error.filename != path:
                raise self._unusable(error) from None
            raise AlreadyExistsError(
                f"container with given ID already exists: {id}", op="create", path=path
            ) from None
        except OSError as error:
            raise self._unusable(error) from None
        entry = Entry(id, path)
        try:
            entry.lock()
        except (BusyError, NotFoundError):
            # Between the two steps somebody deleted the name that he took for a left-over.
            raise AlreadyExistsError(
                f"container {id} was deleted while it was being created", op="create", path=path
            ) from None
        return entry

    def _open_parent(self, id: str, directory: str) -> None:
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            pass
        except FileNotFoundError:
            raise NotFoundError(
                f"container does not exist: {ancestors(id)[-1]}, which {id} is to lie inside of",
                op="create",
                path=directory,
            ) from None

    def _unusable(self, error: OSError, op: str = "create") -> ContainerError:
        return ContainerError(
            f"cannot use the state root {self.root}: {error.strerror}",
            op=op,
            path=self.root,
            errno=error.errno or 0,
            hint="Set XDG_RUNTIME_DIR to a directory of your own, or name one: Factory(root=...).",
        )

    def find(self, id: str) -> Entry:
        """An existing container's entry, not locked. Raises :class:`NotFoundError`."""
        check_id(id)
        path = self.path(id)
        if not os.path.isdir(path):
            raise NotFoundError(f"container does not exist: {id}", op="load", path=path)
        return Entry(id, path)

    def ids(self, inside: str | None = None) -> list[str]:
        """The names that are taken, as a tree is read: a container, then those inside of it.

        ``inside`` asks for what lies inside of one container, at any depth.
        """
        directory = self.root if inside is None else f"{self.path(inside)}/{CONTAINERS}"
        found: list[str] = []
        for name in self._names(directory):
            id = name if inside is None else f"{inside}/{name}"
            found.append(id)
            found += self.ids(id)
        return found

    def _names(self, directory: str) -> list[str]:
        try:
            with os.scandir(directory) as entries:
                return sorted(
                    entry.name
                    for entry in entries
                    if _ID_CHARACTERS.issuperset(entry.name) and entry.is_dir(follow_symlinks=False)
                )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error, "list") from None


class Entry:
    """One container's directory."""

    def __init__(self, id: str, path: str) -> None:
        self.id = id
        self.path = path
        self._directory: Fd | None = None

    def lock(self, timeout: float = LOCK_TIMEOUT, *, shared: bool = False) -> None:
        """Exclude every other caller that changes this container. Waits ``timeout`` seconds.

        ``shared`` excludes only those who do not share: whoever makes a container inside of this
        one wants it to stay as it is, and minds nobody who wants the same.

        Raises :class:`BusyError` when they are over, :class:`NotFoundError` when it was deleted.
        """
        import fcntl
        import time

        try:
            # An object before it is a lock: were it only a number, a Ctrl-C right here could leave
            # the lock to this program for good.
            fd = Fd(os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except FileNotFoundError:
            raise NotFoundError(f"container does not exist: {self.id}", path=self.path) from None
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        deadline = time.monotonic() + timeout
        delay = 0.0005
        while True:
            try:
                fcntl.flock(fd.fileno(), kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    fd.close()
                    raise BusyError(
                        f"container {self.id} is busy: another call has held it for {timeout:g} s",
                        op="lock",
                        path=self.path,
                    ) from None
                time.sleep(delay)
                delay = min(delay * 2, 0.02)
        # The name may have been deleted, and taken again, while we waited for the old directory.
        if not self._still_ours(fd):
            fd.close()
            raise NotFoundError(f"container does not exist: {self.id}", path=self.path)
        self._directory = fd

    def _still_ours(self, fd: Fd) -> bool:
        try:
            return os.path.samestat(os.fstat(fd.fileno()), os.stat(self.path))
        except FileNotFoundError:
            return False

    def unlock(self) -> None:
        fd, self._directory = self._directory, None
        if fd is not None:
            fd.close()

    def __enter__(self) -> Entry:
        return self

    def __exit__(self, *exc: object) -> None:
        self.unlock()

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def save(self, record: dict[str, Any], name: str = STATE) -> None:
        """Replace the record: a reader sees the old one or the new one, whole."""
        path = self.file(name)
        fresh = f"{path}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(fresh, flags, 0o600)
            try:
                view = memoryview(jsontext.dumps(record, separators=(",", ":")).encode())
                while view:
                    view = view[os.write(fd, view) :]
            finally:
                os.close(fd)
            os.rename(fresh, path)
        except OSError as error:
            raise ContainerError(
                f"cannot write {path}: {error.strerror}",
                op="save",
                path=path,
                errno=error.errno or 0,
            ) from None

    def load(self, name: str = STATE) -> dict[str, Any] | None:
        """The record, or ``None`` where its maker has not come that far.

        Raises :class:`ContainerError` for one that cannot be read.
        """
        path = self.file(name)
        try:
            with open(path, encoding="utf-8") as file:
                record = jsontext.loads(file.read())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise ContainerError(f"cannot read {path}: {error}", op="load", path=path) from None
        if not isinstance(record, dict):
            raise ContainerError(f"cannot read {path}: not an object", op="load", path=path)
        return record

    def remove(self) -> None:
        """Forget the container. What is missing already is fine."""
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return
        # The record goes last but one: without it `delete` could not clean up after a crash here.
        for name in sorted(names, key=lambda name: name == STATE):
            _remove(self.file(name))
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            pass


def _remove(path: str) -> None:
    """Remove a file, or a directory of files. What is missing already is fine."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)
