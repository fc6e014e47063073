"""Docker: a daemon with directories of its own, and the operations that only it has."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from scripts import as_user
from tests.clients import cleaning, remains
from tests.clients.battery import Battery
from tests.clients.engine import PATIENCE, Engine, Runtime, contains, same
from tests.clients.images import IMAGE
from tests.clients.world import program

BATTERY: Battery[Docker] = Battery()
operation = BATTERY.operation


class Docker(Engine):
    def __init__(
        self, runtime: Runtime, directory: Path, archive: Path, words: Sequence[str] = ()
    ) -> None:
        directory.mkdir()
        self.archive = archive
        self.socket = f"unix://{directory}/docker.sock"
        super().__init__(
            runtime,
            directory,
            [program("docker"), "--host", self.socket],
            {"PATH": os.environ["PATH"], "HOME": str(directory), "TERM": "xterm"},
        )
        self.state_roots = [directory / "exec/runtime-runc/moby"]
        self.daemon = self._start_daemon(words)
        try:
            self.wait_until("dockerd answers", self._answers)
            self("load", "--quiet", "--input", str(archive))
            # The first of each kind makes what stays.
            self.run([], "true")
            self.run(["--network", "host"], "true", status=None)
        except BaseException:
            self.stop()
            raise
        self.title = f"docker {self('version', '--format', '{{.Server.Version}}').out.strip()}"

    def _start_daemon(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        # BuildKit looks for runc in PATH and asks nobody.
        (self.directory / "bin").mkdir()
        (self.directory / "bin/runc").symlink_to(self.runtime.path)
        configuration = {
            "data-root": f"{self.directory}/data",
            "exec-root": f"{self.directory}/exec",
            "pidfile": f"{self.directory}/pid",
            "hosts": [self.socket],
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": remains.PARENT,
            # "runc" is docker's own name for its own.
            "runtimes": {"tried": {"path": str(self.runtime.path)}},
            "default-runtime": "tried",
        }
        file = self.directory / "daemon.json"
        file.write_text(json.dumps(configuration))
        with open(self.directory / "log", "wb") as log:
            return subprocess.Popen(
                [program("dockerd"), "--config-file", str(file), *words],
                env={**self.environment, "PATH": f"{self.directory}/bin:{os.environ['PATH']}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _answers(self) -> bool:
        if self.daemon.poll() is not None:
            log = (self.directory / "log").read_text()
            raise AssertionError(f"dockerd has ended: {log[-600:]}")
        return self("version", status=None).status == 0

    def bundle(self, name: str) -> Path:
        tasks = self.directory / "exec/containerd/daemon/io.containerd.runtime.v2.task/moby"
        return tasks / self.inspect(name, "{{.Id}}")

    def stop(self) -> None:
        if self.daemon.poll() is None:
            self.clear()
        self.daemon.terminate()
        self.daemon.wait(PATIENCE)


@operation("the runtime is the one that is meant")
def runtime(docker: Docker) -> None:
    contains(docker("info").out, "Default Runtime: tried")
    name = docker.start([], "sleep", "100")
    state = docker.directory / "exec/runtime-runc/moby"
    same(docker.inspect(name, "{{.Id}}") in os.listdir(state), True)
    same(docker.inspect(name, "{{.HostConfig.Runtime}}"), "tried")


@operation("a working directory that is made")
def working_directory(docker: Docker) -> None:
    same(docker.run(["-w", "/made/for/it"], "pwd").out, "/made/for/it\n")


@operation("build with BuildKit")
def buildkit(docker: Docker) -> None:
    text = f"FROM {IMAGE}\nRUN echo built > /built && cat /proc/self/cgroup\n"
    docker.environment["DOCKER_BUILDKIT"] = "1"
    try:
        docker("build", "--quiet", "-t", "localhost/built", "-", given=text)
        same(docker("run", "--rm", "localhost/built", "cat", "/built").out, "built\n")
    finally:
        del docker.environment["DOCKER_BUILDKIT"]
        docker("rmi", "localhost/built", status=None)


@operation("user namespace: a daemon with userns-remap")
def remapped(docker: Docker) -> None:
    words = ["--userns-remap", as_user.NAME, "--bridge", "none", "--iptables=false"]
    other = Docker(docker.runtime, docker.directory / "remapped", docker.archive, words)
    try:
        out = other.shell([], "cat /proc/self/uid_map; touch /tmp/mine && stat -c %u /tmp/mine")
        same(out.split(), ["0", str(as_user.FIRST), str(as_user.SIZE), "0"])
        name = other.start([], "sleep", "100")
        same(other("exec", name, "id", "-u").out, "0\n")
        same(other("exec", "-t", name, "tty").out, "/dev/pts/0\n")
    finally:
        other.stop()


@operation("containers survive the daemon (live restore)")
def live_restore(docker: Docker) -> None:
    words = ["--live-restore", "--bridge", "none", "--iptables=false"]
    other = Docker(docker.runtime, docker.directory / "alive", docker.archive, words)
    try:
        name = other.start([], "sleep", "100")
        pid = other.inspect(name, "{{.State.Pid}}")
        other.daemon.terminate()
        other.daemon.wait(PATIENCE)
        (other.directory / "bin/runc").unlink()
        (other.directory / "bin").rmdir()
        other.daemon = other._start_daemon(words)
        other.wait_until("dockerd answers", other._answers)
        same(other.inspect(name, "{{.State.Pid}}"), pid)
        same(other("exec", name, "echo", "alive").out, "alive\n")
    finally:
        other.stop()
        # A daemon that is to come back leaves its mounts for the next one.
        cleaning.unmount_below(other.directory)
