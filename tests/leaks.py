"""What a test may leave behind: a snapshot before, one after, and the difference in words.

Everything is read from /proc and /sys, so the check shares no code with what it checks.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

SETTLING_SECONDS = 2.0
STATE_ROOT_OF_USER = os.environ.get("XDG_RUNTIME_DIR", "/nowhere") + "/libpycontainer"
DEFAULT_STATE_ROOT = "/run/libpycontainer" if os.geteuid() == 0 else STATE_ROOT_OF_USER
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/tty", "/dev/ptmx")
# pytest names the running phase there, so it always differs.
ENVIRONMENT_OF_PYTEST = "PYTEST_CURRENT_TEST"

Things = dict[str, str]


class Scope(NamedTuple):
    """Which of the machine's things belong to this test run."""

    prefix: str
    """Every cgroup and directory of this run has it in its name."""
    state_root: str
    """The test's private ``--root``."""

    def claims_group(self, path: str) -> bool:
        return self.prefix in path or "libpycontainer" in path


class Kind(NamedTuple):
    """One sort of thing: how to list it, and whether losing one is as bad as leaving one."""

    title: str
    look: Callable[[Scope], Things]
    must_stay: bool = False


class Leak(NamedTuple):
    kind: Kind
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind.title}: {self.text}"


class Snapshot(NamedTuple):
    """Everything that is there at one moment, by kind."""

    things: tuple[Things, ...]

    @classmethod
    def take(cls, scope: Scope) -> Snapshot:
        return cls(tuple(kind.look(scope) for kind in KINDS))

    def leaks(self, later: Snapshot) -> list[Leak]:
        """What is in ``later`` and was not here, and what had to stay and did not."""
        found = []
        for kind, before, after in zip(KINDS, self.things, later.things, strict=True):
            found += [Leak(kind, key, after[key]) for key in after if key not in before]
            if kind.must_stay:
                gone = [key for key in before if key not in after]
                found += [Leak(kind, key, f"gone: {before[key]}") for key in gone]
        return found


def settle(before: Snapshot, scope: Scope) -> list[Leak]:
    """The leaks that are still there when the machine had time to come to rest.

    The kernel frees some things after the last process is gone, and Python what sits in a
    reference cycle only when it collects.
    """
    deadline = time.monotonic() + SETTLING_SECONDS
    pause = 0.005
    leaks = before.leaks(Snapshot.take(scope))
    while leaks and time.monotonic() < deadline:
        gc.collect()
        time.sleep(pause)
        pause = min(pause * 2, 0.2)
        leaks = before.leaks(Snapshot.take(scope))
    return leaks


def clear(leaks: list[Leak], scope: Scope) -> None:
    """Take away what was left, so that the next test starts clean. What will not go, stays.

    A group whose name says nothing of us is told but never touched: it may be somebody else's, who
    works beside us.
    """
    groups = [
        leak.key for leak in leaks if leak.kind.look is cgroups and scope.claims_group(leak.key)
    ]
    for path in groups:
        _thaw(path)
    _end([int(leak.key.partition("/")[0]) for leak in leaks if leak.kind.look is processes])
    for leak in leaks:
        if leak.kind.look is mounts and scope.prefix in leak.key:
            _unmount(leak.key)
    deadline = time.monotonic() + SETTLING_SECONDS
    while groups and time.monotonic() < deadline:
        groups = [path for path in sorted(groups, reverse=True) if not _remove_group(path)]


def _end(pids: list[int]) -> None:
    """All at once, as the init of a pid namespace ends only after what it holds was reaped."""
    deadline = time.monotonic() + SETTLING_SECONDS
    while pids and time.monotonic() < deadline:
        pids = [pid for pid in pids if not _kill_and_reap(pid)]
        time.sleep(0.01)


