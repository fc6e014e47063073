"""containerd with directories of its own, called through ``ctr``."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.clients import remains
from tests.clients.battery import Battery
from tests.clients.confinement import STATUS
from tests.clients.engine import PATIENCE, Answer, Engine, Runtime, contains, same
from tests.clients.images import IMAGE, PAUSE
from tests.clients.mistakes import readable
from tests.clients.world import program

BATTERY: Battery[Containerd] = Battery()
operation = BATTERY.operation
NAMESPACE = "tried"
CONFIGURATION = """\
version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]

[grpc]
  address = "{directory}/sock"

[ttrpc]
  address = "{directory}/sock.ttrpc"
"""


class Containerd(Engine):
    namespace = NAMESPACE
    template = CONFIGURATION

    def __init__(self, runtime: Runtime, directory: Path, archive: Path) -> None:
        directory.mkdir(exist_ok=True)
        super().__init__(
            runtime,
            directory,
            [program("ctr"), "--address", f"{directory}/sock", "--namespace", self.namespace],
            {"PATH": os.environ["PATH"], "HOME": str(directory), "TERM": "xterm"},
        )
        self.state_roots = [
            Path("/run/containerd/runc", self.namespace),
            directory / f"state/io.containerd.runtime.v2.task/{self.namespace}",
        ]
        file = directory / "config.toml"
        file.write_text(
            self.template.format(directory=directory, runtime=runtime.path, pause=PAUSE)
        )
        with open(directory / "log", "wb") as log:
            self.daemon = subprocess.Popen(
                [program("containerd"), "--config", str(file)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self.wait_until("containerd answers", self._answers)
            self("images", "import", str(archive))
            self.warm_up()
        except BaseException:
            self.stop()
            raise
        self.title = f"containerd {self('version').out.split('Version:')[-1].split()[0]}"

    def warm_up(self) -> None:
        """The first container makes what stays."""
        self.run([], "true")

    def _answers(self) -> bool:
        if self.daemon.poll() is not None:
            log = (self.directory / "log").read_text()
            raise AssertionError(f"containerd has ended: {log[-600:]}")
        return self("version", status=None).status == 0

    def _words(self, name: str, flags: Sequence[str]) -> list[str]:
        chosen = ["--runc-binary", str(self.runtime.path), "--cgroup", f"{remains.PARENT}/{name}"]
        return [*chosen, *flags, IMAGE, name]

    def run(
        self, flags: Sequence[str], *command: str, status: int | None = 0, given: str = ""
    ) -> Answer:
        name = f"c{next(self._numbers)}"
        words = ["run", "--rm", *self._words(name, flags), *command]
        return self(*words, status=status, given=given)

    def start(self, flags: Sequence[str], *command: str) -> str:
        name = f"c{next(self._numbers)}"
        self("run", "--detach", *self._words(name, flags), *command)
        return name

    def status(self, name: str) -> str:
        for line in self("tasks", "list").out.splitlines():
            if line.split()[0] == name:
                return line.split()[2]
        return ""

    def execute(
        self, name: str, *command: str, flags: Sequence[str] = (), status: int | None = 0
    ) -> Answer:
        number = f"e{next(self._numbers)}"
        return self("tasks", "exec", "--exec-id", number, *flags, name, *command, status=status)

    def bundle(self, name: str) -> Path:
        return self.directory / f"state/io.containerd.runtime.v2.task/{self.namespace}/{name}"

    def clear(self) -> None:
        for name in self.lines("tasks", "list", "--quiet"):
            self("tasks", "resume", name, status=None)
            self("tasks", "delete", "--force", name, status=None)
        if names := self.lines("containers", "list", "--quiet"):
            self("containers", "delete", *names, status=None)

    def stop(self) -> None:
        if self.daemon.poll() is None:
            self.clear()
        self.daemon.terminate()
        self.daemon.wait(PATIENCE)


@operation("run")
def run(ctr: Containerd) -> None:
    same(ctr.run([], "echo", "hello").out, "hello\n")


@operation("environment, working directory")
def process(ctr: Containerd) -> None:
    flags = ["--env", "A=b", "--cwd", "/home/app"]
    same(ctr.shell(flags, "echo $A $FROM_IMAGE; pwd"), "b yes\n/home/app\n")


@operation("exit codes")
def exit_codes(ctr: Containerd) -> None:
    ctr.run([], "sh", "-c", "exit 7", status=7)
    name = ctr.start([], "sleep", "100")
    ctr.execute(name, "sh", "-c", "kill -KILL $$", status=137)


@operation("a megabyte of output")
def much_output(ctr: Containerd) -> None:
    same(len(ctr.run([], "sh", "-c", "yes 0123456789abcde | head -n 65536").out), 1 << 20)


@operation("what a process sees of its rights")
def rights(ctr: Containerd) -> str:
    return ctr.shell([], STATUS)


@operation("what a process sees of its mounts")
def mounts(ctr: Containerd) -> str:
    return ctr.shell([], "grep -v ' / ' /proc/mounts | sort")


@operation("run --detach, list, start again, delete")
def lifecycle(ctr: Containerd) -> None:
    name = ctr.start([], "sleep", "100")
    same(ctr.status(name), "RUNNING")
    contains(ctr("containers", "info", name).out, '"Image"')
    ctr("tasks", "kill", "--signal", "SIGKILL", name)
    ctr.wait_until("it has stopped", lambda: ctr.status(name) == "STOPPED")
    contains(ctr("tasks", "delete", name).err, "exit code 137")
    ctr("tasks", "start", "--detach", name)
    same(ctr.status(name), "RUNNING")
    ctr("tasks", "delete", "--force", name)
    ctr("containers", "delete", name)


@operation("exec, exec --user")
def execute(ctr: Containerd) -> None:
    name = ctr.start(["--env", "OF=container"], "sleep", "100")
    same(ctr.execute(name, "sh", "-c", "echo $OF").out, "container\n")
    out = ctr.execute(name, "sh", "-c", "id -u; pwd", flags=["--user", "1000", "--cwd", "/tmp"])
    same(out.out, "1000\n/tmp\n")


@operation("ten execs at once")
def execute_at_once(ctr: Containerd) -> None:
    name = ctr.start([], "sleep", "100")
    with ThreadPoolExecutor(10) as threads:
        outs = threads.map(lambda i: ctr.execute(name, "echo", str(i)).out, range(10))
    same([*outs], [f"{i}\n" for i in range(10)])


@operation("kill with a signal, kill --all")
def kill(ctr: Containerd) -> None:
    name = ctr.start([], "sh", "-c", "trap 'exit 5' USR1; while :; do sleep 0.1; done")
    ctr("tasks", "kill", "--signal", "SIGUSR1", name)
    ctr.wait_until("it has stopped", lambda: ctr.status(name) == "STOPPED")
    contains(ctr("tasks", "delete", name).err, "exit code 5")
    other = ctr.start([], "sh", "-c", "sleep 100 & sleep 100")
    ctr("tasks", "kill", "--all", "--signal", "SIGKILL", other)
    ctr.wait_until("it has stopped", lambda: ctr.status(other) == "STOPPED")


@operation("kill after the end")
def kill_after_the_end(ctr: Containerd) -> str:
    name = ctr.start([], "true")
    ctr.wait_until("it has stopped", lambda: ctr.status(name) == "STOPPED")
    return ctr("tasks", "kill", name, status=None).message.partition(name)[0]


@operation("pause, resume")
def pause(ctr: Containerd) -> None:
    name = ctr.start([], "sleep", "100")
    ctr("tasks", "pause", name)
    same(ctr.status(name), "PAUSED")
    ctr("tasks", "resume", name)
    same(ctr.status(name), "RUNNING")


@operation("ps")
def processes(ctr: Containerd) -> None:
    name = ctr.start([], "sh", "-c", "sleep 100 & sleep 101; true")
    ctr.wait_until("there are 3", lambda: len(ctr("tasks", "ps", name).out.splitlines()) == 4)


@operation("metrics")
def metrics(ctr: Containerd) -> None:
    name = ctr.start(["--memory-limit", str(64 << 20)], "sleep", "100")
    seen = ctr.json("tasks", "metrics", "--format", "json", name)
    contains(json.dumps(seen), str(64 << 20))


@operation("limits read back")
def limits(ctr: Containerd) -> None:
    name = ctr.start(["--memory-limit", str(64 << 20), "--cpus", "0.5"], "sleep", "100")
    group = f"{remains.PARENT}/{name}"
    memory = Path(f"/sys/fs/cgroup/memory{group}/memory.limit_in_bytes").read_text().strip()
    same(memory, str(64 << 20))
    same(Path(f"/sys/fs/cgroup/cpu{group}/cpu.cfs_quota_us").read_text().strip(), "50000")


@operation("read-only root, mounts")
def read_only(ctr: Containerd) -> None:
    place = ctr.scratch()
    (place / "given").write_text("given\n")
    mount = f"type=bind,src={place},dst=/data,options=rbind:ro"
    script = "cat /data/given; touch /no 2>&1; touch /data/no 2>&1"
    out = ctr.shell(["--read-only", "--mount", mount], script, status=1)
    contains(out, "given\n")
    same(out.count("Read-only file system"), 2)


@operation("privileged, devices")
def privileged(ctr: Containerd) -> str:
    out = ctr.shell(["--privileged"], STATUS)
    given = ctr.shell(["--device", "/dev/fuse"], "stat -c '%F %t,%T' /dev/fuse")
    same(given, "character special file a,e5\n")
    return out


@operation("default seccomp profile")
def seccomp(ctr: Containerd) -> None:
    profile = ctr.configuration(ctr.start(["--seccomp"], "sleep", "100"))["linux"]["seccomp"]
    same(profile["defaultAction"], "SCMP_ACT_ERRNO")
    contains(ctr.shell(["--seccomp"], STATUS), "Seccomp:\t2")
    same(ctr.run(["--seccomp"], "linux64", "-R", "true", status=None).status != 0, True)


@operation("host network")
def host_network(ctr: Containerd) -> None:
    out = ctr.shell(["--net-host"], "readlink /proc/self/ns/net").strip()
    same(out, os.readlink("/proc/self/ns/net"))


@operation("user namespace")
def user_namespace(ctr: Containerd) -> None:
    flags = ["--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536"]
    same(ctr.shell(flags, "cat /proc/self/uid_map").split(), ["0", "200000", "65536"])


@operation("root filesystem without an image")
def rootfs(ctr: Containerd) -> None:
    place = ctr.directory / "mounted"
    place.mkdir()
    ctr("images", "mount", "--rw", IMAGE, str(place))
    try:
        name = f"c{next(ctr._numbers)}"
        words = ctr._words(name, ["--rootfs"])
        words[-2:] = [str(place), name]
        same(ctr("run", "--rm", *words, "/bin/echo", "rooted").out, "rooted\n")
    finally:
        ctr("images", "unmount", "--rm", str(place))


@operation("without pivot_root (--no-pivot)")
def no_pivot(ctr: Containerd) -> None:
    same(ctr.run(["--no-pivot"], "echo", "hello").out, "hello\n")


@operation("events")
def events(ctr: Containerd) -> None:
    with ctr.begin("events") as process:
        name = ctr.start([], "true")
        ctr.wait_until("it has stopped", lambda: ctr.status(name) == "STOPPED")
        ctr("tasks", "delete", name)
        process.terminate()
        out = process.communicate(timeout=PATIENCE)[0].decode()
    contains(out, "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete")


@operation("50 containers in a row leave nothing")
def fifty_in_a_row(ctr: Containerd) -> None:
    for number in range(50):
        same(ctr.run([], "echo", str(number)).out, f"{number}\n")


@operation("10 containers at once leave nothing")
def ten_at_once(ctr: Containerd) -> None:
    with ThreadPoolExecutor(10) as threads:
        outs = threads.map(lambda i: ctr.run([], "echo", str(i)).out, range(10))
    same([*outs], [f"{i}\n" for i in range(10)])


@operation("mistake: no such command", shown=True)
def missing_command(ctr: Containerd) -> str:
    return readable(ctr, ctr.run([], "no-such-command", status=1).message, "no-such-command")


@operation("mistake: no such command for exec", shown=True)
def missing_command_of_exec(ctr: Containerd) -> str:
    name = ctr.start([], "sleep", "100")
    return readable(ctr, ctr.execute(name, "no-such-command", status=1).message, "no-such-command")


@operation("mistake: a missing source of a mount", shown=True)
def bad_mount(ctr: Containerd) -> str:
    mount = "type=bind,src=/no/such/place,dst=/data,options=rbind:ro"
    return readable(ctr, ctr.run(["--mount", mount], "true", status=1).message, "/no/such/place")
