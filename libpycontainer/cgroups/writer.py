"""Writing settings to a group's files, in an order that the kernel takes."""

from __future__ import annotations

import errno

from libpycontainer.cgroups.files import number, read_optional, write
from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from libpycontainer.cgroups.settings import Setting
    from libpycontainer.spec.models import LinuxMemory


def write_settings(settings: Sequence[Setting], directory_of: Callable[[Setting], str]) -> None:
    """Write every setting; ``directory_of`` finds its group or raises CgroupError.

    The kernel checks some files against each other (memory against memory plus swap, quota
    against period and burst, and all of them against the parent), so the right order depends on
    the values that are there. What is refused as invalid is tried again after the others, until
    all is written or nothing moves any more.
    """
    waiting = [(setting, directory_of(setting)) for setting in settings]
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