def _kill_and_reap(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except OSError:
        # Gone already, or somebody else's child.
        return True


def _unmount(line: str) -> None:
    # Fails for one that is gone, or that went with the one it was on.
    subprocess.run(["umount", "--lazy", _mountpoint(line)], stderr=subprocess.DEVNULL)


def _mountpoint(line: str) -> str:
    return line.split()[4]


def remove_tree(path: str | Path) -> None:
    """Remove a directory, unless something is mounted in it: that would empty what is mounted."""
    if not has_mounts(path):
        shutil.rmtree(path, ignore_errors=True)


def has_mounts(path: str | Path) -> bool:
    top = Path(path).resolve()
    lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    return any(Path(_mountpoint(line)).is_relative_to(top) for line in lines)


def _thaw(path: str) -> None:
    """A process that a v1 freezer holds does not die of its signal."""
    try:
        Path(path, "freezer.state").write_text("THAWED")
    except OSError:
        # Not the freezer's hierarchy, or gone.
        return


def _remove_group(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        time.sleep(0.01)
        return False
    return True


def processes(scope: Scope) -> Things:
    """Children of this process, and any process that a container of this run may have left."""
    me, group = os.getpid(), os.getpgrp()
    found = {}
    for pid in _pids():
        if pid == me:
            continue
        try:
            process = _Process.read(pid)
        except OSError:
            continue
        if process.parent == me or (process.alive and process.belongs(scope, group)):
            found[f"{pid}/{process.started}"] = f"{process.state} {pid} {process.command}"
    return found


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


class _Process(NamedTuple):
    state: str
    parent: int
    group: int
    started: str
    cgroups: str
    command: str

    @classmethod
    def read(cls, pid: int) -> _Process:
        directory = Path("/proc", str(pid))
        head, _, tail = (directory / "stat").read_text(errors="replace").rpartition(") ")
        fields = tail.split()
        words = (directory / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        command = b" ".join(words).decode(errors="replace")
        return cls(
            state=fields[0],
            parent=int(fields[1]),
            group=int(fields[2]),
            started=fields[19],
            cgroups=(directory / "cgroup").read_text(errors="replace"),
            command=command or f"[{head.partition('(')[2]}]",
        )

    @property
    def alive(self) -> bool:
        """False for a zombie: whoever adopted it may reap it late, or never."""
        return self.state not in "ZX"

    def belongs(self, scope: Scope, group: int) -> bool:
        """By its cgroup, by the state root among its arguments, or by our process group."""
        return (
            scope.claims_group(self.cgroups)
            or scope.state_root in self.command
            or self.group == group
        )


def mounts(scope: Scope) -> Things:
    lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    return {line: line for line in lines if scope.prefix in line or "/lpc-test-" not in line}


def cgroups(scope: Scope) -> Things:
    """Directories below every mounted hierarchy that this run may have made."""
    found = {}
    for mountpoint, own in _hierarchies():
        for path in _directories(mountpoint):
            inside = path.removeprefix(mountpoint)
            below = inside.startswith(f"{own}/") and not _FOREIGN_GROUP.search(inside)
            if below or scope.claims_group(inside):
                found[path] = path
    return found


# Other test runs name theirs likewise, and a service manager works beside us.
_FOREIGN_GROUP = re.compile(r"lpc-test-|\.(slice|service|scope)(/|$)|/process_api(/|$)")


def _hierarchies() -> Iterator[tuple[str, str]]:
    """Each mounted cgroup hierarchy, and the path of this process in it (``""`` for the root)."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text(errors="replace").splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path.rstrip("/")
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        mount, _, kind = line.partition(" - ")
        mountpoint = _mountpoint(mount)
        fstype, _, options = kind.split(maxsplit=2)
        if fstype == "cgroup2":
            yield mountpoint, own.get("", "")
        elif fstype == "cgroup":
            names = set(options.split(","))
            paths = [path for key, path in own.items() if key and names.issuperset(key.split(","))]
            yield mountpoint, paths[0] if paths else ""


def _directories(top: str) -> Iterator[str]:
    for path, names, _ in os.walk(top):
        if "process_api" in names:
            names.remove("process_api")
        yield from (f"{path}/{name}" for name in names)


def descriptors(scope: Scope) -> Things:
    """This process's open files; a closed one is as wrong as a new one."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            # The descriptor that listed the directory.
            continue
        found[f"{name} {target}"] = f"{name} -> {target}"
    return found


def threads(scope: Scope) -> Things:
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    tasks = [int(name) for name in os.listdir("/proc/self/task")]
    return {str(task): f"{task} {names.get(task, 'not made by Python')}" for task in tasks}


def state_directories(scope: Scope) -> Things:
    found = {}
    for root in (scope.state_root, DEFAULT_STATE_ROOT):
        try:
            names = os.listdir(root)
        except FileNotFoundError:
            continue
        # No container can have a name with an "@": what has one is kept for the next of them.
        kept = [name for name in names if "@" not in name]
        found.update({f"{root}/{name}": f"{root}/{name}" for name in kept})
    return found


def host_devices(scope: Scope) -> Things:
    """Owner and mode of the host's own device nodes, which containers are given as stdio."""
    found = {}
    for path in DEVICES:
        try:
            status = os.stat(path)
        except OSError:
            continue
        text = f"{path} {status.st_uid}:{status.st_gid} {stat.filemode(status.st_mode)}"
        found[text] = text
    return found


def process_state(scope: Scope) -> Things:
    """What belongs to the program as a whole, and a library in it must leave alone."""
    status = Path("/proc/self/status").read_text(errors="replace")
    kept = ("Umask:", "Uid:", "Gid:", "Groups:", "NoNewPrivs:", "SigBlk:", "CapEff:")
    lines = [line for line in status.splitlines() if line.startswith(kept)]
    lines.append(f"cwd {os.getcwd()}")
    lines += [f"namespace {os.readlink(entry)}" for entry in os.scandir("/proc/self/ns")]
    # pytest-timeout has SIGALRM for itself, and lets go of it when a test fails.
    numbers = set(signal.Signals) - {signal.SIGALRM}
    lines += [f"{number.name} handled by {_handler(number)}" for number in sorted(numbers)]
    lines += [
        f"environment {name}={value}"
        for name, value in os.environ.items()
        if name != ENVIRONMENT_OF_PYTEST
    ]
    return {line: line for line in lines}


def _handler(number: signal.Signals) -> str:
    handler = signal.getsignal(number)
    return getattr(handler, "__qualname__", repr(handler))


KINDS = (
    Kind("process", processes),
    Kind("mount", mounts, must_stay=True),
    Kind("cgroup", cgroups),
    Kind("file descriptor", descriptors, must_stay=True),
    Kind("thread", threads),
    Kind("state directory", state_directories),
    Kind("device node of the host", host_devices, must_stay=True),
    Kind("state of the calling process", process_state, must_stay=True),
)
