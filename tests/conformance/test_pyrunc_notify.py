"""NOTIFY_SOCKET: a container's readiness reaches whoever started it, as it does through runc."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

pytestmark = pytest.mark.conformance
PATIENCE = 20
# There is no client of the protocol in busybox; "nc local:" speaks streams only.
CLIENT = """
import os, socket, sys
client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
client.connect(os.environ["NOTIFY_SOCKET"])
"""


class Host:
    """What systemd is to a service: a datagram socket; each message is ``(text, descriptors)``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + path[1:] if path.startswith("@") else path)
        self.socket.settimeout(PATIENCE)

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "NOTIFY_SOCKET": self.path}

    def hear(self) -> tuple[bytes, list[int]]:
        data, fds, _, _ = socket.recv_fds(self.socket, 4096, 4)
        return data, list(fds)

    def hear_ready(self) -> int:
        """Take READY=1 and its barrier, which is answered; the MAINPID that came with it."""
        first, fds = self.hear()
        assert not fds
        ready, main_pid = first.split(b"\n")
        assert ready == b"READY=1"
        second, fds = self.hear()
        assert second == b"BARRIER=1"
        (barrier,) = fds
        os.close(barrier)
        return int(main_pid.removeprefix(b"MAINPID="))

    def silent(self) -> bool:
        return not select.select([self.socket], [], [], 0)[0]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(str(tmp_path / "systemd"))
    yield host
    host.socket.close()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """The container's /tmp: with "go" to wait for the test, "never" to wait for ever."""
    path = tmp_path / "inside"
    path.mkdir()
    path.chmod(0o777)
    for name in ("go", "never"):
        os.mkfifo(path / name)
        (path / name).chmod(0o666)
    return path


@pytest.fixture
def service(bundle: BundleMaker, fifo: Path) -> Any:
    """``service(source)``: a bundle that runs Python with a client of the notification socket."""

    def make(source: str, **edits: Any) -> Bundle:
        def edit(config: dict[str, Any]) -> None:
            for path in ("/usr", "/lib", "/lib64", "/bin"):
                if os.path.isdir(path):
                    options = ["rbind", "ro"]
                    config["mounts"].append(
                        {"destination": path, "source": path, "options": options}
                    )
            config["mounts"] += [
                {"destination": "/tmp", "source": str(fifo), "options": ["bind"]},
                {"destination": "/run", "type": "tmpfs", "source": "tmpfs"},
            ]

        made = bundle(["python3", "-S", "-c", CLIENT + source], edit=edit, private_rootfs=True)
        for name in ("lib", "lib64", "usr"):
            (made.rootfs / name).mkdir(exist_ok=True)
        made.process.update(edits)
        made.save()
        return made

    return make


