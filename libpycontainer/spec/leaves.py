"""What a single value of an OCI document may be: the one rule book of both readers.

A leaf kind is a name: the typed models carry it in ``Annotated[int, "uint32"]``, the compiled table
carries it as text. A check takes the value as JSON gave it and answers ``None``, or what is wrong.
Nothing here imports anything: a cold command line pays for this module.

Source: the runtime-spec's ``schema/defs*.json``. It is left in two places, because documents that
every runtime accepts leave it too: ``rootfsPropagation`` may be recursive (``rslave``, which docker
and podman write), and a device's ``fileMode`` is a uint32 as config-linux.md says (docker leaves
the file type in it). A state may be ``paused``, which runtime.md leaves to the runtime.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[object], str | None]

INTEGERS = {
    "uint8": (0, 2**8 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "non-negative int": (0, 2**63 - 1),
    "positive int": (1, 2**63 - 1),
}
"""Lowest and highest value of each kind of number."""

CHOICES = {
    "freebsd sharing": ("disable", "new", "inherit"),
    "freebsd sharing, not disabled": ("new", "inherit"),
    "io priority class": ("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"),
    "memory policy flag": (
        "MPOL_F_NUMA_BALANCING",
        "MPOL_F_RELATIVE_NODES",
        "MPOL_F_STATIC_NODES",
    ),
    "memory policy mode": (
        "MPOL_DEFAULT",
        "MPOL_BIND",
        "MPOL_INTERLEAVE",
        "MPOL_WEIGHTED_INTERLEAVE",
        "MPOL_PREFERRED",
        "MPOL_PREFERRED_MANY",
        "MPOL_LOCAL",
    ),
    "namespace type": ("mount", "pid", "network", "uts", "ipc", "user", "cgroup", "time"),
    "personality domain": ("LINUX", "LINUX32"),
    "rootfs propagation": (
        "private",
        "shared",
        "slave",
        "unbindable",
        "rprivate",
        "rshared",
        "rslave",
        "runbindable",
    ),
    "scheduler flag": (
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_RECLAIM",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS",
        "SCHED_FLAG_UTIL_CLAMP_MIN",
        "SCHED_FLAG_UTIL_CLAMP_MAX",
    ),
    "scheduler policy": (
        "SCHED_OTHER",
        "SCHED_FIFO",
        "SCHED_RR",
        "SCHED_BATCH",
        "SCHED_ISO",
        "SCHED_IDLE",
        "SCHED_DEADLINE",
    ),
    "seccomp action": (
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_LOG",
        "SCMP_ACT_NOTIFY",
    ),
    "seccomp architecture": (
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_ARM",
        "SCMP_ARCH_AARCH64",
        "SCMP_ARCH_LOONGARCH64",
        "SCMP_ARCH_M68K",
        "SCMP_ARCH_MIPS",
        "SCMP_ARCH_MIPS64",
        "SCMP_ARCH_MIPS64N32",
        "SCMP_ARCH_MIPSEL",
        "SCMP_ARCH_MIPSEL64",
        "SCMP_ARCH_MIPSEL64N32",
        "SCMP_ARCH_PPC",
        "SCMP_ARCH_PPC64",
        "SCMP_ARCH_PPC64LE",
        "SCMP_ARCH_S390",
        "SCMP_ARCH_S390X",
        "SCMP_ARCH_SH",
        "SCMP_ARCH_SHEB",
        "SCMP_ARCH_PARISC",
        "SCMP_ARCH_PARISC64",
        "SCMP_ARCH_RISCV64",
    ),
    "seccomp flag": (
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ),
    "seccomp operator": (
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
    ),
    "status": ("creating", "created", "running", "stopped", "paused"),
    "vm image format": ("raw", "qcow2", "vdi", "vmdk", "vhd"),
    "windows device id type": ("class",),
    "zos namespace type": ("mount", "pid", "uts", "ipc"),
}
"""The closed sets. Values stay plain strings."""

UPPER = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
DIGITS = frozenset("0123456789")


def _capability(text: str) -> bool:
    return text[:4] == "CAP_" and len(text) > 4 and UPPER.union("_").issuperset(text[4:])


def _cpu_list(text: str) -> bool:
    return DIGITS.union(", -").issuperset(text)


def _device_type(text: str) -> bool:
    return text in ("c", "b", "u", "p")


def _bandwidth_schema(text: str) -> bool:
    return text[:3] == "MB:" and "\n" not in text


def _page_size(text: str) -> bool:
    digits = text[:-2]
    if text[-2:] not in ("KB", "MB", "GB") or not digits or digits[0] == "0":
        return False
    return DIGITS.issuperset(digits)


def _rlimit(text: str) -> bool:
    return text[:7] == "RLIMIT_" and len(text) > 7 and UPPER.issuperset(text[7:])


PATTERNS: dict[str, tuple[Callable[[str], bool], str]] = {
    "capability": (_capability, "a capability such as CAP_KILL"),
    "cpu list": (_cpu_list, "a list of CPUs such as 0-3,7"),
    "device type": (_device_type, "one of c, b, u, p"),
    "memory bandwidth schema": (_bandwidth_schema, "one line that begins with MB:"),
    "page size": (_page_size, "a page size such as 64KB, 2MB, 1GB"),
    "rlimit": (_rlimit, "a resource limit such as RLIMIT_NOFILE"),
}
"""Texts that the schema describes by a regular expression: the test, and words for a person."""

MISSING = "required field missing"
NOT_AN_OBJECT = "invalid value, expected object"
NOT_AN_ARRAY = "invalid value, expected array"
NOT_A_NAME = "invalid name of a field, expected string"
EMPTY = "invalid value, expected at least one item"


def shown(value: object) -> str:
    """``value`` for use inside a message: never longer than a line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:56] + " ..."


