"""PURE: the settings of a group as properties of its unit, as far as systemd knows them.

systemd writes the files of a unit anew whenever one of its properties changes, and after a
daemon-reload, so whatever it knows must be told to it, from whichever field it comes. What it does
not know is left to the files alone. Its numbers are coarser in places (a CPU quota is a whole
percentage); the exact ones are written to the files afterwards.
Sources: man 5 systemd.resource-control, org.freedesktop.systemd1; runc's docs/systemd.md.
"""

from __future__ import annotations

from libpycontainer.cgroups import devices
from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from libpycontainer.cgroups.settings import Setting
    from libpycontainer.spec.models import LinuxResources

    # A name, and what D-Bus calls a variant: a signature and a value.
    Property = tuple[str, tuple[str, Any]]

INFINITY = (1 << 64) - 1
"""No limit; for a weight, none that was set."""

_DEFAULT_PERIOD = 100_000
_SECOND = 1_000_000
_PERCENT = 10_000  # microseconds of a second
# The versions of systemd from which on a property exists.
_PERIOD_SINCE, _CPUSET_SINCE, _IDLE_SINCE, _OOM_POLICY_SINCE, _ZSWAP_SINCE = 242, 244, 252, 253, 253

_AMOUNTS = {
    "memory.max": "MemoryMax",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "memory.zswap.max": "MemoryZSwapMax",
    "pids.max": "TasksMax",
    # cgroup v1
    "memory.limit_in_bytes": "MemoryLimit",
    "cpu.shares": "CPUShares",
    "blkio.weight": "BlockIOWeight",
}
_SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}
_RATES = {
    "rbps": "IOReadBandwidthMax",
    "wbps": "IOWriteBandwidthMax",
    "riops": "IOReadIOPSMax",
    "wiops": "IOWriteIOPSMax",
}
LISTS = frozenset((*_RATES.values(), "IODeviceWeight", "DeviceAllow"))
"""Properties that are added to when they are set; an empty list empties them."""


def resources(settings: Iterable[Setting], version: int, *, bfq: bool = False) -> list[Property]:
    """What systemd of this ``version`` is told of ``settings``; of two for one file the last.

    ``bfq`` says that the group has io.bfq.weight, so that this is the file that IOWeight must come
    out right in.
    """
    files: dict[str, list[str]] = {}
    for setting in settings:
        file, value = setting.file, setting.value
        if file == "io.bfq.weight" and not bfq and setting.fallback is not None:
            file, value = setting.fallback
        files.setdefault(file, []).append(value.strip())
    found: list[Property] = []
    for file, name in _AMOUNTS.items():
        amount = _amount(files[file][-1]) if file in files else None
        if amount is not None and (name != "MemoryZSwapMax" or version >= _ZSWAP_SINCE):
            found.append((name, ("t", amount)))
    found += _cpu(files, version)
    if version >= _CPUSET_SINCE:
        for file, name in _SETS.items():
            mask = _bit_mask(files[file][-1]) if file in files else None
            if mask is not None:
                found.append((name, ("ay", mask)))
    return found + _io(files)


def at_start(settings: Iterable[Setting], version: int) -> list[Property]:
    """What can only be said when the unit is made."""
    for setting in settings:
        if setting.file == "memory.oom.group" and version >= _OOM_POLICY_SINCE:
            policy = {"0": "continue", "1": "kill"}.get(setting.value.strip())
            return [("OOMPolicy", ("s", policy))] if policy else []
    return []


def accounting(mode: str) -> list[Property]:
    """Everything is counted from the start: processes that are there already are not counted in."""
    block = "IO" if mode == "v2" else "BlockIO"
    return [(f"{kind}Accounting", ("b", True)) for kind in ("CPU", "Memory", block, "Tasks")]


def device_rules(configured: LinuxResources | None) -> list[Property]:
    """The device rules, as far as systemd can say them: what it allows must not be less.

    Both its program and this library's are in force, and only what both allow is allowed. systemd
    knows lists of what is allowed; holes in them, and lists of what is denied, it does not.
    """
    rules = devices.rules(configured.devices if configured is not None else None)
    try:
        state = devices.exceptions(rules)
    except CgroupError:
        # On v2 an order of rules that v1 could not express.
        return _every_device()
    if state.allow_by_default:
        return _every_device()
    # Of two entries of one name the second would count.
    allowed: dict[str, int] = {}
    for node, access in state.nodes.items():
        name = _device_name(node)
        allowed[name] = allowed.get(name, 0) | access
    entries = [
        (name, "".join(letter for letter, bit in _ACCESS if access & bit))
        for name, access in allowed.items()
    ]
    return [
        ("DevicePolicy", ("s", "strict")),
        ("DeviceAllow", ("a(ss)", [])),
        ("DeviceAllow", ("a(ss)", entries)),
    ]


_ACCESS = (("r", devices.READ), ("w", devices.WRITE), ("m", devices.MKNOD))


