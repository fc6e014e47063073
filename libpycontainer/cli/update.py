"""``update``: change a container's limits."""

from __future__ import annotations

import os

from libpycontainer.cli.command import Command, CommandError, Invocation
from libpycontainer.cli.options import Flag
from libpycontainer.errors import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libpycontainer.cli.options import Options

_BITS = 64
# Flag: section, field, and what the value is.
_FIELDS = {
    "cpu-period": ("cpu", "period", "uint"),
    "cpu-quota": ("cpu", "quota", "int"),
    "cpu-burst": ("cpu", "burst", "uint"),
    "cpu-share": ("cpu", "shares", "uint"),
    "cpu-rt-period": ("cpu", "realtimePeriod", "uint"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", "int"),
    "cpuset-cpus": ("cpu", "cpus", "text"),
    "cpuset-mems": ("cpu", "mems", "text"),
    "cpu-idle": ("cpu", "idle", "int"),
    "memory": ("memory", "limit", "size"),
    "memory-reservation": ("memory", "reservation", "size"),
    "memory-swap": ("memory", "swap", "size"),
}
_OBSOLETE = ("kernel-memory", "kernel-memory-tcp")


def action(invocation: Invocation) -> int:
    container = invocation.container()
    options = invocation.options
    source = options.text("resources")
    resources = _read(source) if source else _from_flags(invocation)
    schemata = {
        field: options.text(flag)
        for flag, field in (("l3-cache-schema", "l3CacheSchema"), ("mem-bw-schema", "memBwSchema"))
        if options.text(flag)
    }
    container.update(resources, intel_rdt=schemata or None)
    return 0


def _read(source: str) -> dict[str, Any]:
    """The document in a file, or on standard input."""
    from libpycontainer.spec import document

    if source == "-":
        value, path = document.parse(_standard_input(), "standard input"), ""
    else:
        value, path = document.read(os.path.abspath(source))
    if not isinstance(value, dict):
        raise CommandError(f"{path or 'standard input'}: $: invalid value, expected an object")
    return value


def _standard_input() -> bytes:
    parts = []
    while part := os.read(0, 65536):
        parts.append(part)
    return b"".join(parts)


def _from_flags(invocation: Invocation) -> dict[str, Any]:
    options = invocation.options
    resources: dict[str, Any] = {}
    for flag, (section, field, kind) in _FIELDS.items():
        if options.text(flag):
            resources.setdefault(section, {})[field] = _value(options, flag, kind)
    if options.number("blkio-weight"):
        resources["blockIO"] = {"weight": options.number("blkio-weight")}
    if options.number("pids-limit"):
        resources["pids"] = {"limit": options.number("pids-limit")}
    for flag in _OBSOLETE:
        if options.text(flag):
            invocation.log.warning(f"Setting --{flag} is ignored and will be removed")
    return resources


def _value(options: Options, flag: str, kind: str) -> str | int:
    text = options.text(flag)
    if kind == "text":
        return text
    if kind == "size":
        return -1 if text == "-1" else _size(flag, text)
    digits = text.removeprefix("-").removeprefix("+") if kind == "int" else text
    if not (digits.isascii() and digits.isdigit()):
        raise CommandError(f"invalid value for {flag}: {text!r} is not a whole number")
    number = int(text)
    if not -(1 << (_BITS - 1)) <= number < 1 << (_BITS - (kind == "int")):
        raise CommandError(f"invalid value for {flag}: {text} is out of range")
    return number


def _size(flag: str, text: str) -> int:
    from libpycontainer.quantities import size as parse

    try:
        size = parse(text)
    except ContainerError:
        size = -1
    if size < 0:
        raise CommandError(f"invalid value for {flag}: invalid size: {text!r}")
    return size


COMMAND = Command(
    "update",
    action,
    usage="update container resource constraints",
    arguments="<container-id>",
    description="""The limits that are named are changed, all of them or, when one is refused, none.
What is not named, or is 0, stays as it is.""",
    flags=(
        Flag(
            "resources",
            """path to the file containing the resources to update or '-' to read from the \
standard input

The file holds what "linux.resources" of a configuration may hold, as in:

{
  "memory": {
    "limit": 0,
    "reservation": 0,
    "swap": 0,
    "checkBeforeUpdate": true
  },
  "cpu": {
    "shares": 0,
    "quota": 0,
    "burst": 0,
    "period": 0,
    "realtimeRuntime": 0,
    "realtimePeriod": 0,
    "cpus": "",
    "mems": "",
    "idle": 0
  },
  "blockIO": {
    "weight": 0
  }
}

Note: if data is to be read from a file or the standard input, the other options
for cgroups are ignored.
""",
            short="r",
        ),
        Flag(
            "blkio-weight",
            "Specifies per cgroup weight, range is from 10 to 1000",
            kind="int",
        ),
        Flag(
            "cpu-period",
            "CPU CFS period to be used for hardcapping (in usecs). 0 to leave it",
        ),
        Flag("cpu-quota", "CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period"),
        Flag(
            "cpu-burst",
            "CPU CFS hardcap burst limit (in usecs). Allowed accumulated cpu time additionally"
            " for burst in a given period",
        ),
        Flag("cpu-share", "CPU shares (relative weight vs. other containers)"),
        Flag(
            "cpu-rt-period",
            "CPU realtime period to be used for hardcapping (in usecs). 0 to leave it",
        ),
        Flag(
            "cpu-rt-runtime",
            "CPU realtime hardcap limit (in usecs). Allowed cpu time in a given period",
        ),
        Flag("cpuset-cpus", "CPU(s) to use"),
        Flag("cpuset-mems", "Memory node(s) to use"),
        Flag("kernel-memory", "(obsoleted; do not use)", hidden=True),
        Flag("kernel-memory-tcp", "(obsoleted; do not use)", hidden=True),
        Flag("memory", "Memory limit (in bytes, or with a unit as in 64M)"),
        Flag("cpu-idle", "set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE"),
        Flag("memory-reservation", "Memory reservation or soft_limit (in bytes)"),
        Flag(
            "memory-swap",
            "Total memory usage (memory + swap); set '-1' to enable unlimited swap",
        ),
        Flag("pids-limit", "Maximum number of pids allowed in the container", kind="int"),
        Flag("l3-cache-schema", "The string of Intel RDT/CAT L3 cache schema"),
        Flag("mem-bw-schema", "The string of Intel RDT/MBA memory bandwidth schema"),
    ),
    least=1,
    most=1,
)
