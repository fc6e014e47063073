"""PURE: what to write to a control file so that it says again what it says now.

Most files are written as they read. The others list devices, of which one write changes one, or
tell more than they take.
"""

from __future__ import annotations

_EVERY_RATE = "rbps=max wbps=max riops=max wiops=max"
_WEIGHTS = ("blkio.bfq.weight", "blkio.weight", "io.bfq.weight", "io.weight")


def undoing(file: str, written: str, text: str) -> str | None:
    """The value that undoes writing ``written`` to ``file``, which reads ``text`` beforehand.

    ``None`` where nothing can (a file that was never told anything of that device).
    """
    if file == "memory.oom_control":
        # "oom_kill_disable 0", and lines that are for reading only.
        return text.partition("\n")[0].partition(" ")[2]
    device = _device_of(written)
    if file == "io.max" and device:
        return _line_of(device, text) or f"{device} {_EVERY_RATE}"
    if file in _WEIGHTS or file == "io.latency":
        if device:
            return _line_of(device, text) or f"{device} default"
        return text.partition("\n")[0]
    if file.startswith("blkio.") and device:
        return _line_of(device, text) or f"{device} 0"
    if "\n" in text or file == "rdma.max":
        return _line_of(written.split(" ", 1)[0], text)
    # Nothing at all would not reach the kernel: an empty line empties the file.
    return text or "\n"


def implied(file: str, text: str) -> tuple[str, ...]:
    """The files that a change of ``file`` from ``text`` changes as well.

    To make a group idle, or busy again, sets its weight; that of an idle group is fixed.
    """
    if file == "cpu.idle" and text == "0":
        return ("cpu.shares", "cpu.weight")
    return ()


def _device_of(written: str) -> str:
    """``8:0`` of ``8:0 rbps=1``, empty where no device is named."""
    first, space, _ = written.partition(" ")
    major, _, minor = first.partition(":")
    return first if space and major.isdigit() and minor.isdigit() else ""


def _line_of(key: str, text: str) -> str | None:
    for line in text.splitlines():
        if line.partition(" ")[0] == key:
            return line
    return None
