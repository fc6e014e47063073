"""Writing settings to a group's files, in an order that the kernel takes; all of them or none."""

from __future__ import annotations

import errno

from libpycontainer.cgroups import restoring
from libpycontainer.cgroups.files import number, read_optional, read_raw, write
from libpycontainer.cgroups.settings import Setting
from libpycontainer.errors import CgroupError, ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from libpycontainer.spec.models import LinuxMemory

    # A setting, and the directory of the group that it is for.
    Located = tuple[Setting, str]

# v2 takes nothing at all for "what the parent has", but not from a group with processes in it. The
# way back from there is to name what the group had.
_NOT_EMPTIED = ("cpuset.cpus", "cpuset.mems")


def write_settings(settings: Sequence[Located]) -> None:
    """Write every setting.

    The kernel checks some files against each other (memory against memory plus swap, quota
    against period and burst, and all of them against the parent), so the right order depends on
    the values that are there. What is refused as invalid is tried again after the others, until
    all is written or nothing moves any more.
    """
    waiting = list(settings)
    while waiting:
        refused = []
        first: CgroupError | None = None
        for setting, directory in waiting:
            try:
                _write(setting, directory)
            except CgroupError as error:
                if error.errno != errno.EINVAL:
                    raise
                first = first or error
                refused.append((setting, directory))
        if first is not None and len(refused) == len(waiting):
            raise first
        waiting = refused


class Change:
    """A change of limits that is made as a whole, and can be taken back as a whole.

    :meth:`make` and :meth:`add` take back by themselves what they have done when they fail.
    """

    def __init__(self) -> None:
        self._before: list[Located] = []
        self._undo: list[Callable[[], None]] = []

    def make(
        self,
        settings: Sequence[Located],
        write: Callable[[Sequence[Located]], None] = write_settings,
    ) -> None:
        """Read what is there, then ``write`` the ``settings`` in its place."""
        self._before += before(settings)
        self.add(lambda: write(settings))

    def add(self, do: Callable[[], None], undo: Callable[[], None] | None = None) -> None:
        """Do one thing more; ``undo`` is called when the whole is taken back, also if it fails."""
        if undo is not None:
            self._undo.append(undo)
        try:
            do()
        except BaseException as error:
            self.take_back(error)
            raise

    def take_back(self, reason: BaseException) -> None:
        """Put back what was there; what cannot be is noted on ``reason``."""
        undo, self._undo = self._undo[::-1], []
        settings, self._before = self._before, []
        undo.append(lambda: restore(settings))
        for each in undo:
            try:
                each()
            except ContainerError as error:
                reason.add_note(f"the old limits are not all back: {error}")


def before(settings: Sequence[Located]) -> list[Located]:
    """Settings that bring back what the files of ``settings`` say now."""
    found: list[Located] = []
    for setting, directory in settings:
        value = setting.value
        file = setting.file
        text = _read(directory, file)
        if text is None and setting.fallback is not None:
            file, value = setting.fallback
            text = _read(directory, file)
        old = None if text is None else restoring.undoing(file, value, text)
        if text is None or old is None:
            continue
        if not text and file in _NOT_EMPTIED:
            old = _read(directory, f"{file}.effective") or old
        found.append((setting.instead(file, old), directory))
        for other in restoring.implied(file, text):
            more = _read(directory, other)
            if more is not None:
                found.append((setting.instead(other, more), directory))
    return found


def restore(settings: Sequence[Located]) -> None:
    """Write back what :func:`before` found. One that is refused does not keep the others back."""
    waiting, problem = [each for each in settings if not _stands(*each)], None
    while waiting:
        refused = []
        for setting, directory in waiting:
            try:
                write_settings([(setting, directory)])
            except CgroupError as error:
                problem = error
                refused.append((setting, directory))
        if len(refused) == len(waiting):
            assert problem is not None
            raise problem
        waiting = refused


def _stands(setting: Setting, directory: str) -> bool:
    """Whether the file says so already: some files refuse what they say (cgroup.type)."""
    text = _read(directory, setting.file)
    if text == "" and setting.file in _NOT_EMPTIED:
        return True
    return text is not None and (
        restoring.undoing(setting.file, setting.value, text) == setting.value
    )


def _read(directory: str, file: str) -> str | None:
    try:
        return read_raw(f"{directory}/{file}")
    except OSError:
        # It is not there, or it can only be written (cgroup.kill): nothing to bring back.
        return None


def _write(setting: Setting, directory: str) -> None:
    try:
        write(f"{directory}/{setting.file}", setting.value, what=setting.what, field=setting.field)
    except CgroupError as error:
        # Creating a missing file in cgroupfs is refused with EACCES, opening it says ENOENT.
        missing = error.errno == errno.ENOENT
        if missing and setting.fallback is not None:
            file, value = setting.fallback
            write(f"{directory}/{file}", value, what=setting.what, field=setting.field)
        elif missing and setting.optional:
            return
        elif error.errno == errno.EBUSY and setting.controller == "memory":
            raise _below_usage(error, directory) from error
        else:
            raise


def _below_usage(error: CgroupError, directory: str) -> CgroupError:
    usage = read_optional(directory + "/memory.usage_in_bytes")
    peak = read_optional(directory + "/memory.max_usage_in_bytes")
    return CgroupError(
        f"{error.message} (current usage: {usage}, peak usage: {peak})",
        op=error.op,
        path=error.path,
        errno=error.errno,
    )


def check_memory(memory: LinuxMemory | None, directory: str) -> None:
    """``checkBeforeUpdate`` on v2: refuse a limit that would call the OOM killer at once."""
    if memory is None or not memory.check_before_update:
        return
    usage = number(read_optional(directory + "/memory.current"))
    if usage is None:
        return
    for name, limit in (("swap", memory.swap or 0), ("limit", memory.limit or 0)):
        if 0 < limit <= usage:
            raise CgroupError(
                f"$.linux.resources.memory.{name}: {limit} is not above the current usage {usage}",
                op="apply",
                path=directory + "/memory.current",
                errno=errno.EBUSY,
            )
