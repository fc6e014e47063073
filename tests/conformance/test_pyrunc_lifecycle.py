"""The verbs as a supervisor calls them: create, start, state, list, exec, kill, delete."""

from __future__ import annotations

import json
import os
import re
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
# Ends on SIGTERM with a code of its own; waits for ever otherwise, without a child.
WAITING = "trap 'exit 9' TERM; read line < /tmp/never"


@pytest.fixture
def waiting(bundle: BundleMaker, tmp_path: Path) -> Bundle:
    """A bundle whose program waits until it is signalled; /tmp inside is ``tmp_path``."""
    os.mkfifo(tmp_path / "never")

    def edit(config: dict[str, Any]) -> None:
        config["mounts"].append(
            {"destination": "/tmp", "source": str(tmp_path), "options": ["bind"]}
        )

    return bundle(["sh", "-c", WAITING], edit=edit)


@contextmanager
def created(pyrunc: Pyrunc, made: Bundle, *flags: str, name: str = "c") -> Iterator[str]:
    pyrunc("create", *flags, "--bundle", made, name, check=True)
    try:
        yield name
    finally:
        pyrunc("delete", "--force", name, check=True)


def state(pyrunc: Pyrunc, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(pyrunc("state", name, check=True).stdout)
    return document


def wait_for_end(pid: int) -> None:
    """Until the process ``pid`` has ended; it may still be a zombie."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([pidfd], [], [], PATIENCE)[0], f"process {pid} does not end"
    finally:
        os.close(pidfd)


def logged(done: subprocess.CompletedProcess[str]) -> str:
    """The one message of a call that failed."""
    (line,) = done.stderr.splitlines()
    message = re.fullmatch(r'time="[^"]+" level=error msg=(.*)', line)
    assert message, line
    return message[1].removeprefix('"').removesuffix('"').replace('\\"', '"')


def test_the_life_of_a_container(waiting: Bundle, pyrunc: Pyrunc) -> None:
    with created(pyrunc, waiting) as name:
        before = state(pyrunc, name)
        assert before["status"] == "created"
        assert list(before) == [
            "ociVersion",
            "id",
            "pid",
            "status",
            "bundle",
            "rootfs",
            "created",
            "owner",
        ]
        assert before["bundle"] == str(waiting)
        assert before["rootfs"] == str(waiting.rootfs)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", before["created"])

        assert pyrunc("start", name).returncode == 0
        running = state(pyrunc, name)
        assert (running["status"], running["pid"]) == ("running", before["pid"])

        assert pyrunc("kill", name, "15").returncode == 0
        wait_for_end(running["pid"])
        after = state(pyrunc, name)
        assert (after["status"], after["pid"]) == ("stopped", 0)

        assert pyrunc("delete", name).returncode == 0
        assert "container does not exist" in logged(pyrunc("state", name))


def test_annotations_are_in_the_state(waiting: Bundle, pyrunc: Pyrunc) -> None:
    waiting.config["annotations"] = {"b": "2", "a": "<1>"}
    waiting.save()
    with created(pyrunc, waiting) as name:
        assert state(pyrunc, name)["annotations"] == {"a": "<1>", "b": "2"}


def test_list_shows_them_in_each_form(waiting: Bundle, bundle: BundleMaker, pyrunc: Pyrunc) -> None:
    assert pyrunc("list").stdout == (
        "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    )
    assert pyrunc("list", "--format", "json").stdout == "null\n"
    assert pyrunc("list", "-q").stdout == ""

    with created(pyrunc, waiting, name="b"), created(pyrunc, bundle(["true"]), name="a"):
        pyrunc("start", "a", check=True)
        if pid := state(pyrunc, "a")["pid"]:
            wait_for_end(pid)

        assert pyrunc("list", "--quiet").stdout == "a\nb\n"
        rows = [line.split() for line in pyrunc("list").stdout.splitlines()[1:]]
        assert [(row[0], row[2], row[5]) for row in rows] == [
            ("a", "stopped", "root"),
            ("b", "created", "root"),
        ]
        first, second = json.loads(pyrunc("list", "--format=json").stdout)
        assert (first["id"], first["pid"], first["owner"]) == ("a", 0, "root")
        assert second == {**state(pyrunc, "b"), "owner": "root"}


def test_one_unreadable_container_does_not_hide_the_others(waiting: Bundle, pyrunc: Pyrunc) -> None:
    with created(pyrunc, waiting) as name:
        for broken, text in (("broken", "{"), ("begun", None)):
            directory = Path(pyrunc.root, broken)
            directory.mkdir()
            if text is not None:
                (directory / "state.json").write_text(text, encoding="ascii")
        done = pyrunc("list", "--quiet")
        assert (done.returncode, done.stdout) == (0, f"{name}\n")
        assert "load container begun: container does not exist" in done.stderr
        assert "load container broken: container does not exist" in done.stderr
        assert f"cannot read {pyrunc.root}/broken/state.json" in done.stderr
        for name in ("begun", "broken"):
            assert pyrunc("delete", "--force", name).returncode == 0
            assert not Path(pyrunc.root, name).exists()


def test_the_pid_file_is_there_when_the_call_returns(
    waiting: Bundle, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    path = tmp_path / "pid"
    with created(pyrunc, waiting, "--pid-file", str(path)) as name:
        assert int(path.read_text(encoding="ascii")) == state(pyrunc, name)["pid"]
        pyrunc("start", name, check=True)
        pyrunc("exec", "-d", "--pid-file", path, name, "sh", "-c", WAITING, check=True)
        assert int(path.read_text(encoding="ascii")) != state(pyrunc, name)["pid"]
        assert not [entry for entry in os.listdir(tmp_path) if entry.startswith(".")]


def test_a_pid_file_that_cannot_be_written_leaves_nothing(waiting: Bundle, pyrunc: Pyrunc) -> None:
    done = pyrunc("create", "--pid-file", "/nonexistent/pid", "--bundle", waiting, "c")

    assert done.returncode == 1
    assert "/nonexistent/pid" in logged(done)
    assert pyrunc("list", "-q").stdout == ""


def test_the_pidfd_goes_to_its_socket(waiting: Bundle, pyrunc: Pyrunc, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        with created(pyrunc, waiting, "--pidfd-socket", path) as name:
            connection, _ = listener.accept()
            with connection:
                _, (pidfd,), _, _ = socket.recv_fds(connection, 100, 1)
            pyrunc("start", name, check=True)
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            assert select.select([pidfd], [], [], PATIENCE)[0]
            os.close(pidfd)
            assert state(pyrunc, name)["status"] == "stopped"


def test_preserved_descriptors_arrive_and_strays_do_not(
    bundle: BundleMaker, pyrunc: Pyrunc
) -> None:
    script = "cd /proc/self/fd; for fd in 3 4 5 6 7 8 9; do [ -e $fd ] && echo $fd; done; cat <&3"
    made = bundle(["sh", "-c", script])
    done = subprocess.run(
        [
            *("sh", "-c", 'exec "$@" 3<&0 4<&0 8<&0 </dev/null', "sh"),
            *pyrunc.argv("run", "--preserve-fds", "1", "--bundle", made, "c"),
        ],
        input="from outside\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert (done.stdout, done.stderr) == ("3\nfrom outside\n", "")


def test_socket_activation_is_passed_on(bundle: BundleMaker, pyrunc: Pyrunc) -> None:
    made = bundle(["sh", "-c", 'echo "$LISTEN_FDS $LISTEN_PID"; cat <&3'])
    script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&0 </dev/null'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *pyrunc.argv("run", "--bundle", made, "c")],
        input="typed",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert (done.stdout, done.stderr) == ("1 1\ntyped", "")


def test_exec_gives_the_code_of_its_process(waiting: Bundle, pyrunc: Pyrunc) -> None:
    with created(pyrunc, waiting) as name:
        pyrunc("start", name, check=True)
        done = pyrunc("exec", name, "sh", "-c", "cat; echo err >&2; exit 5", input="in")
        assert (done.returncode, done.stdout, done.stderr) == (5, "in", "err\n")
        assert pyrunc("exec", name, "sh", "-c", "kill -KILL $$").returncode == 137


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["nothing"], 'exec: "nothing": executable file not found in $PATH'),
        (["/etc/passwd"], "permission denied"),
        (["/etc"], "permission denied"),
        (["/bin/nothing"], "no such file or directory"),
    ],
)
def test_a_command_that_cannot_be_run_is_named(
    command: list[str], words: str, waiting: Bundle, bundle: BundleMaker, pyrunc: Pyrunc
) -> None:
    with created(pyrunc, waiting) as name:
        pyrunc("start", name, check=True)
        done = pyrunc("exec", name, *command)
        assert done.returncode == 255
        message = logged(done)
        assert message.startswith("exec failed: unable to start container process: ")
        assert words in message

    done = pyrunc("run", "--bundle", bundle(command), "c")
    assert done.returncode == 1
    assert logged(done).startswith("pyrunc run failed: unable to start container process: ")
    assert words in logged(done)
    assert pyrunc("list", "-q").stdout == ""


def test_exec_takes_a_process_document(waiting: Bundle, pyrunc: Pyrunc, tmp_path: Path) -> None:
    document = {
        "args": ["sh", "-c", "echo $X; id -u; pwd"],
        "env": ["X=5", "PATH=/bin"],
        "cwd": "/etc",
        "user": {"uid": 1000, "gid": 50},
    }
    path = tmp_path / "process.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with created(pyrunc, waiting) as name:
        pyrunc("start", name, check=True)
        done = pyrunc("exec", "--process", path, name, check=True)
        assert done.stdout == "5\n1000\n/etc\n"

        path.write_text('{"args": ["sh"], "cwd": 5}', encoding="utf-8")
        done = pyrunc("exec", "-p", path, name)
        assert done.returncode == 255
        assert "$.cwd" in logged(done)


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["exec", "c"], 255, "process args cannot be empty"),
        (["exec", "--user", "app", "c", "id"], 255, "parsing app as int for uid failed"),
        (["exec", "--cwd", "etc", "c", "id"], 255, "Cwd must be an absolute path"),
        (["exec", "-d", "-t", "c", "sh"], 255, "without setting console socket"),
        (["exec", "--console-socket", "/s", "c", "sh"], 255, "cannot use console socket"),
        (["exec", "--cgroup", "x", "c", "sh"], 255, "/x: no such file or directory"),
        (["exec", "--preserve-fds", "5", "c", "sh"], 255, "is not open"),
        (["kill", "c", "FOO"], 1, 'unknown signal "FOO"'),
        (["kill", "c", "999"], 1, "invalid argument"),
        (["start", "c"], 1, "running already"),
        (["delete", "c"], 1, "cannot delete container c that is not stopped: running"),
    ],
)
def test_what_a_running_container_refuses(
    argv: list[str], code: int, words: str, waiting: Bundle, pyrunc: Pyrunc
) -> None:
    with created(pyrunc, waiting) as name:
        pyrunc("start", name, check=True)
        done = pyrunc(*argv)
        assert done.returncode == code
        assert words in logged(done)
        assert state(pyrunc, name)["status"] == "running"


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["kill", "c"], 1, "container not running"),
        (["start", "c"], 1, "cannot start"),
        (["exec", "c", "true"], 255, "cannot exec"),
    ],
)
def test_what_a_stopped_container_refuses(
    argv: list[str], code: int, words: str, bundle: BundleMaker, pyrunc: Pyrunc
) -> None:
    done = pyrunc("run", "--keep", "--bundle", bundle(["sh", "-c", "exit 3"]), "c")
    assert done.returncode == 3
    try:
        done = pyrunc(*argv)
        assert done.returncode == code
        assert words in logged(done)
    finally:
        assert pyrunc("delete", "c").returncode == 0


def test_kill_all_reaches_every_process(waiting: Bundle, pyrunc: Pyrunc, tmp_path: Path) -> None:
    with created(pyrunc, waiting) as name:
        pyrunc("start", name, check=True)
        pid_file = tmp_path / "pid"
        pyrunc("exec", "-d", "--pid-file", pid_file, name, "sleep", "1000", check=True)
        second = int(pid_file.read_text(encoding="ascii"))
        assert pyrunc("kill", "--all", name, "KILL").returncode == 0
        wait_for_end(second)
        wait_for_end(state(pyrunc, name)["pid"] or second)
        assert state(pyrunc, name)["status"] == "stopped"


def test_an_existing_id_is_refused_and_its_owner_left_alone(
    waiting: Bundle, pyrunc: Pyrunc
) -> None:
    with created(pyrunc, waiting) as name:
        for verb in ("create", "run"):
            done = pyrunc(verb, "--bundle", waiting, name)
            assert done.returncode == 1
            assert "container with given ID already exists" in logged(done)
        assert state(pyrunc, name)["status"] == "created"


def test_run_detached_leaves_a_running_container(waiting: Bundle, pyrunc: Pyrunc) -> None:
    pyrunc("run", "-d", "--bundle", waiting, "c", check=True)
    try:
        assert state(pyrunc, "c")["status"] == "running"
    finally:
        assert pyrunc("delete", "--force", "c").returncode == 0


def test_run_keep_leaves_a_stopped_container(bundle: BundleMaker, pyrunc: Pyrunc) -> None:
    pyrunc("run", "--keep", "--bundle", bundle(["true"]), "c", check=True)

    assert state(pyrunc, "c")["status"] == "stopped"
    assert pyrunc("delete", "c").returncode == 0


def test_the_bundle_is_the_current_directory_by_default(
    bundle: BundleMaker, pyrunc: Pyrunc
) -> None:
    made = bundle(["echo", "hi"])

    assert pyrunc("run", "c", cwd=made).stdout == "hi\n"
    assert pyrunc("run", "c", "-b", made.path.name, cwd=made.path.parent).stdout == "hi\n"


def test_dry_run_shows_the_plan_and_does_nothing(bundle: BundleMaker, pyrunc: Pyrunc) -> None:
    done = pyrunc("run", "--dry-run", "--bundle", bundle(["true"]), "c", check=True)

    assert "mount proc on /proc" in done.stdout
    assert "pivot_root" in done.stdout
    assert not os.path.exists(os.path.join(pyrunc.root, "c"))


def test_the_verbs_need_no_environment_and_no_stream(waiting: Bundle, pyrunc: Pyrunc) -> None:
    """podman calls kill, delete and pause with nothing but XDG_RUNTIME_DIR."""
    bare = {"PYTHONPATH": os.environ.get("PYTHONPATH", os.getcwd()), "XDG_RUNTIME_DIR": "/run"}
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]

    def call(*argv: str) -> int:
        return subprocess.run(
            [*closed, *pyrunc.argv(*argv)], env=bare, timeout=PATIENCE, cwd="/"
        ).returncode

    assert call("create", "--bundle", str(waiting), "c") == 0
    assert call("start", "c") == 0
    assert call("state", "c") == 0
    assert call("exec", "c", "true") == 0
    assert call("kill", "c", "15") == 0
    assert call("delete", "--force", "c") == 0
    assert call("delete", "--force", "c") == 0
    assert call("state", "c") == 1


def test_the_log_file_is_what_clients_read(pyrunc: Pyrunc, tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    done = pyrunc("--log", log, "--log-format", "json", "create", "--bundle", "/none", "c")

    assert done.returncode == 1
    (line,) = log.read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    assert list(entry) == ["level", "msg", "time"]
    assert entry["level"] == "error"
    assert done.stderr == f"{entry['msg']}\n"


BROKEN = {
    "no config": (None, "config.json"),
    "not JSON": ("{", "config.json"),
    "not an object": ("[]", "$"),
    "no process": ('{"ociVersion": "1.0.2", "root": {"path": "rootfs"}}', "process"),
}


@pytest.mark.parametrize(("text", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_bundle_is_one_sentence(
    text: str | None, words: str, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
    done = pyrunc("run", "--bundle", tmp_path, "c")

    assert done.returncode == 1
    assert words in logged(done)
    assert pyrunc("list", "-q").stdout == ""


def _edit_wrong_type(config: dict[str, Any]) -> None:
    config["process"]["rlimits"][0]["soft"] = "many"


def _edit_missing_root(config: dict[str, Any]) -> None:
    config["root"]["path"] = "nowhere"


def _edit_bad_user(config: dict[str, Any]) -> None:
    config["process"]["user"]["uid"] = -1


def _edit_relative_cwd(config: dict[str, Any]) -> None:
    config["process"]["cwd"] = "tmp"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_edit_wrong_type, "$.process.rlimits[0].soft"),
        (_edit_missing_root, "nowhere"),
        (_edit_bad_user, "$.process.user.uid"),
        (_edit_relative_cwd, "$.process.cwd"),
    ],
)
def test_a_wrong_configuration_is_one_sentence_with_its_path(
    edit: Any, words: str, bundle: BundleMaker, pyrunc: Pyrunc
) -> None:
    for verb in ("run", "create"):
        done = pyrunc(verb, "--bundle", bundle(["true"], edit=edit), "c")
        assert done.returncode == 1
        assert words in logged(done)
    assert pyrunc("list", "-q").stdout == ""


def test_a_state_root_that_cannot_be_written_is_named(
    bundle: BundleMaker, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="ascii")
    root = str(tmp_path / "file" / "root")
    argv = ["--root", root, "run", "--bundle", str(bundle(["true"])), "c"]
    done = subprocess.run(
        [*pyrunc.argv()[:3], *argv], capture_output=True, text=True, timeout=PATIENCE
    )

    assert done.returncode == 1
    assert root in logged(done)


@pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="systemd is running here")
def test_systemd_cgroups_need_systemd(bundle: BundleMaker, pyrunc: Pyrunc) -> None:
    made = bundle(["true"])
    made.linux["cgroupsPath"] = "system.slice:lpc-test:c"
    made.save()
    done = pyrunc("--systemd-cgroup", "run", "--bundle", made, "c")

    assert done.returncode == 1
    assert "systemd is not running here (no /run/systemd/system)" in logged(done)
    assert json.loads(pyrunc("list", "--format", "json").stdout) in ([], None)


def test_a_path_is_no_name_of_a_unit(bundle: BundleMaker, pyrunc: Pyrunc) -> None:
    done = pyrunc("--systemd-cgroup", "run", "--bundle", bundle(["true"]), "c")

    assert done.returncode == 1
    assert "$.linux.cgroupsPath: expected slice:prefix:name" in logged(done)


def test_a_missing_container_is_what_delete_force_wants(pyrunc: Pyrunc) -> None:
    done = pyrunc("delete", "--force", "nobody")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
