"""Short ways to run a script inside, to stop a program at a chosen moment, and to die there."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import libpycontainer as lc
from tests import ways
from tests.conftest import SLOWNESS

if TYPE_CHECKING:
    from tests.conftest import Bundle

TIMEOUT = 20.0 * SLOWNESS
FOREVER = ("sleep", "1000")
REPOSITORY = Path(__file__).parents[2]


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def hook(script: str, **more: Any) -> dict[str, Any]:
    """A hook that runs ``script`` with a PATH, as an entry of config.json."""
    environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    return {"path": "/bin/sh", "args": sh(script), "env": environment, **more}


def create(factory: lc.Factory, bundle: Bundle, id: str = "one", **options: Any) -> lc.Container:
    """Create from ``bundle.config``. Streams lead nowhere unless given.

    A container that outlived a failing test would otherwise keep the run's own output open.
    """
    for name in ("stdin", "stdout", "stderr"):
        options.setdefault(name, lc.DEVNULL)
    return factory.create(id, bundle.config, bundle=bundle, **options)


class Result(NamedTuple):
    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def sections(self) -> dict[str, str]:
        """The text by the ``== title`` lines in it."""
        parts = {}
        for part in self.text.split("== ")[1:]:
            title, _, body = part.partition("\n")
            parts[title] = body.rstrip("\n")
        return parts


def read_inside(
    factory: lc.Factory, bundle: Bundle, id: str = "one", input: bytes | None = None, **options: Any
) -> Result:
    """Run the bundle to its end; its exit code and what it wrote to either output."""
    options.setdefault("stdin", lc.PIPE if input is not None else lc.DEVNULL)
    options.setdefault("stdout", lc.PIPE)
    options.setdefault("stderr", lc.STDOUT)
    with create(factory, bundle, id, **options) as container:
        container.start()
        process = container.process
        assert process is not None
        output, _ = process.communicate(input, timeout=TIMEOUT)
        assert process.returncode is not None
        return Result(process.returncode, (output or b"").decode())


def exec_inside(container: lc.Container, args: Sequence[str], **options: Any) -> Result:
    """Run one more process in a container to its end; its exit code and its output."""
    options.setdefault("stdin", lc.DEVNULL)
    process = lc.Process(args, stdout=lc.PIPE, stderr=lc.STDOUT, **options)
    with container.exec(process):
        output, _ = process.communicate(timeout=TIMEOUT)
        assert process.returncode is not None
        return Result(process.returncode, (output or b"").decode())


def group_files(cgroups_path: str, v1: str, v2: str, controller: str) -> str:
    """What a container's group says on the host, whichever hierarchy the controller is in."""
    old = Path(f"/sys/fs/cgroup/{controller}{cgroups_path}/{v1}")
    return (old if old.exists() else Path(f"/sys/fs/cgroup{cgroups_path}/{v2}")).read_text().strip()


def groups_left(cgroups_path: str) -> list[str]:
    """The directories of a group that are there, in every hierarchy."""
    top = Path("/sys/fs/cgroup")
    places = [top, *(path for path in top.iterdir() if path.is_dir())]
    return [str(path) + cgroups_path for path in places if Path(str(path) + cgroups_path).exists()]


def children() -> set[int]:
    """The pids of this process's children, zombies too."""
    pids: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        pids.update(map(int, (task / "children").read_text().split()))
    return pids


def open_descriptors() -> set[int]:
    """Of this process; among them is what an interrupt has lost between a call and its note."""
    numbers = map(int, os.listdir("/proc/self/fd"))
    return {number for number in numbers if os.path.lexists(f"/proc/self/fd/{number}")}


def await_end(pidfd: int, timeout: float = TIMEOUT) -> bool:
    """Wait until a process that need not be ours has ended; false when the time is up."""
    ready, _, _ = select.select([pidfd], [], [], timeout)
    return bool(ready)


