"""What attackers need, and how to look whether anything changed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libpycontainer as lc
from tests.privileged.support import TIMEOUT, read_inside

if TYPE_CHECKING:
    from tests.conftest import Bundle

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
EVERY_SET = ("bounding", "effective", "permitted", "inheritable", "ambient")


def text_or_refusal(factory: lc.Factory, one: Bundle, **options: Any) -> str:
    """What the bundle writes, or why it was not run."""
    try:
        return read_inside(factory, one, **options).text
    except lc.ContainerError as error:
        return f"refused: {error}"


def tree(top: Path) -> dict[str, str]:
    """Every name below a directory: a file's content, a link's, or what kind of thing it is."""
    found = {}
    for path in sorted(top.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            what = f"-> {path.readlink()}"
        elif stat.S_ISREG(mode):
            what = path.read_text(errors="replace") if path.stat().st_size < 4096 else "large"
        else:
            what = oct(stat.S_IFMT(mode))
        found[str(path.relative_to(top))] = what
    return found


def mounts_of(pid: int | str) -> list[str]:
    return Path(f"/proc/{pid}/mountinfo").read_text().splitlines()


def mounts_below(place: Path, pid: int | str) -> list[str]:
    return [line for line in mounts_of(pid) if line.split()[4].startswith(str(place))]


def capability_lines(text: str) -> dict[str, int]:
    """The five sets, from the words of /proc/PID/status."""
    rows = (line.split(":") for line in text.splitlines() if line.startswith("Cap"))
    return {name.removeprefix("Cap"): int(value, 16) for name, value in rows}


def grant(one: Bundle, *capabilities: str) -> None:
    """Give the bundle's process these capabilities and no other."""
    sets = one.process["capabilities"]
    for name in ("bounding", "effective", "permitted"):
        sets[name] = list(capabilities)


RACER = """
import ctypes, os, sys
first, second = (os.fsencode(path) for path in sys.argv[1:])
exchange = ctypes.CDLL(None).renameat2
os.write(1, b"racing\\n")
turns = 0
while os.getppid() == int(os.environ["PARENT"]) and turns < 50_000_000:
    for _ in range(200):
        turns += exchange(-100, first, -100, second, 2) == 0
    if os.path.exists(first + b".stop"):
        break
print(turns)
"""


class Racer:
    """Another process that has two names change places as fast as it can; ``turns`` in the end."""

    def __init__(self, first: Path, second: Path) -> None:
        self._stop = Path(f"{first}.stop")
        self.turns = 0
        self._popen = subprocess.Popen(
            [sys.executable, "-S", "-c", RACER, str(first), str(second)],
            env={**os.environ, "PARENT": str(os.getpid())},
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Racer:
        assert self._popen.stdout is not None
        assert self._popen.stdout.readline() == "racing\n"
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.touch()
        output, _ = self._popen.communicate(timeout=TIMEOUT)
        self._stop.unlink()
        self.turns = int(output)