def child(path: str, name: object) -> str:
    """The JSON path of field ``name`` of the object at ``path``."""
    text = str(name)
    if text and text.replace("_", "a").replace("-", "a").isalnum():
        return f"{path}.{text}"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'{path}["{escaped}"]'


def _string(value: object) -> str | None:
    return None if isinstance(value, str) else "invalid value, expected string"


def _bool(value: object) -> str | None:
    return None if value is True or value is False else "invalid value, expected bool"


def _object(value: object) -> str | None:
    return None if isinstance(value, dict) else NOT_AN_OBJECT


def _integer(name: str, low: int, high: int) -> Check:
    def check(value: object) -> str | None:
        # JSON's true is not a number, though Python's is.
        if not isinstance(value, int) or value is True or value is False:
            return "invalid value, expected int"
        if low <= value <= high:
            return None
        return f"invalid value {shown(value)}, expected {name} ({low} to {high})"

    return check


def _choice(values: tuple[str, ...]) -> Check:
    allowed = frozenset(values)

    def check(value: object) -> str | None:
        if not isinstance(value, str):
            return "invalid value, expected string"
        if value in allowed:
            return None
        return f"invalid value {shown(value)}, expected one of {', '.join(values)}"

    return check


def _pattern(matches: Callable[[str], bool], words: str) -> Check:
    def check(value: object) -> str | None:
        if not isinstance(value, str):
            return "invalid value, expected string"
        return None if matches(value) else f"invalid value {shown(value)}, expected {words}"

    return check


_checks: dict[str, Check] = {"string": _string, "bool": _bool, "object": _object}


def check(kind: str) -> Check:
    """The check for values of ``kind``; ``KeyError`` if there is no such kind."""
    found = _checks.get(kind)
    if found is None:
        if kind in INTEGERS:
            found = _integer(kind, *INTEGERS[kind])
        elif kind in CHOICES:
            found = _choice(CHOICES[kind])
        else:
            found = _pattern(*PATTERNS[kind])
        _checks[kind] = found
    return found
