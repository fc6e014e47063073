"""The words of a profile as numbers of seccomp.h and linux/seccomp.h."""

from __future__ import annotations

from libpycontainer import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

EPERM, ENOSYS = 1, 38

ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}

PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
"""Default actions that leave a new system call to the kernel, or to a tracer who may know it."""

WITH_NUMBER = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
"""The actions that an errnoRet belongs to."""

OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}

FLAGS = {
    # For the other threads of a process: init has none when it loads its filter.
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_LOG": kernel.SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": kernel.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": kernel.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}


def action(name: str, number: int | None) -> int:
    """An action as the kernel's return value; its number is EPERM unless it is given."""
    value = ACTIONS[name]
    if name in WITH_NUMBER:
        value |= EPERM if number is None else number
    return value


def notifies(section: Mapping[str, Any]) -> bool:
    """Does a rule of this profile ask an agent?"""
    return any(rule["action"] == "SCMP_ACT_NOTIFY" for rule in section.get("syscalls") or ())


def filter_flags(section: Mapping[str, Any]) -> int:
    """What seccomp(2) is told: the profile's flags, and whether there is to be a listener."""
    flags = 0
    for name in section.get("flags") or ():
        flags |= FLAGS[name]
    if notifies(section):
        return flags | kernel.SECCOMP_FILTER_FLAG_NEW_LISTENER
    # It is about a listener's answers; the kernel refuses it where there is none.
    return flags & ~kernel.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
