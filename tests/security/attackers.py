"""Functions that are called in a container and mean harm to whoever calls them."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import time
from typing import Any

LINE = 3


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.open, (self.path, os.O_CREAT | os.O_WRONLY)


def frame(kind: bytes, payload: bytes, size: int | None = None) -> bytes:
    return kind + (len(payload) if size is None else size).to_bytes(8, "little") + payload


def say(data: bytes, then_sleep: float = 0) -> None:
    """Write to the line, and end without an answer of one's own."""
    view = memoryview(data)
    while view:
        view = view[os.write(LINE, view) :]
    time.sleep(then_sleep)
    os._exit(0)


def say_for_ever(head: bytes, piece: bytes) -> None:
    os.write(LINE, head)
    while True:
        os.write(LINE, piece)


def speak_for_ever(stream: int) -> None:
    while True:
        os.write(stream, b"x" * 65536)


def drip() -> None:
    """An answer that never comes to its end, one byte at a time."""
    os.write(LINE, frame(b"v", b"", 1 << 20))
    while True:
        os.write(LINE, b"N")
        time.sleep(0.01)


def hold_the_line(seconds: float) -> None:
    """A child keeps the line, in a session of its own, when this process is gone."""
    if os.fork() == 0:
        os.setsid()
        time.sleep(seconds)
        os._exit(0)
    os._exit(9)


def answer_by_a_child() -> None:
    if os.fork() == 0:
        time.sleep(0.2)
        os.write(LINE, frame(b"v", b"s\x05child"))
        time.sleep(1000)
    signal.pause()


def kill_everybody() -> str:
    """Whoever has a number here: the parent, the group, all that there are."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tried = []
    for pid in (os.getppid(), -1, *range(2, 400)):
        if pid not in (0, os.getpid()):
            try:
                os.kill(pid, signal.SIGTERM)
            except OSError as error:
                tried.append(type(error).__name__)
    return ",".join(sorted(set(tried)))


def close_everything() -> None:
    os.closerange(0, 1000)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1000)


def send_descriptors(count: int) -> str:
    """Descriptors along with the answer, to use up the caller's."""
    with socket.socket(fileno=os.dup(LINE)) as line:
        for _ in range(count):
            socket.send_fds(line, [frame(b"v", b"N")], [0] * 100)
    return "sent"


def tamper(path: str) -> str:
    """Have the interpreter's own code answer with a pickle."""
    codec: Any = sys.modules["libpycontainer.calling.codec"]
    inside: Any = sys.modules["libpycontainer.calling.inside"]
    codec.dumps = lambda *_args, **_more: pickle.dumps(Bomb(path))
    inside.VALUE = b"p"
    return "x"


def tamper_with_the_description(name: str, args: Any) -> None:
    codec: Any = sys.modules["libpycontainer.calling.codec"]
    honest = codec.dumps
    codec.dumps = lambda *_args, **_more: honest((name, "words", "text\x1b[2J", args, None))
    raise ValueError


def answer_for_the_next() -> str:
    """This task's answer, and one for a task that nobody has asked for yet."""
    os.write(LINE, frame(b"v", b"s\x04mine") + frame(b"v", b"s\x06forged"))
    signal.pause()
    return ""


def rubbish_for_the_next() -> str:
    """This task's answer, and what could not be anybody's."""
    os.write(LINE, frame(b"v", b"s\x04mine") + b"rubbish" * 10)
    signal.pause()
    return ""


def write_the_interpreter() -> dict[str, str]:
    """CVE-2019-5736 by a function: what runs it, and whatever it has mapped."""
    found = {}
    for path in ("/proc/self/exe", "/proc/1/exe", *mapped()):
        for flags, name in ((os.O_WRONLY, "write"), (os.O_RDWR | os.O_TRUNC, "truncate")):
            try:
                os.close(os.open(path, flags))
                found[f"{name} {path}"] = "opened"
            except OSError as error:
                found[f"{name} {path}"] = type(error).__name__
    return found


def mapped() -> list[str]:
    with open("/proc/self/maps", encoding="utf-8") as file:
        ranges = [line.split()[0] for line in file if line.rstrip().endswith((".so", "python3.11"))]
    return [f"/proc/self/map_files/{each}" for each in ranges]


def look_for(secrets: list[str]) -> list[str]:
    """Names that /proc tells of this process and of others, and of the host's directories."""
    told = []
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        for file in ("environ", "cmdline", "mountinfo"):
            try:
                with open(f"/proc/{pid}/{file}", "rb") as stream:
                    told.append(stream.read().decode(errors="replace"))
            except OSError:
                continue
    return [each for each in secrets if any(each in text for text in told)]


def reach_out() -> dict[str, str]:
    """Everything that a descriptor or a working directory of the host's would give."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            os.listdir(f"/proc/self/fd/{name}/..")
            found[f"fd {name}"] = "a directory"
        except OSError:
            continue
    for path in ("/proc/1/root/../../..", "/proc/self/cwd/../../../../.."):
        found[path] = ",".join(sorted(os.listdir(path)))
    return found


def fail_with_a_path(_: object = None) -> None:
    raise LookupError("tell of it")


def unshare_mounts() -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).unshare(0x20000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def gain() -> dict[str, str]:
    """What root without privileges may try."""
    tried = {}
    for name, attempt in (
        ("groups", lambda: os.setgroups([0, 1])),
        ("mount namespace", unshare_mounts),
        ("chroot", lambda: os.chroot("/proc/1/root")),
        ("mknod", lambda: os.mknod("/tmp/d", 0o20600, os.makedev(1, 1))),
        ("host name", lambda: socket.sethostname("x")),
        ("nice", lambda: os.nice(-5)),
    ):
        try:
            attempt()
            tried[name] = "done"
        except OSError as error:
            tried[name] = type(error).__name__
    return tried