def _every_device() -> list[Property]:
    return [("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", []))]


def _device_name(node: devices.Node) -> str:
    kind, major, minor = node
    word = "char" if kind == "c" else "block"
    if major is None:
        # Also one minor of every major, which systemd has no word for.
        return f"{word}-*"
    return f"{word}-{major}" if minor is None else f"/dev/{word}/{major}:{minor}"


def restoring(names: Iterable[str], now: Mapping[str, tuple[str, Any]]) -> list[Property]:
    """Properties that bring back what the unit says ``now``."""
    found: list[Property] = []
    for name in dict.fromkeys(names):
        if name not in now:
            continue
        signature, value = now[name]
        if name in LISTS:
            found.append((name, (signature, [])))
        if name not in LISTS or value:
            found.append((name, (signature, value)))
    return found


def version_number(text: str) -> int:
    """252 for ``252.38-1~deb12u1`` or ``v252``; 0 for what has no number."""
    digits = ""
    for char in text.lstrip("v"):
        if not char.isdigit():
            break
        digits += char
    return int(digits or 0)


def _cpu(files: Mapping[str, Sequence[str]], version: int) -> list[Property]:
    found: list[Property] = []
    idle = files["cpu.idle"][-1] if "cpu.idle" in files and version >= _IDLE_SINCE else None
    weight = _amount(files["cpu.weight"][-1]) if "cpu.weight" in files else None
    if idle == "1":
        weight = 0
    elif idle == "0" and weight is None:
        weight = INFINITY
    if weight is not None:
        found.append(("CPUWeight", ("t", weight)))
    quota, period = _bandwidth(files)
    if period is not None and version >= _PERIOD_SINCE:
        found.append(("CPUQuotaPeriodUSec", ("t", period)))
    if quota is not None:
        share = INFINITY
        if quota > 0:
            # Rounded up, so that groups inside may be given what the exact number allows.
            share = -(-quota * _SECOND // (period or _DEFAULT_PERIOD) // _PERCENT) * _PERCENT
        found.append(("CPUQuotaPerSecUSec", ("t", share)))
    return found


def _bandwidth(files: Mapping[str, Sequence[str]]) -> tuple[int | None, int | None]:
    """Quota and period in microseconds; a quota of -1 is none, ``None`` is not mentioned."""
    if "cpu.max" in files:
        words = files["cpu.max"][-1].split()
        numbers = [-1 if word == "max" else _integer(word) for word in words]
        if not 1 <= len(words) <= 2 or None in numbers or 0 in numbers:
            return None, None
        return numbers[0], numbers[1] if len(numbers) == 2 else None
    quota = _integer(files["cpu.cfs_quota_us"][-1]) if "cpu.cfs_quota_us" in files else None
    period = _integer(files["cpu.cfs_period_us"][-1]) if "cpu.cfs_period_us" in files else None
    return quota, period


def _io(files: Mapping[str, Sequence[str]]) -> list[Property]:
    found: list[Property] = []
    by_device: dict[str, int] = {}
    for file in ("io.weight", "io.bfq.weight"):
        for line in files.get(file, ()):
            device, _, text = line.rpartition(" ")
            number = _integer(text)
            if number is None:
                continue
            weight = _io_weight(number) if file == "io.bfq.weight" else number
            if device in ("", "default"):
                found = [("IOWeight", ("t", weight))]
            else:
                by_device[_block(device)] = weight
    if by_device:
        found.append(("IODeviceWeight", ("a(st)", list(by_device.items()))))
    rates: dict[str, dict[str, int]] = {}
    for line in files.get("io.max", ()):
        device, *words = line.split()
        for key, _, text in (word.partition("=") for word in words):
            number = _amount(text)
            if key in _RATES and number is not None:
                rates.setdefault(_RATES[key], {})[_block(device)] = number
    return found + [(name, ("a(st)", list(each.items()))) for name, each in rates.items()]


def _block(device: str) -> str:
    return f"/dev/block/{device}"


def _io_weight(bfq: int) -> int:
    """io.weight [1..10000] of io.bfq.weight [1..1000], so that systemd gets the latter from it.

    systemd stretches both sides of the default, which is 100 in either.
    """
    if bfq <= 100:
        return bfq
    return 100 + (bfq - 100) * 9900 // 900


def _amount(text: str) -> int | None:
    """``max``, and v1's -1, are no limit."""
    if text in ("max", "-1"):
        return INFINITY
    return _integer(text)


def _integer(text: str) -> int | None:
    return int(text) if text.lstrip("-").isdigit() else None


def _bit_mask(text: str) -> bytes | None:
    """``0-2,7`` as the bytes that systemd takes: bit n of them is CPU, or node, n."""
    bits = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        low, high = _integer(first), _integer(last if dash else first)
        if low is None or high is None or not 0 <= low <= high < 1 << 16:
            # Nothing that the kernel would take; it says why when the file is written.
            return None
        bits |= (1 << high + 1) - (1 << low)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