@contextmanager
def running(host: Host, argv: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A call that takes its time; killed at the end of the block, should it still run."""
    with subprocess.Popen(argv, env=host.env, stdin=subprocess.DEVNULL, **options) as popen:
        try:
            yield popen
        finally:
            popen.kill()


@contextmanager
def container(pyrunc: Pyrunc, name: str = "c") -> Iterator[None]:
    """Deletes the container ``name`` at the end of the block."""
    try:
        yield
    finally:
        pyrunc("delete", "--force", name, check=True)


def pid_of(pyrunc: Pyrunc, name: str = "c") -> int:
    import json

    return int(json.loads(pyrunc("state", name, check=True).stdout)["pid"])


READY = "client.send(b'READY=1')\n"
FOREVER = "open('/tmp/never').read()\n"


def test_start_waits_for_readiness_and_tells_whom_to_look_after(
    service: Any, host: Host, pyrunc: Pyrunc, fifo: Path
) -> None:
    made = service("open('/tmp/go').read()\n" + READY + FOREVER)
    with container(pyrunc):
        pyrunc("create", "--bundle", made, "c", env=host.env, check=True)
        assert host.silent()
        with running(host, pyrunc.argv("start", "c")) as start:
            # Opening it waits until the program inside has come so far.
            (fifo / "go").write_bytes(b"\n")
            main_pid = host.hear_ready()
            assert start.wait(PATIENCE) == 0
        assert main_pid == pid_of(pyrunc)
        assert host.silent()


def test_start_is_not_done_before_the_hosts_barrier_is(
    service: Any, host: Host, pyrunc: Pyrunc
) -> None:
    with container(pyrunc):
        pyrunc("create", "--bundle", service(READY + FOREVER), "c", env=host.env, check=True)
        with running(host, pyrunc.argv("start", "c")) as start:
            host.hear()
            _, (barrier,) = host.hear()
            with pytest.raises(subprocess.TimeoutExpired):
                start.wait(0.2)
            os.close(barrier)
            assert start.wait(PATIENCE) == 0


def test_run_detached_waits_for_readiness(service: Any, host: Host, pyrunc: Pyrunc) -> None:
    made = service(READY + FOREVER)
    with container(pyrunc):
        with running(host, pyrunc.argv("run", "-d", "--bundle", made, "c")) as run:
            main_pid = host.hear_ready()
            assert run.wait(PATIENCE) == 0
        assert main_pid == pid_of(pyrunc)


def test_run_in_the_foreground_is_itself_the_service(
    service: Any, host: Host, pyrunc: Pyrunc, fifo: Path
) -> None:
    made = service(READY + "open('/tmp/go').read()\nraise SystemExit(7)")
    with running(host, pyrunc.argv("run", "--bundle", made, "c")) as run:
        assert host.hear_ready() == run.pid
        (fifo / "go").write_bytes(b"\n")
        assert run.wait(PATIENCE) == 7
    assert pyrunc("list", "-q").stdout == ""


def test_readiness_and_the_end_at_once_are_both_told(
    service: Any, host: Host, pyrunc: Pyrunc
) -> None:
    with running(host, pyrunc.argv("run", "--bundle", service(READY), "c")) as run:
        assert host.hear_ready() == run.pid
        assert run.wait(PATIENCE) == 0


@pytest.mark.parametrize("detached", [False, True])
def test_a_container_that_dies_before_it_is_ready_keeps_nobody_waiting(
    detached: bool, service: Any, host: Host, pyrunc: Pyrunc
) -> None:
    """runc 1.1 hangs here in the foreground."""
    made = service("raise SystemExit(5)")
    with container(pyrunc):
        flags = ["-d"] if detached else []
        done = pyrunc("run", *flags, "--bundle", made, "c", env=host.env, timeout=PATIENCE)
        assert done.returncode == (0 if detached else 5)
    assert host.silent()


def test_start_of_a_container_that_dies_before_it_is_ready_returns(
    service: Any, host: Host, pyrunc: Pyrunc
) -> None:
    with container(pyrunc):
        made = service("raise SystemExit(5)")
        pyrunc("create", "--bundle", made, "c", env=host.env, check=True)
        assert pyrunc("start", "c", env=host.env, timeout=PATIENCE).returncode == 0
    assert host.silent()


def test_only_readiness_is_passed_on(service: Any, host: Host, pyrunc: Pyrunc) -> None:
    """A container must not speak for its host's service in any other matter."""
    source = """
for text in (b"MAINPID=1", b"STATUS=x", b"FDSTORE=1", b"NOT READY=1", b"STOPPING=1"):
    client.send(text)
client.send(b"STATUS=up\\nREADY=1\\nWATCHDOG_USEC=1")
for text in (b"READY=1", b"RELOADING=1"):
    client.send(text)
"""
    with running(host, pyrunc.argv("run", "--bundle", service(source), "c")) as run:
        assert host.hear_ready() == run.pid
        assert run.wait(PATIENCE) == 0
    assert host.silent()


def test_a_barrier_inside_is_over_only_after_the_hosts(
    service: Any, host: Host, pyrunc: Pyrunc, fifo: Path
) -> None:
    source = """
mine, theirs = os.pipe()
client.send(b"READY=1")
socket.send_fds(client, [b"BARRIER=1"], [theirs])
os.close(theirs)
said = os.read(mine, 1)
os.write(1, b"over" + said)
"""
    argv = pyrunc.argv("run", "--bundle", service(source), "c")
    with running(host, argv, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        host.hear()
        _, (barrier,) = host.hear()
        assert not select.select([run.stdout], [], [], 0.2)[0]
        os.close(barrier)
        assert run.stdout.read() == b"over"
        assert run.wait(PATIENCE) == 0


def test_a_container_that_reports_without_end_is_never_blocked(
    service: Any, host: Host, pyrunc: Pyrunc
) -> None:
    """A queue of datagrams is short: what nobody reads stops its sender."""
    source = READY + "for _ in range(2000): client.send(b'WATCHDOG=1')"
    with running(host, pyrunc.argv("run", "--bundle", service(source), "c")) as run:
        assert host.hear_ready() == run.pid
        assert run.wait(PATIENCE) == 0


def test_signals_still_reach_a_container_in_the_foreground(
    service: Any, host: Host, pyrunc: Pyrunc
) -> None:
    source = "import signal\nsignal.signal(15, lambda *_: os._exit(9))\n" + READY + "signal.pause()"
    with running(host, pyrunc.argv("run", "--bundle", service(source), "c")) as run:
        host.hear_ready()
        run.send_signal(signal.SIGTERM)
        assert run.wait(PATIENCE) == 9


def test_every_user_inside_may_report(service: Any, host: Host, pyrunc: Pyrunc) -> None:
    made = service(READY, user={"uid": 1000, "gid": 1000})
    with running(host, pyrunc.argv("run", "--bundle", made, "c"), umask=0o077) as run:
        assert host.hear_ready() == run.pid
        assert run.wait(PATIENCE) == 0


def test_root_of_a_user_namespace_may_report(service: Any, host: Host, pyrunc: Pyrunc) -> None:
    made = service(READY)
    mapping = [{"containerID": 0, "hostID": 300_000, "size": 65536}]
    made.linux["namespaces"].append({"type": "user"})
    made.linux.update(uidMappings=mapping, gidMappings=mapping)
    made.save()
    with running(host, pyrunc.argv("run", "--bundle", made, "c")) as run:
        assert host.hear_ready() == run.pid
        assert run.wait(PATIENCE) == 0


def test_the_hosts_socket_may_be_an_abstract_one(service: Any, pyrunc: Pyrunc) -> None:
    host = Host(f"@lpc-test-{os.getpid()}")
    try:
        with running(host, pyrunc.argv("run", "--bundle", service(READY), "c")) as run:
            assert host.hear_ready() == run.pid
            assert run.wait(PATIENCE) == 0
    finally:
        host.socket.close()


def test_the_socket_inside_is_where_runc_has_it(
    bundle: BundleMaker, host: Host, pyrunc: Pyrunc
) -> None:
    script = "echo $NOTIFY_SOCKET; ls -l /run/notify; grep notify /proc/mounts"
    made = bundle(["sh", "-c", script], private_rootfs=True)
    done = pyrunc("run", "--bundle", made, "c", env=host.env, check=True)

    variable, _total, listing, mount = done.stdout.splitlines()
    assert variable == "/run/notify/notify.sock"
    assert listing.startswith("srwxrwxrwx")
    assert set(mount.split()[3].split(",")) >= {"ro", "nosuid", "nodev", "noexec"}


def test_what_is_executed_inside_is_not_the_service(
    service: Any, host: Host, pyrunc: Pyrunc
) -> None:
    with container(pyrunc):
        with running(host, pyrunc.argv("run", "-d", "--bundle", service(READY + FOREVER), "c")):
            host.hear_ready()
        done = pyrunc("exec", "c", "sh", "-c", "echo ${NOTIFY_SOCKET-none}", check=True)
        assert done.stdout == "none\n"


def test_without_the_variable_nothing_is_there(bundle: BundleMaker, pyrunc: Pyrunc) -> None:
    made = bundle(["sh", "-c", "echo ${NOTIFY_SOCKET-none}; ls /run"])

    assert pyrunc("run", "--bundle", made, "c", check=True).stdout == "none\n"


def test_a_socket_of_the_configurations_own_is_left_alone(
    service: Any, host: Host, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    """podman brings the socket by a mount and tells of it in the configuration's environment."""
    made = service(READY, env=["PATH=/usr/bin:/bin", "NOTIFY_SOCKET=/run/own/systemd"])
    made.config["mounts"].append(
        {"destination": "/run/own", "source": str(tmp_path), "options": ["bind"]}
    )
    made.save()
    env = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    done = pyrunc("run", "--bundle", made, "c", env=env)

    assert (done.returncode, done.stderr) == (0, "")
    assert host.hear() == (b"READY=1", [])
    assert host.silent()


def test_a_host_that_is_gone_costs_a_warning_only(
    bundle: BundleMaker, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "nobody")}
    done = pyrunc("run", "--bundle", bundle(["echo", "hi"], private_rootfs=True), "c", env=env)

    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert "level=warning" in done.stderr
    assert "nobody" in done.stderr


def test_a_container_created_without_it_is_started_without_it(
    bundle: BundleMaker, host: Host, pyrunc: Pyrunc
) -> None:
    with container(pyrunc):
        pyrunc("create", "--bundle", bundle(["true"], private_rootfs=True), "c", check=True)
        done = pyrunc("start", "c", env=host.env)
        assert done.returncode == 0
        assert "was not created to report its readiness" in done.stderr


def test_a_container_created_with_it_is_started_without_it(
    bundle: BundleMaker, host: Host, pyrunc: Pyrunc
) -> None:
    with container(pyrunc):
        pyrunc(
            "create",
            "--bundle",
            bundle(["true"], private_rootfs=True),
            "c",
            env=host.env,
            check=True,
        )
        assert pyrunc("start", "c").returncode == 0
    assert host.silent()


def test_a_second_start_does_not_take_the_socket_away(
    service: Any, host: Host, pyrunc: Pyrunc, fifo: Path
) -> None:
    made = service("open('/tmp/go').read()\n" + READY + FOREVER)
    with container(pyrunc):
        pyrunc("create", "--bundle", made, "c", env=host.env, check=True)
        with running(host, pyrunc.argv("start", "c")) as start:
            with open(fifo / "go", "wb") as go:
                done = pyrunc("start", "c", env=host.env)
                assert done.returncode == 1
                assert "running already" in done.stderr
                go.write(b"\n")
            assert host.hear_ready() == pid_of(pyrunc)
            assert start.wait(PATIENCE) == 0


def test_a_dry_run_shows_it_and_makes_nothing(
    bundle: BundleMaker, host: Host, pyrunc: Pyrunc
) -> None:
    done = pyrunc(
        "run",
        "--dry-run",
        "--bundle",
        bundle(["true"], private_rootfs=True),
        "c",
        env=host.env,
        check=True,
    )

    assert f"bind {pyrunc.root}/c/notify on /run/notify" in done.stdout
    assert not os.path.exists(os.path.join(pyrunc.root, "c"))
