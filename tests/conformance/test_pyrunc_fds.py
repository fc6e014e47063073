"""Which descriptors reach a container's processes: those that were asked for, and no other."""

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
STRAYS = (3, 4, 8, 9, 30, 63)
# The shell itself looks, so that nothing is open but what it was given; nor does it keep its own
# output aside, as it would for a redirection that ends.
LIST = "fd=3; while [ $fd -lt 80 ]; do [ -e /proc/self/fd/$fd ] && echo $fd; fd=$((fd+1)); done"
WAITING = "read line < /tmp/never"


def call(
    argv: list[str], fds: dict[int, int], script: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``argv`` with exactly ``fds`` (number: what is open there), all of them inheritable.

    ``script`` is what a shell does first, in the process that becomes ``argv``. Output goes through
    files: a container left running would keep a pipe open.
    """
    inherited = sorted(set(fds.values()))
    plumbing = " ".join(f"{number}<&{fd}" for number, fd in fds.items())
    closing = " ".join(f"{fd}<&-" for fd in inherited if fd not in fds)
    shell = f'{script}\nexec "$@" {plumbing} {closing}'
    out = os.memfd_create("out")
    try:
        done = subprocess.run(
            ["bash", "-c", shell, "bash", *argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=inherited,
            timeout=PATIENCE,
            env=env,
        )
        text = os.pread(out, 1 << 16, 0).decode()
    finally:
        os.close(out)
    return subprocess.CompletedProcess(argv, done.returncode, text, "")


@pytest.fixture
def strays(tmp_path: Path) -> Iterator[dict[int, int]]:
    """A file of the host's, open at every number of ``STRAYS`` in the process to be called."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    # Out of the way of the numbers that it is to be put at.
    high = os.dup2(fd, 200)
    os.close(fd)
    yield dict.fromkeys(STRAYS, high)
    os.close(high)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[dict[int, int]]:
    """Files that say "3", "4", "5" ..., open at those numbers in the process to be called."""
    found = {}
    for number in range(3, 8):
        path = tmp_path / f"file-{number}"
        path.write_text(f"{number}\n", encoding="ascii")
        fd = os.open(path, os.O_RDONLY)
        found[number] = os.dup2(fd, 200 + number)
        os.close(fd)
    yield found
    for fd in found.values():
        os.close(fd)


@pytest.fixture
def waiting(bundle: BundleMaker, tmp_path: Path) -> Bundle:
    """A bundle that lists its descriptors into /tmp/list, and then waits for ever."""
    inside = tmp_path / "inside"
    inside.mkdir()
    os.mkfifo(inside / "never")

    def edit(config: dict[str, Any]) -> None:
        config["mounts"].append({"destination": "/tmp", "source": str(inside), "options": ["bind"]})

    return bundle(["sh", "-c", f"exec > /tmp/list 2>&1; {LIST}; {WAITING}"], edit=edit)


@contextmanager
def started(pyrunc: Pyrunc, made: Bundle) -> Iterator[str]:
    pyrunc("run", "-d", "--bundle", made, "c", check=True)
    try:
        yield "c"
    finally:
        pyrunc("delete", "--force", "c", check=True)


def test_run_passes_no_stray_on(
    bundle: BundleMaker, pyrunc: Pyrunc, strays: dict[int, int]
) -> None:
    done = call(pyrunc.argv("run", "--bundle", str(bundle(["sh", "-c", LIST])), "c"), strays)

    assert (done.returncode, done.stdout) == (0, "")


def test_create_and_start_pass_no_stray_on(
    bundle: BundleMaker, pyrunc: Pyrunc, strays: dict[int, int], tmp_path: Path
) -> None:
    """Neither those of create, which init could have kept, nor those of start."""
    out = tmp_path / "out"
    out.mkdir()
    made = bundle(["sh", "-c", f"exec > /tmp/list 2>&1; {LIST}; echo done"])
    made.config["mounts"].append({"destination": "/tmp", "source": str(out), "options": ["bind"]})
    made.save()
    try:
        done = call(
            pyrunc.argv("create", "--bundle", str(made), "--pid-file", f"{out}/p", "c"), strays
        )
        assert (done.returncode, done.stdout) == (0, "")
        pidfd = os.pidfd_open(int((out / "p").read_text(encoding="ascii")))
        done = call(pyrunc.argv("start", "c"), strays)
        assert (done.returncode, done.stdout) == (0, "")
        assert select.select([pidfd], [], [], PATIENCE)[0]
        os.close(pidfd)
        assert (out / "list").read_text(encoding="ascii") == "done\n"
    finally:
        pyrunc("delete", "--force", "c", check=True)


@pytest.mark.parametrize("flags", [[], ["--preserve-fds", "0"]])
def test_exec_passes_no_stray_on(
    flags: list[str], waiting: Bundle, pyrunc: Pyrunc, strays: dict[int, int]
) -> None:
    with started(pyrunc, waiting) as name:
        done = call(pyrunc.argv("exec", *flags, name, "sh", "-c", LIST), strays)
    assert (done.returncode, done.stdout) == (0, "")


def test_exec_detached_passes_no_stray_on(
    waiting: Bundle, pyrunc: Pyrunc, strays: dict[int, int], tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    with started(pyrunc, waiting) as name:
        script = f"{LIST}; {WAITING}"
        argv = pyrunc.argv("exec", "-d", "--pid-file", str(pid_file), name, "sh", "-c", script)
        done = call(argv, strays)
        assert (done.returncode, done.stdout) == (0, "")
        # Descriptors as the host sees them, of a process that only waits.
        found = os.listdir(f"/proc/{pid_file.read_text(encoding='ascii')}/fd")
        assert {int(number) for number in found} - {0, 1, 2} <= set(), found


def test_a_terminal_comes_alone(
    bundle: BundleMaker, pyrunc: Pyrunc, strays: dict[int, int], tmp_path: Path
) -> None:
    made = bundle(["sh", "-c", f"{LIST}; echo done"])
    made.process["terminal"] = True
    made.save()
    path = str(tmp_path / "console")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        argv = pyrunc.argv("run", "-d", "--console-socket", path, "--bundle", str(made), "c")
        try:
            assert call(argv, strays).returncode == 0
            connection, _ = listener.accept()
            with connection:
                _, (master,), _, _ = socket.recv_fds(connection, 100, 1)
            text = b""
            while b"done" not in text:
                text += os.read(master, 100)
            os.close(master)
            assert text == b"done\r\n"
        finally:
            pyrunc("delete", "--force", "c", check=True)


HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@pytest.mark.parametrize("kind", HOOKS)
def test_a_hook_gets_its_state_and_nothing_else(
    kind: str, bundle: BundleMaker, pyrunc: Pyrunc, strays: dict[int, int], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    inside = kind == "startContainer"
    made = bundle(["true"])
    script = f"exec > {'/tmp' if inside else out}/{kind}; {LIST}; echo done"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}
    made.config["hooks"] = {kind: [hook]}
    made.config["mounts"].append({"destination": "/tmp", "source": str(out), "options": ["bind"]})
    made.save()
    done = call(pyrunc.argv("run", "--bundle", str(made), "c"), strays)

    assert (done.returncode, done.stdout) == (0, "")
    assert (out / kind).read_text(encoding="ascii") == "done\n"


READ = 'for fd in 3 4 5 6 7; do [ -e /proc/self/fd/$fd ] && eval "cat <&$fd"; done; true'
TELL = 'echo "${LISTEN_FDS-unset} ${LISTEN_PID-unset}"'
OWN = "export LISTEN_PID=$$ LISTEN_FDS=%d"


@pytest.mark.parametrize(
    ("script", "preserve", "wanted"),
    [
        (":", 2, "unset unset\n3\n4\n"),
        (OWN % 2, 0, "2 1\n3\n4\n"),
        # The preserved ones come after those of the activation.
        (OWN % 1, 2, "1 1\n3\n4\n5\n"),
        (OWN % 0, 1, "unset unset\n3\n"),
        # podman hands on the variables of its own activation, next to --preserve-fds.
        ("export LISTEN_PID=1 LISTEN_FDS=1", 1, "unset unset\n3\n"),
        ("export LISTEN_FDS=2", 1, "unset unset\n3\n"),
        ("export LISTEN_PID=$$ LISTEN_FDS=x", 1, "unset unset\n3\n"),
    ],
)
def test_what_is_asked_for_arrives_in_its_order(
    script: str,
    preserve: int,
    wanted: str,
    bundle: BundleMaker,
    pyrunc: Pyrunc,
    files: dict[int, int],
) -> None:
    made = bundle(["sh", "-c", f"{TELL}; {READ}"])
    argv = pyrunc.argv("run", "--preserve-fds", str(preserve), "--bundle", str(made), "c")
    done = call(argv, files, script)

    assert (done.returncode, done.stdout) == (0, wanted)


def test_create_keeps_them_for_start(
    bundle: BundleMaker, pyrunc: Pyrunc, files: dict[int, int], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    made = bundle(["sh", "-c", f"exec > /tmp/list; {TELL}; {READ}"])
    made.config["mounts"].append({"destination": "/tmp", "source": str(out), "options": ["bind"]})
    made.save()
    try:
        argv = pyrunc.argv("create", "--preserve-fds", "1", "--bundle", str(made), "c")
        assert call(argv, files, OWN % 1).returncode == 0
        pidfd = os.pidfd_open(_pid(pyrunc))
        assert call(pyrunc.argv("start", "c"), {}).returncode == 0
        assert select.select([pidfd], [], [], PATIENCE)[0]
        os.close(pidfd)
        assert (out / "list").read_text(encoding="ascii") == "1 1\n3\n4\n"
    finally:
        pyrunc("delete", "--force", "c", check=True)


def _pid(pyrunc: Pyrunc) -> int:
    import json

    return int(json.loads(pyrunc("state", "c", check=True).stdout)["pid"])


def test_exec_takes_preserved_ones_and_no_activation(
    waiting: Bundle, pyrunc: Pyrunc, files: dict[int, int]
) -> None:
    """runc's exec does not look at LISTEN_FDS; neither is it in the environment from create."""
    with started(pyrunc, waiting) as name:
        argv = pyrunc.argv("exec", "--preserve-fds", "2", name, "sh", "-c", f"{TELL}; {READ}")
        done = call(argv, files, OWN % 1)
    assert (done.returncode, done.stdout) == (0, "unset unset\n3\n4\n")


def test_the_activation_is_not_told_to_what_is_executed_later(
    waiting: Bundle, pyrunc: Pyrunc, files: dict[int, int]
) -> None:
    argv = pyrunc.argv("run", "-d", "--bundle", str(waiting), "c")
    assert call(argv, files, OWN % 1).returncode == 0
    try:
        done = pyrunc("exec", "c", "sh", "-c", TELL, check=True)
        assert done.stdout == "unset unset\n"
    finally:
        pyrunc("delete", "--force", "c", check=True)


@pytest.mark.parametrize(
    ("script", "preserve", "words"),
    [
        (":", 1, "descriptor 3 is to be preserved"),
        (OWN % 1, 0, "descriptor 3 is to be preserved"),
        (":", -1, "must not be negative"),
    ],
)
def test_what_is_not_there_cannot_be_passed_on(
    script: str, preserve: int, words: str, bundle: BundleMaker, pyrunc: Pyrunc
) -> None:
    made = bundle(["true"])
    for verb in ("run", "create"):
        argv = pyrunc.argv(verb, f"--preserve-fds={preserve}", "--bundle", str(made), "c")
        done = call(argv, {}, script)
        assert done.returncode == 1
        assert words in done.stdout
    assert pyrunc("list", "-q").stdout == ""


# ---- --pidfd-socket ------------------------------------------------------------------------------


@contextmanager
def pidfd_socket(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    path = str(tmp_path / "pidfd")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(PATIENCE)
        yield path, listener


def receive(listener: socket.socket) -> tuple[bytes, int]:
    connection, _ = listener.accept()
    with connection:
        text, (pidfd,), _, _ = socket.recv_fds(connection, 100, 1)
    return text, pidfd


def pid_behind(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as info:
        (line,) = (line for line in info if line.startswith("Pid:"))
    return int(line.split()[1])


@pytest.mark.parametrize("verb", [["create"], ["run", "-d"]])
def test_the_pidfd_is_that_of_init(
    verb: list[str], waiting: Bundle, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    with pidfd_socket(tmp_path) as (path, listener):
        try:
            pyrunc(*verb, "--pidfd-socket", path, "--bundle", waiting, "c", check=True)
            text, pidfd = receive(listener)
            assert text == b"standard"
            assert pid_behind(pidfd) == _pid(pyrunc)
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            assert select.select([pidfd], [], [], PATIENCE)[0]
            os.close(pidfd)
        finally:
            pyrunc("delete", "--force", "c", check=True)


def test_run_in_the_foreground_sends_its_pidfd(
    bundle: BundleMaker, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    with pidfd_socket(tmp_path) as (path, listener):
        made = bundle(["sh", "-c", "echo up; cat"])
        argv = pyrunc.argv("run", "--pidfd-socket", path, "--bundle", str(made), "c")
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as run:
            _, pidfd = receive(listener)
            assert run.stdout is not None
            assert run.stdout.readline() == b"up\n"
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            assert run.wait(PATIENCE) == 128 + signal.SIGKILL
            os.close(pidfd)


def test_exec_sends_the_pidfd_of_its_process(
    waiting: Bundle, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    with started(pyrunc, waiting) as name, pidfd_socket(tmp_path) as (path, listener):
        flags = ["-d", "--pid-file", str(pid_file), "--pidfd-socket", path]
        pyrunc("exec", *flags, name, "sh", "-c", WAITING, check=True)
        text, pidfd = receive(listener)
        assert text == b"setns"
        assert pid_behind(pidfd) == int(pid_file.read_text(encoding="ascii")) != _pid(pyrunc)
        os.close(pidfd)


def test_a_pidfd_socket_that_nobody_listens_on_leaves_nothing(
    waiting: Bundle, pyrunc: Pyrunc
) -> None:
    for verb in ("create", "run"):
        done = pyrunc(verb, "--pidfd-socket", "/nonexistent", "--bundle", waiting, "c")
        assert done.returncode == 1
        assert "dial unix /nonexistent" in done.stderr
    assert pyrunc("list", "-q").stdout == ""
    with started(pyrunc, waiting) as name:
        done = pyrunc("exec", "--pidfd-socket", "/nonexistent", name, "sh", "-c", WAITING)
        assert done.returncode == 255
        assert "dial unix /nonexistent" in done.stderr
