"""The units of contrib/systemd, as root and as a user: start, ends of all kinds, what is left."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RUN_PREFIX, Bundle, BundleMaker
from tests.privileged.support import FOREVER, TIMEOUT, sh
from tests.privileged.test_rootless import UID

UNITS = Path(__file__).parents[2] / "contrib/systemd"
TOP = Path("/sys/fs/cgroup")
SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
"""Where systemd looks for a program without a path (man 5 systemd.service)."""
# Whoever ends at SIGTERM, and says so. The first line comes when it is ready for that.
POLITE = sh("trap 'echo bye; exit 0' TERM; echo hello; while :; do sleep 1000 & wait $!; done")
OLDEST = 254
"""The systemd that brought DelegateSubgroup=."""


def version() -> int:
    done = subprocess.run(["systemctl", "--version"], capture_output=True, text=True)
    return int(done.stdout.split()[1].split(".")[0])


def obstacle() -> str:
    """Why the units cannot be tried here, or nothing."""
    if Path("/proc/1/comm").read_text() != "systemd\n":
        return "systemd is not PID 1 here"
    if not (TOP / "cgroup.controllers").exists():
        return "the hierarchy is not cgroup v2 alone"
    if version() < OLDEST:
        return f"systemd is older than {OLDEST}"
    if shutil.which("pyrunc", path=SEARCHED) is None:
        return f"pyrunc is not in {SEARCHED}"
    return ""


pytestmark = [
    pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "it can be tried here"),
    pytest.mark.privileged_caller("units of the host's systemd"),
    pytest.mark.no_user_namespace("the bundles are those of an unmapped root"),
]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the time is up"
        time.sleep(0.05)


class Service:
    """One instance of a template, run by systemd under a name of this test's own."""

    state = Path("/run/libpycontainer")

    def __init__(self, template: str, bundle: Bundle) -> None:
        self.name = f"{RUN_PREFIX}-{secrets.token_hex(4)}"
        self.unit = f"{template}@{self.name}.service"
        self.file = UNITS / f"{template}@.service"
        self.units = Path("/run/systemd/system")
        self.home = Path("/var/lib/pyrunc")
        self.pid_file = Path(f"/run/pyrunc-{self.name}.pid")
        # Its group is to be found by the command, below the unit's.
        bundle.linux.pop("cgroupsPath", None)
        bundle.save()
        self.bundle = bundle

    def run(self, *command: str, check: bool = True) -> str:
        """What a command prints, as the owner of the service."""
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            cwd="/",
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0 or not check, done.stderr + self.journal()
        return done.stdout

    def control(self, verb: str, *args: str, check: bool = True) -> str:
        return self.run("systemctl", "--no-pager", verb, *args, check=check)

    def journal(self) -> str:
        query = ["journalctl", "--no-pager", "-o", "cat", f"_SYSTEMD_UNIT={self.unit}"]
        return subprocess.run(query, capture_output=True, text=True).stdout

    def install(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / self.name).symlink_to(self.bundle.path)
        self.units.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.file, self.units)
        self.control("daemon-reload")

    def remove(self) -> None:
        # What failed on its way is cleared away, and told by the next two.
        self.control("stop", self.unit, check=False)
        self.control("reset-failed", self.unit, check=False)
        (self.home / self.name).unlink()
        for path in (self.units / self.file.name, self.units / f"{self.unit}.d"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.control("daemon-reload")

    def override(self, text: str) -> None:
        """Change the service by a drop-in, as ``systemctl edit`` does."""
        directory = self.units / f"{self.unit}.d"
        directory.mkdir()
        (directory / "override.conf").write_text(f"[Service]\n{text}\n")
        self.control("daemon-reload")

    def shown(self, name: str) -> str:
        return self.control("show", "--value", f"--property={name}", self.unit).strip()

    @property
    def main_pid(self) -> int:
        return int(self.shown("MainPID"))

    @property
    def group(self) -> Path:
        return TOP / self.shown("ControlGroup").lstrip("/")

    def start(self) -> int:
        self.control("start", self.unit)
        return self.main_pid

    def restarted(self, times: int) -> bool:
        return self.shown("NRestarts") == str(times) and self.shown("ActiveState") == "active"

    def running(self) -> int:
        """The pid of the container's init, or 0 where it does not run."""
        listed = json.loads(self.run("pyrunc", "list", "--format", "json")) or []
        pids = (
            each["pid"] for each in listed if (each["id"], each["status"]) == (self.name, "running")
        )
        return next(pids, 0)

    def nothing_left(self) -> bool:
        """No record, no cgroup, no mount, no pid file."""
        mounts = Path("/proc/self/mountinfo").read_text()
        groups = [path for path, _, _ in os.walk(TOP) if self.name in path]
        files = [path for path in (self.state / self.name, self.pid_file) if path.exists()]
        return not groups and not files and self.name not in mounts


class UsersService(Service):
    """The same by the systemd of a user."""

    state = Path(f"/run/user/{UID}/libpycontainer")

    def __init__(self, template: str, bundle: Bundle) -> None:
        super().__init__(template, bundle)
        home = Path(pwd.getpwuid(UID).pw_dir)
        self.file = UNITS / "user" / f"{template}@.service"
        self.units = Path(f"/run/user/{UID}/systemd/user")
        self.home = home / ".local/share/pyrunc"
        self.pid_file = Path(f"/run/user/{UID}/pyrunc-{self.name}.pid")

    def run(self, *command: str, check: bool = True) -> str:
        runtime = f"/run/user/{UID}"
        address = f"unix:path={runtime}/bus"
        user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--init-groups", "env"]
        own = [f"XDG_RUNTIME_DIR={runtime}", f"DBUS_SESSION_BUS_ADDRESS={address}"]
        return super().run(*user, *own, *command, check=check)

    def control(self, verb: str, *args: str, check: bool = True) -> str:
        return self.run("systemctl", "--no-pager", "--user", verb, *args, check=check)

    def journal(self) -> str:
        query = ["journalctl", "--no-pager", "-o", "cat", f"_SYSTEMD_USER_UNIT={self.unit}"]
        return subprocess.run(query, capture_output=True, text=True).stdout


Services = Callable[..., Service]


@pytest.fixture
def service(bundle: BundleMaker) -> Iterator[Services]:
    """``service("pyrunc", args)``: an instance of that template, installed and not started."""
    made: list[Service] = []

    def make(template: str, args: list[str], edit: Any = None) -> Service:
        found = Service(template, bundle(args, edit=edit))
        made.append(found)
        found.install()
        return found

    yield make
    for each in made:
        each.remove()
        assert each.nothing_left()


def test_started_it_is_the_container(service: Services) -> None:
    def limit(config: dict[str, Any]) -> None:
        config["linux"].setdefault("resources", {})["memory"] = {"limit": 1 << 26}

    web = service("pyrunc", POLITE, limit)
    pid = web.start()
    assert web.running() == pid
    assert int(web.pid_file.read_text()) == pid
    group = web.group / web.name
    assert str(pid) in (group / "cgroup.procs").read_text().split()
    web.control("daemon-reload")
    assert (group / "memory.max").read_text().strip() == str(1 << 26)
    wait_for(lambda: "hello" in web.journal())
    web.control("stop", web.unit)
    assert web.nothing_left()
    assert web.shown("Result") == "success"
    assert "bye" in web.journal()


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
@pytest.mark.parametrize("sender", ["systemctl", "pyrunc"])
def test_a_container_that_ends_comes_again(sender: str, signal: str, service: Services) -> None:
    web = service("pyrunc", POLITE)
    before = web.start()
    wait_for(lambda: "hello" in web.journal())
    if sender == "systemctl":
        web.control("kill", f"--signal={signal}", web.unit)
    else:
        web.run("pyrunc", "kill", web.name, signal)
    wait_for(lambda: web.restarted(1))
    assert web.main_pid != before
    assert web.running() == web.main_pid


def test_one_that_does_not_listen_is_killed_in_the_end(service: Services) -> None:
    web = service("pyrunc", [*FOREVER])
    web.override("TimeoutStopSec=1s")
    web.start()
    # An init without a handler does not even get SIGTERM.
    web.control("stop", web.unit)
    assert web.shown("Result") == "timeout"
    assert web.nothing_left()


def test_what_is_left_of_the_one_before_is_in_nobodys_way(service: Services) -> None:
    web = service("pyrunc", POLITE)
    web.run("sh", "-c", f"pyrunc run -d -b {web.bundle} {web.name} </dev/null >/dev/null 2>&1")
    assert web.running()
    first = web.start()
    assert web.running() == first
    web.control("stop", web.unit)
    # What a power cut leaves of a state root on a disk.
    torn = web.state / web.name
    torn.mkdir(mode=0o700)
    (torn / "state.json").touch()
    assert web.start() > 1
    assert web.running()


def test_the_fields_own_lines_work_too(service: Services) -> None:
    web = service("pyrunc", POLITE)
    lines = ["Delegate=no", "DelegateSubgroup=", "KillMode=control-group", "ExecStartPre="]
    lines += ["ExecStartPre=-pyrunc kill %i KILL", "ExecStartPre=-pyrunc delete %i"]
    web.override("\n".join(lines))
    pid = web.start()
    # Without a group that was delegated, the container has one beside the service's.
    assert (web.group.parent / web.name / "cgroup.procs").read_text().split()[0] == str(pid)
    os.kill(pid, 9)
    wait_for(lambda: web.restarted(1))


def test_a_bundle_that_is_not_there_is_told(service: Services) -> None:
    web = service("pyrunc", POLITE)
    web.override("Restart=no")
    os.unlink(web.bundle.path / "config.json")
    web.control("start", web.unit, check=False)
    assert web.shown("Result") == "exit-code"
    assert "config.json" in web.journal()


def test_a_scope_of_its_own(service: Services) -> None:
    web = service("pyrunc", POLITE)
    run = f"pyrunc --systemd-cgroup run -d -b {web.bundle} --pid-file {web.pid_file} {web.name}"
    web.override(f"ExecStart=\nExecStart={run}")
    pid = web.start()
    scope = f"runc-{web.name}.scope"
    assert scope in Path(f"/proc/{pid}/cgroup").read_text()
    os.kill(pid, 9)
    wait_for(lambda: web.restarted(1))
    web.control("stop", web.unit)
    assert scope not in web.control("list-units", "--all", "--plain")


READY = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: (print("bye", flush=True), sys.exit(0)))
client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
client.connect(os.environ["NOTIFY_SOCKET"])
open("/tmp/go").read()
client.send(b"READY=1")
while True:
    signal.pause()
