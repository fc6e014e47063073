"""What all cells share: a directory, a root filesystem, bundles, cgroups; and their removal.

Everything lies in two temporary directories and below one cgroup, /lpc-test-bench-XXXXXX, whatever
runtime made it, so that :meth:`World.close` finds all of it, also after an interrupt.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

import libpycontainer
from benchmarks.measuring import UnavailableError
from libpycontainer.spec import default

HERE = Path(__file__).resolve().parent
MOST_BINDS = 200
APPLETS = ("true", "sleep")
CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")
SECONDS_TO_END = 5.0


class World:
    """One run's place on this machine."""

    def __init__(self) -> None:
        self.closing = contextlib.ExitStack()
        # The tests' leak check leaves alone what is named like another run of theirs.
        self.token = f"lpc-test-bench-{secrets.token_hex(3)}"
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.token}-"))
        self.directory.chmod(0o755)
        self.rootfs = self.directory / "rootfs"
        # Runtimes keep their records in /run: in memory, on nearly every host but not on all.
        self.states = Path(tempfile.mkdtemp(prefix=f"{self.token}-", dir="/dev/shm"))
        self.states.chmod(0o755)
        self.hierarchies = hierarchies()
        self.python = sys.executable
        """For programs of their own, from :meth:`build` on."""

    def build(self) -> None:
        """Raises :class:`UnavailableError` without busybox."""
        self._make_rootfs()
        self.python = self._make_environment()
        sleep = shutil.which("sleep") or "/bin/sleep"
        keeper = os.posix_spawn(sleep, ["sleep", "infinity"], os.environ)
        for mount_point in self.hierarchies:
            make_group(mount_point, self.token)
            # Some runtimes take an empty parent away with the last container in it.
            make_group(mount_point, f"{self.token}/kept")
            Path(mount_point, self.token, "kept/cgroup.procs").write_text(str(keeper))

    def _make_rootfs(self) -> None:
        busybox = shutil.which("busybox")
        if busybox is None:
            raise UnavailableError("busybox is not installed (Debian: busybox-static)")
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            (self.rootfs / name).mkdir(parents=True)
        for number in range(MOST_BINDS):
            (self.rootfs / "mnt" / str(number)).mkdir(parents=True)
        shutil.copy2(busybox, self.rootfs / "bin/busybox")
        for applet in APPLETS:
            (self.rootfs / "bin" / applet).symlink_to("busybox")

    def _make_environment(self) -> str:
        """An interpreter that finds the package as if pip had put it there.

        An editable installation, coverage and the like run code at the start of every program.
        """
        place = self.directory / "env"
        venv.create(place, symlinks=True)
        [packages] = place.glob("lib/python*/site-packages")
        paths = [str(Path(libpycontainer.__file__).parent.parent)]
        paths += [path for path in sys.path if path.endswith("-packages")]
        (packages / "bench.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
        return str(place / "bin/python")

    # ---- configurations ------------------------------------------------------------------

    def cgroup(self, name: str) -> str:
        """The ``cgroupsPath`` of the container ``name``."""
        return f"/{self.token}/{name}"

    def config(self, name: str, *args: str, binds: int = 0) -> dict[str, Any]:
        """The default configuration with a cgroup namespace: six of them, on any kernel."""
        config = default.config(cgroup_namespace=True)
        # crun 1.8 knows no later one.
        config["ociVersion"] = "1.0.2"
        config["root"]["path"] = str(self.rootfs)
        config["process"].update(args=list(args) or ["true"], terminal=False)
        config["linux"]["cgroupsPath"] = self.cgroup(name)
        config["mounts"] += [self._bind(number) for number in range(binds)]
        return config

    def _bind(self, number: int) -> dict[str, Any]:
        return {
            "destination": f"/mnt/{number}",
            "type": "bind",
            "source": str(self.rootfs / "tmp"),
            "options": ["rbind"],
        }

    def confined(self, name: str) -> dict[str, Any]:
        """The default configuration under docker's default seccomp profile."""
        config = self.config(name)
        text = (HERE / "data/docker-seccomp.json").read_text(encoding="utf-8")
        config["linux"]["seccomp"] = json.loads(text)
        return config

    def mapped(self, name: str) -> dict[str, Any]:
        """The default configuration with a user namespace, whose root is nobody on the host."""
        config = self.config(name)
        config["linux"]["namespaces"].append({"type": "user"})
        for ids in ("uidMappings", "gidMappings"):
            config["linux"][ids] = [{"containerID": 0, "hostID": 300000, "size": 65536}]
        return config

    def bundle(self, name: str, config: dict[str, Any]) -> Path:
        path = self.directory / "bundles" / name
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.json").write_text(json.dumps(copy.copy(config)), encoding="utf-8")
        return path

    def floor_arguments(self, name: str, binds: int = 0) -> list[str]:
        """What floor.c is told."""
        found = [f"{where}:{option}" for where, option in self.hierarchies.items()]
        return [str(self.rootfs), self.cgroup(name), str(binds), *found]

    # ---- the end -------------------------------------------------------------------------

    def close(self) -> None:
        """End and remove everything, whoever made it. Says what would not go."""
        try:
            self.closing.close()
        except Exception as error:
            print(f"benchmarks: at the end: {error}", file=sys.stderr)
        finally:
            groups = [Path(where + "/" + self.token) for where in self.hierarchies]
            end_processes(groups)
            for group in groups:
                remove_groups(group)
            for directory in (self.directory, self.states):
                unmount_below(directory)
                shutil.rmtree(directory, ignore_errors=True)


def hierarchies() -> dict[str, str]:
    """The mount point of every cgroup hierarchy with its v1 option; "" is the unified one."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _source, options = rest.split(" ", 2)
        where = fields.split()[4]
        if kind == "cgroup2":
            found[where] = ""
        elif kind == "cgroup":
            names = [each for each in options.split(",") if each not in ("rw", "ro", "xattr")]
            found[where] = ",".join(each for each in names if "release_agent" not in each)
    if not found:
        raise UnavailableError("no cgroup hierarchy is mounted")
    return found


def make_group(mount_point: str, name: str) -> None:
    """A cgroup that takes processes: on v1, a cpuset without processors takes none."""
    group = Path(mount_point, name)
    group.mkdir()
    for file in CPUSET_FILES:
        if (group / file).exists() and not (group / file).read_text().strip():
            (group / file).write_text((group.parent / file).read_text())


def end_processes(groups: list[Path]) -> None:
    """Kill whatever lives in the groups, at any depth, and wait until all of it is gone."""
    deadline = time.monotonic() + SECONDS_TO_END
    while time.monotonic() < deadline:
        members = {int(pid) for group in groups for pid in members_of(group)}
        if not members:
            return
        for pid in members:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)


def members_of(group: Path) -> list[str]:
    found: list[str] = []
    for file in group.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            found += file.read_text().split()
    return found


def remove_groups(group: Path) -> None:
    children = [path for path in group.rglob("*") if path.is_dir()]
    for path in [*sorted(children, reverse=True), group]:
        with contextlib.suppress(FileNotFoundError):
            try:
                path.rmdir()
            except OSError as error:
                print(f"benchmarks: {path} stays: {error.strerror}", file=sys.stderr)


def unmount_below(directory: Path) -> None:
    """Runtimes that keep an image store mount in it."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    points = [line.split()[4] for line in lines]
    for point in sorted(points, reverse=True):
        if Path(point).is_relative_to(directory):
            subprocess.run(["umount", "--lazy", point], check=False)