class Gate:
    """Stops a script, usually a hook, at one point until the test has done what it wants.

    ``directory`` is where the gate's two FIFOs are for the script, if that is not where they are
    for the test (in a container, say).
    """

    def __init__(self, path: Path) -> None:
        self.path = path / f"gate-{secrets.token_hex(4)}"
        self.path.mkdir()
        self.path.chmod(0o755)
        for name in ("reached", "go"):
            os.mkfifo(self.path / name)
            (self.path / name).chmod(0o666)
        # Held for reading and writing, so that opening it blocks neither side.
        self._go = os.open(self.path / "go", os.O_RDWR | os.O_CLOEXEC)

    def script(self, directory: str | None = None) -> str:
        where = directory or str(self.path)
        return f"echo >{where}/reached; read answer <{where}/go"

    def reached(self) -> None:
        """Wait until the script has come to the gate."""
        with open(self.path / "reached") as file:
            file.read()

    def open(self) -> None:
        os.write(self._go, b"\n")

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *exc: object) -> None:
        self.open()
        os.close(self._go)


class Program:
    """A program of its own that uses the library, and that the test may kill.

    Its source finds ``factory`` and ``bundle`` (a path) ready-made; ``say(word)`` reports to
    :meth:`hear`.
    """

    PRELUDE = """
import json, os, signal, sys
import libpycontainer as lc
root, bundle = sys.argv[1:3]
factory = lc.Factory(root=root)
def say(word):
    os.write(1, f"{word}\\n".encode())
def create(id="one", **options):
    for name in ("stdin", "stdout", "stderr"):
        options.setdefault(name, lc.DEVNULL)
    return factory.create(id, f"{bundle}/config.json", bundle=bundle, **options)
"""

    def __init__(
        self,
        state_root: str,
        bundle: Bundle,
        source: str,
        more_env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", self.PRELUDE + source, state_root, os.fspath(bundle)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(more_env or {})},
            **options,
        )

    def hear(self) -> str:
        """The next line that it says, "" when it has ended."""
        assert self.popen.stdout is not None
        return bytes(self.popen.stdout.readline()).decode().strip()

    def rest(self) -> str:
        """Whatever else it says until it ends."""
        output, _ = self.popen.communicate(timeout=TIMEOUT)
        return bytes(output).decode().strip()

    def kill(self) -> None:
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        assert self.popen.stdout is not None
        self.popen.stdout.close()


def copy_rootfs(source: Path, target: Path) -> Path:
    """A root filesystem of the test's own, to plant things in."""
    shutil.copytree(source, target, symlinks=True)
    return target


def add_user_namespace(config: dict[str, Any], first: int = 300_000, size: int = 65_536) -> None:
    """Root inside becomes the host's user ``first``; as an ordinary user he stays that one."""
    if ways.WAY == "user":
        ways.adapt(config)
        return
    namespaces = config["linux"]["namespaces"]
    namespaces[:] = [each for each in namespaces if each["type"] != "user"] + [{"type": "user"}]
    mapping = {"containerID": 0, "hostID": first, "size": size}
    config["linux"]["uidMappings"] = [mapping]
    config["linux"]["gidMappings"] = [mapping]


def writable_tmp(config: dict[str, Any]) -> None:
    config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})


def bind(config: dict[str, Any], source: str | Path, destination: str, *options: str) -> None:
    config["mounts"].append(
        {
            "destination": destination,
            "type": "bind",
            "source": str(source),
            "options": ["bind", *options],
        }
    )


def run_in_pure_v2_view(file: str, mark: str, timeout: float) -> None:
    """Run a file of tests once more as if there was only v2; ``mark`` is set in its environment.

    The view is a mount namespace's own; the host's hierarchies stay as they are.
    """
    if ways.WAY == "user":
        pytest.skip("as user: mounts on the host")
    prepare = 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", prepare, "sh", *command],
        env={**os.environ, mark: "1"},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