"""


@pytest.fixture
def waiting(tmp_path: Path) -> tuple[Path, Callable[[dict[str, Any]], None]]:
    """A pipe, and an edit for a program of Python that is ready when the pipe was opened."""
    os.mkfifo(tmp_path / "go")

    def edit(config: dict[str, Any]) -> None:
        config["process"]["args"] = ["python3", "-S", "-c", READY]
        mounts = [
            {"destination": path, "source": path, "options": ["rbind", "ro"]}
            for path in ("/usr", "/lib", "/lib64", "/bin")
        ]
        mounts.append({"destination": "/tmp", "source": str(tmp_path), "options": ["bind"]})
        mounts.append({"destination": "/run", "type": "tmpfs", "source": "tmpfs"})
        config["mounts"] += mounts

    return tmp_path / "go", edit


def test_ready_when_the_program_says_so(
    service: Services, waiting: tuple[Path, Callable[[dict[str, Any]], None]]
) -> None:
    pipe, edit = waiting
    web = service("pyrunc-notify", POLITE, edit)
    web.control("start", "--no-block", web.unit)
    wait_for(web.running)
    first = web.running()
    assert web.shown("ActiveState") == "activating"
    pipe.write_text("")
    wait_for(lambda: web.shown("ActiveState") == "active")
    # pyrunc stays, in its own group, and passes SIGTERM on.
    assert web.main_pid != first
    assert str(web.main_pid) in (web.group / "pyrunc/cgroup.procs").read_text().split()
    os.kill(web.main_pid, 9)
    wait_for(lambda: web.running() not in (0, first))
    pipe.write_text("")
    wait_for(lambda: web.restarted(1))
    web.control("stop", web.unit)
    assert web.shown("Result") == "success"
    assert "bye" in web.journal()
    assert web.nothing_left()


def test_one_that_ends_before_it_is_ready_has_failed(service: Services) -> None:
    web = service("pyrunc-notify", ["true"])
    web.override("Restart=no")
    web.control("start", web.unit, check=False)
    assert web.shown("Result") == "protocol"
    assert web.nothing_left()


@pytest.fixture
def users(bundle: BundleMaker) -> Iterator[UsersService]:
    if not Path(f"/run/user/{UID}/bus").exists():
        pytest.skip(f"user {UID} has no systemd of his own running (loginctl enable-linger)")
    from libpycontainer.spec import default

    made = bundle(POLITE)
    rootless = default.config(rootless=True)
    rootless["root"]["path"] = made.config["root"]["path"]
    rootless["process"].update(args=POLITE, terminal=False)
    for kind in ("uidMappings", "gidMappings"):
        rootless["linux"][kind] = [{"containerID": 0, "hostID": UID, "size": 1}]
    rootless["linux"]["resources"] = {"memory": {"limit": 1 << 26}}
    made.config = rootless
    found = UsersService("pyrunc", made)
    account = pwd.getpwuid(UID)
    kept = [path for path in (found.home, *found.home.parents) if not path.exists()]
    kept += [path for path in (found.units, found.units.parent) if not path.exists()]
    for path in (found.home, found.units):
        path.mkdir(parents=True, exist_ok=True)
    for path in kept:
        os.chown(path, UID, account.pw_gid)
    found.install()
    yield found
    found.remove()
    assert found.nothing_left()


def test_a_users_own_service(users: UsersService) -> None:
    pid = users.start()
    assert users.running() == pid
    assert os.stat(f"/proc/{pid}").st_uid == UID
    group = users.group / users.name
    assert str(pid) in (group / "cgroup.procs").read_text().split()
    assert (group / "memory.max").read_text().strip() == str(1 << 26)
    wait_for(lambda: "hello" in users.journal())
    os.kill(pid, 9)
    wait_for(lambda: users.restarted(1))
    users.control("stop", users.unit)
    assert users.nothing_left()
