"""Installing device rules: the eBPF program on a v2 group, the exceptions on a v1 one."""

from __future__ import annotations

import errno
import os
import struct

from libpycontainer.cgroups import devices
from libpycontainer.cgroups.files import read, symbol, write_each
from libpycontainer.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# linux/bpf.h
_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_PROG_TYPE_CGROUP_DEVICE = 15
_CGROUP_DEVICE = 6
_F_ALLOW_MULTI, _F_REPLACE = 2, 4
_MOST_PROGRAMS = 64  # BPF_CGROUP_MAX_PROGS
_NAME = b"lpc_devices"
_LICENSE = b"Apache-2.0\0"
_NO_BPF = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS)


def install_v1(directory: str, rules: Sequence[devices.Rule]) -> None:
    """Bring the group's exceptions to what the rules say, and check that the kernel agrees."""
    wanted = devices.exceptions(rules)
    now = devices.parse_list(read(directory + "/devices.list"))
    for file, values in devices.transition(now, wanted):
        write_each(
            f"{directory}/{file}", values, what="device rule", field="$.linux.resources.devices"
        )
    result = devices.parse_list(read(directory + "/devices.list"))
    # Beyond a default of allow, the kernel does not tell what it excepts.
    if result.allow_by_default != wanted.allow_by_default or (
        not wanted.allow_by_default and result != wanted
    ):
        raise CgroupError(
            f"$.linux.resources.devices: {directory}/devices.list does not say what was asked for",
            op="apply",
            path=directory + "/devices.list",
        )


def install_v2(directory: str, rules: Sequence[devices.Rule]) -> None:
    """Attach the rules' program to the group, in the place of the one that is there.

    The kernel keeps it until the group is removed; it needs no process of ours. With exactly one
    program there before, the change is atomic; with several, the new one is in force before the
    others go.
    """
    try:
        group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _replace(group, devices.program(rules))
        finally:
            os.close(group)
    except OSError as error:
        number = error.errno or 0
        if number in _NO_BPF and devices.allow_everything(rules):
            # A privileged container where bpf(2) is denied: the filter would filter nothing.
            return
        raise CgroupError(
            f"$.linux.resources.devices: cannot install the device filter on {directory}:"
            f" {symbol(number)}",
            op="bpf",
            path=directory,
            errno=number,
        ) from error


def _replace(group: int, code: bytes) -> None:
    program = _load(code)
    before: list[int] = []
    try:
        before = [_open(identity) for identity in _attached(group)]
        if len(before) == 1:
            _attach(group, program, _F_ALLOW_MULTI | _F_REPLACE, before[0])
            return
        _attach(group, program, _F_ALLOW_MULTI)
        for old in before:
            _bpf(_PROG_DETACH, struct.pack("<III", group, old, _CGROUP_DEVICE))
    finally:
        for fd in (program, *before):
            os.close(fd)


def _load(code: bytes) -> int:
    from libpycontainer.syscalls import address_of

    instructions, keep_code = address_of(code)
    license_text, keep_license = address_of(_LICENSE)
    count = len(code) // 8
    head = struct.pack("<IIQQ", _PROG_TYPE_CGROUP_DEVICE, count, instructions, license_text)
    # log_level, log_size, log_buf, kern_version, prog_flags: none.
    fd = _bpf(_PROG_LOAD, head + bytes(24) + _NAME.ljust(16, b"\0"))
    del keep_code, keep_license
    return fd


def _attached(group: int) -> tuple[int, ...]:
    """The ids of the device programs attached to the group itself."""
    from libpycontainer.syscalls import address_of

    identities = bytearray(4 * _MOST_PROGRAMS)
    address, keep = address_of(identities)
    query = struct.pack("<IIIIQII", group, _CGROUP_DEVICE, 0, 0, address, _MOST_PROGRAMS, 0)
    attr = bytearray(query)
    _bpf(_PROG_QUERY, attr)
    (count,) = struct.unpack_from("<I", attr, 24)
    del keep
    return struct.unpack_from(f"<{count}I", identities)


def _open(identity: int) -> int:
    return _bpf(_PROG_GET_FD_BY_ID, struct.pack("<III", identity, 0, 0))


def _attach(group: int, program: int, flags: int, replaced: int = 0) -> None:
    _bpf(_PROG_ATTACH, struct.pack("<IIIII", group, program, _CGROUP_DEVICE, flags, replaced))


def _bpf(command: int, attr: bytes | bytearray) -> int:
    from libpycontainer.syscalls import bpf

    return bpf(command, attr if isinstance(attr, bytearray) else bytearray(attr))
