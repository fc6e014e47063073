"""The usual mistakes, made with runc and with pyrunc: the same codes, and a sentence each."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.test_pyrunc_alike import RUNC, Runc

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.skipif(RUNC is None, reason="runc is not installed"),
]

PATIENCE = 20
Row = tuple[str, ...]

# What is typed, by the status that the container "c" is in; after a "<" what is on standard input.
MISTAKES: dict[str, list[Row]] = {
    "missing": [
        *(
            (verb, *rest)
            for verb in ("state", "start", "kill", "delete", "pause", "resume", "ps", "events")
            for rest in (("c",), (), ("",), ("../c",), ("--bogus", "c"))
        ),
        ("state", "c", "d"),
        ("start", "c", "d"),
        ("kill", "c", "9", "d"),
        ("delete", "c", "d"),
        ("exec",),
        ("exec", "c"),
        ("exec", "c", "true"),
        ("exec", "--bogus", "c", "true"),
        ("exec", "--user"),
        ("update",),
        ("update", "c"),
        ("update", "--memory", "1X", "c"),
        ("checkpoint",),
        ("checkpoint", "c"),
        ("checkpoint", "--status-fd", "x", "c"),
        ("restore",),
        ("restore", "--bundle", "/nonexistent", "c"),
        ("restore", "c"),
        ("list", "--format", "xml"),
        ("list", "c"),
        ("features", "c"),
        ("features", "--bogus"),
        ("spec", "--bundle", "/nonexistent"),
        ("spec", "c"),
        ("--bogus", "list"),
        ("--debug=x", "list"),
        ("--rootless", "x", "create", "c"),
        *(
            (verb, *rest)
            for verb in ("create", "run")
            for rest in (
                (),
                ("",),
                ("../c",),
                ("c", "d"),
                ("--bogus", "c"),
                ("--bundle", "/nonexistent", "c"),
                ("--bundle", "/etc", "c"),
                ("--preserve-fds", "x", "c"),
                ("--preserve-fds", "20", "c"),
                ("--console-socket", "/nonexistent", "c"),
                ("--pid-file", "/nonexistent/file", "c"),
            )
        ),
    ],
    "created": [
        ("create", "c"),
        ("run", "c"),
        ("checkpoint", "c"),
        ("resume", "c"),
    ],
    "running": [
        ("start", "c"),
        ("delete", "c"),
        ("create", "c"),
        ("run", "c"),
        ("resume", "c"),
        ("kill", "c", "FOO"),
        ("kill", "c", "99"),
        ("kill", "c", "--", "-1"),
        ("events", "--interval", "x", "c"),
        ("events", "--interval", "0", "c"),
        ("events", "--interval", "-1s", "c"),
        ("ps", "--format", "xml", "c"),
        ("ps", "c", "--bogus"),
        ("ps", "c", "-e", "-o", "cmd"),
        ("exec", "c"),
        ("exec", "c", "nothing-of-the-kind"),
        ("exec", "c", "/etc"),
        ("exec", "c", "/etc/passwd"),
        ("exec", "c", "/nothing"),
        ("exec", "--cwd", "/nothing", "c", "true"),
        ("exec", "--cwd", "relative", "c", "true"),
        ("exec", "--user", "x", "c", "true"),
        ("exec", "--user", "0:x", "c", "true"),
        ("exec", "--additional-gids", "x", "c", "true"),
        ("exec", "--additional-gids", "-1", "c", "true"),
        ("exec", "--env", "X", "c", "true"),
        ("exec", "--no-new-privs=x", "c", "true"),
        ("exec", "--preserve-fds", "x", "c", "true"),
        ("exec", "--preserve-fds", "20", "c", "true"),
        ("exec", "--process", "/nonexistent", "c"),
        ("exec", "--process", "/etc/passwd", "c"),
        ("exec", "--tty", "--detach", "c", "true"),
        ("exec", "--tty", "--detach", "--console-socket", "/nonexistent", "c", "true"),
        ("exec", "--console-socket", "/nonexistent", "c", "true"),
        ("exec", "--pid-file", "/nonexistent/file", "c", "true"),
        ("exec", "--process-label", "x", "c", "true"),
        ("exec", "--apparmor", "no-such-profile", "c", "true"),
        ("exec", "--cgroup", "nothing", "c", "true"),
        ("exec", "--cgroup", "..", "c", "true"),
        ("exec", "--cgroup", "nothing:/", "c", "true"),
        ("exec", "--cgroup", "cpu:/", "--cgroup", "/", "c", "true"),
        ("exec", "--cgroup", "a:b:c", "c", "true"),
        ("update", "--memory", "1X", "c"),
        ("update", "--memory", "-2", "c"),
        ("update", "--cpu-share", "x", "c"),
        ("update", "--cpu-period", "-1", "c"),
        ("update", "--blkio-weight", "x", "c"),
        ("update", "--pids-limit", "x", "c"),
        ("update", "--cpuset-cpus", "9999", "c"),
        ("update", "--l3-cache-schema", "L3:0=f", "c"),
        ("update", "--resources", "/nonexistent", "c"),
        ("update", "--resources", "-", "c", "<"),
        ("update", "--resources", "-", "c", "<{"),
        ("update", "--resources", "-", "c", "<[]"),
        ("update", "--resources", "-", "c", '<{"memory": 5}'),
        ("update", "--resources", "-", "c", '<{"memory": {"limit": "x"}}'),
    ],
    "paused": [
        ("start", "c"),
        ("pause", "c"),
        ("delete", "c"),
        ("exec", "c", "true"),
    ],
    "stopped": [
        ("start", "c"),
        ("kill", "c"),
        ("pause", "c"),
        ("resume", "c"),
        ("exec", "c", "true"),
        ("update", "--memory", "64M", "c"),
        ("events", "--stats", "c"),
        ("checkpoint", "c"),
    ],
}
# What clients look for in runc's words, and must find in ours.
PHRASES = (
    "container does not exist",
    "container not running",
    "container not paused",
    "container with given ID already exists",
    "executable file not found in $PATH",
    "permission denied",
    "no such file or directory",
    "Incorrect Usage",
    "flag provided but not defined",
    "unknown signal",
    "invalid format option",
    "is not a sub cgroup path",
)
# In these the library has words of its own; clients do not look for any.
OWN_WORDS = {
    ("restore", "c"),
    ("exec", "--process", "/nonexistent", "c"),
    ("update", "--resources", "/nonexistent", "c"),
}


class Both:
    """The same call of runc and of pyrunc, and what each of them logged."""

    def __init__(self, runc: Runc, pyrunc: Pyrunc, bundle: Bundle, directory: Path) -> None:
        self.commands: dict[str, Callable[..., subprocess.CompletedProcess[str]]] = {
            "runc": runc,
            "pyrunc": pyrunc,
        }
        self._bundle = bundle
        self.group = bundle.linux["cgroupsPath"]
        self.directory = directory

    def prepare(self, status: str) -> None:
        for name, command in self.commands.items():
            self._bundle.linux["cgroupsPath"] = f"{self.group}-{name}"
            self._bundle.process["args"] = ["true" if status == "stopped" else "sleep", "1000"]
            self._bundle.save()
            if status == "missing":
                continue
            # Through files, which pyrunc's fixture has: runc's would wait for the container.
            argv = command.argv("create", "--bundle", str(self._bundle), "c")  # type: ignore[attr-defined]
            null = subprocess.DEVNULL
            subprocess.run(argv, stdin=null, stdout=null, stderr=null, check=True, timeout=PATIENCE)
            if status != "created":
                assert command("start", "c").returncode == 0
            if status == "paused":
                assert command("pause", "c").returncode == 0
            if status == "stopped":
                self._await_end(command)

    def _await_end(self, command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
        deadline = time.monotonic() + PATIENCE
        while json.loads(command("state", "c").stdout)["status"] != "stopped":
            assert time.monotonic() < deadline

    def clear(self) -> None:
        for command in self.commands.values():
            command("delete", "--force", "c")

    def __call__(self, row: Row) -> dict[str, tuple[subprocess.CompletedProcess[str], list[Any]]]:
        text = row[-1][1:] if row[-1].startswith("<") else ""
        words = row[:-1] if row[-1].startswith("<") else row
        results = {}
        for name, command in self.commands.items():
            log = self.directory / f"{name}.log"
            log.unlink(missing_ok=True)
            done = command("--log", log, "--log-format", "json", *words, input=text)
            lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
            results[name] = (done, [json.loads(line) for line in lines])
        return results


@pytest.fixture
def both(
    bundle: BundleMaker, pyrunc: Pyrunc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Both]:
    made = bundle(["sleep", "1000"])
    monkeypatch.chdir(made.path)
    calls = Both(Runc(tmp_path / "runc"), pyrunc, made, tmp_path)
    yield calls
    calls.clear()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("status", MISTAKES)
def test_a_mistake_has_runcs_code_and_one_sentence(status: str, both: Both) -> None:
    both.prepare(status)
    wrong = []
    for row in MISTAKES[status]:
        results = both(row)
        problems = list(differences(row, *results["runc"], *results["pyrunc"]))
        if problems:
            theirs, ours = results["runc"][0], results["pyrunc"][0]
            wrong.append(f"{' '.join(row)}: {problems}\n  {theirs.stderr}  {ours.stderr}")
    assert not wrong, "\n".join(wrong)


def differences(
    row: Row,
    theirs: subprocess.CompletedProcess[str],
    their_log: list[Any],
    ours: subprocess.CompletedProcess[str],
    our_log: list[Any],
) -> Iterator[str]:
    if ours.returncode != theirs.returncode:
        yield f"code {ours.returncode}, not {theirs.returncode}"
    if ours.returncode == 0:
        return
    if usage_line(ours) != usage_line(theirs):
        yield f"output {usage_line(ours)!r}, not {usage_line(theirs)!r}"
    # A flag of the global ones that cannot be read means that there is no log yet.
    if bool(our_log) != bool(their_log):
        yield f"logged {our_log}, not {their_log}"
    for entry in our_log:
        if list(entry) != ["level", "msg", "time"]:
            yield f"log entry {entry}"
    errors = [entry["msg"] for entry in our_log if entry["level"] == "error"]
    if our_log and (len(errors) != 1 or not ours.stderr.endswith(f"{errors[0]}\n")):
        yield f"errors {errors}"
    said = ours.stderr + ours.stdout
    if re.search(r"Traceback|internal error|<class|Error\(", said):
        yield "no sentence"
    if len(ours.stderr.splitlines()) != 1:
        yield "more than one line"
    if row in OWN_WORDS or "--preserve-fds" in row:
        return
    for phrase in PHRASES:
        if phrase.lower() in theirs.stderr.lower() and phrase.lower() not in said.lower():
            yield f"lacks {phrase!r}"


def usage_line(done: subprocess.CompletedProcess[str]) -> str:
    """The first line of the usage that a wrong command line is answered with."""
    line = done.stdout.partition("\n")[0]
    return re.sub(r"strconv\.\w+: parsing .*: invalid syntax", "parse error", line)


# ---- what a client shows of a configuration that cannot be had ---------------------------------


def _mount(source: str, destination: str, type: str = "none") -> Callable[[dict[str, Any]], None]:
    options = ["bind"] if type == "none" else []
    mount = {"destination": destination, "type": type, "source": source, "options": options}

    def edit(config: dict[str, Any]) -> None:
        config["mounts"].append(mount)

    return edit


def _command(*args: str) -> Callable[[dict[str, Any]], None]:
    def edit(config: dict[str, Any]) -> None:
        config["process"]["args"] = list(args)

    return edit


def _limit(config: dict[str, Any]) -> None:
    config["linux"]["resources"]["cpu"] = {"cpus": "9999"}


def _rlimit(config: dict[str, Any]) -> None:
    limit = {"type": "RLIMIT_NOFILE", "soft": 1 << 40, "hard": 1 << 40}
    config["process"]["rlimits"] = [limit]


def _device(config: dict[str, Any]) -> None:
    config["linux"]["devices"] = [{"path": "/proc/x", "type": "c", "major": 1, "minor": 3}]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_command("nothing"), 'exec: "nothing": executable file not found in $PATH'),
        (_command("/etc"), 'exec: "/etc": permission denied'),
        (_mount("/etc/passwd", "/etc"), "mounts[7]: bind /etc/passwd on /etc (bind): move_mount:"),
        (_mount("/etc/passwd", "/etc"), "Not a directory"),
        (_mount("/etc", "/etc/passwd"), "Not a directory"),
        (_mount("/nonexistent", "/mnt"), "/nonexistent"),
        (_mount("x", "/mnt", "nosuchfs"), "nosuchfs"),
        (_device, "/proc/x"),
        (_limit, "$.linux.resources.cpu.cpus: cannot set cpu cpus 9999"),
        (_rlimit, "cannot set RLIMIT_NOFILE"),
    ],
)
def test_a_client_shows_one_sentence_that_names_the_culprit(
    edit: Callable[[dict[str, Any]], None],
    words: str,
    bundle: BundleMaker,
    pyrunc: Pyrunc,
    tmp_path: Path,
) -> None:
    made = bundle(["true"], edit=edit)
    log = tmp_path / "log.json"
    done = pyrunc("--log", log, "--log-format", "json", "create", "--bundle", made, "c")
    assert done.returncode == 1
    *warnings, error = [json.loads(line) for line in log.read_text().splitlines()]
    assert error["level"] == "error"
    assert {entry["level"] for entry in warnings} <= {"warning"}
    assert error["msg"].startswith("pyrunc create failed: ")
    assert words in error["msg"]
    assert done.stderr == f"{error['msg']}\n"
    assert pyrunc("list", "--quiet").stdout == ""


# ---- --cgroup ------------------------------------------------------------------------------------


def hierarchies() -> list[str]:
    """Where a container has a group; the v2 hierarchy of a hybrid host is one of them."""
    root = "/sys/fs/cgroup"
    if os.path.exists(f"{root}/cgroup.controllers"):
        return [root]
    paths = [f"{root}/{name}" for name in sorted(os.listdir(root))]
    return [path for path in paths if not os.path.islink(path)]


def make_below(group: str, name: str) -> None:
    for hierarchy in hierarchies():
        own = Path(hierarchy + group)
        (own / name).mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (own / file).exists() and "cpuset" in hierarchy:
                (own / name / file).write_text((own / file).read_text())


@pytest.mark.parametrize(
    "flags",
    [
        ("--cgroup", "/"),
        ("--cgroup", "below"),
        ("--cgroup", "/below/"),
        ("--cgroup", "below/../../{group}/below"),
        ("--cgroup", "pids:below"),
        ("--cgroup", "pids,memory:below"),
        ("--cgroup", "pids:below", "--cgroup", "memory:/"),
        ("--cgroup", "name=systemd:below"),
    ],
    ids=" ".join,
)
def test_a_process_is_in_the_groups_that_runc_puts_it_in(flags: Row, both: Both) -> None:
    if any(":" in flag for flag in flags) and len(hierarchies()) == 1:
        pytest.skip("there are no controllers of version 1 here")
    both.prepare("running")
    found = []
    for name, command in both.commands.items():
        group = f"{both.group}-{name}"
        make_below(group, "below")
        words = [flag.format(group=group.strip("/")) for flag in flags]
        done = command("exec", *words, "c", "cat", "/proc/self/cgroup")
        assert (done.returncode, done.stderr) == (0, "")
        found.append(done.stdout.replace(group, "/GROUP"))
    theirs, ours = found
    assert ours == theirs
    assert ("/GROUP/below" in ours) == any("below" in flag for flag in flags)


def test_a_path_out_of_the_containers_group_is_refused(both: Both, pyrunc: Pyrunc) -> None:
    both.prepare("running")
    name = f"{both.group}-pyrunc".strip("/")
    outside = [Path(f"{hierarchy}/{name}-outside") for hierarchy in hierarchies()]
    for directory in outside:
        directory.mkdir()
    try:
        # A name that begins as the container's own does.
        for path in ("..", "/..", "below/../..", f"../{name}-outside", "../../../../../../.."):
            done = pyrunc("exec", "--cgroup", path, "c", "true")
            assert done.returncode == 255
            assert "it leads out of the container's group" in done.stderr
    finally:
        for directory in outside:
            directory.rmdir()


def test_what_the_caller_left_closed_is_not_passed_on(both: Both, pyrunc: Pyrunc) -> None:
    """The library's own descriptors would have these numbers by then."""
    both.prepare("running")
    for count in (1, 3, 5):
        done = pyrunc("exec", "--preserve-fds", str(count), "c", "true")
        assert done.returncode == 255
        assert "descriptor 3 is to be preserved, but it is not open" in done.stderr


# ---- what is not in this version ---------------------------------------------------------------


@pytest.mark.parametrize("verb", ["checkpoint", "restore"])
def test_what_criu_is_needed_for_is_one_sentence(verb: str, both: Both, pyrunc: Pyrunc) -> None:
    images = both.directory / "images"
    images.mkdir()
    both.prepare("running" if verb == "checkpoint" else "missing")
    done = pyrunc(verb, "--image-path", images, "--work-path", images, "--tcp-established", "c")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"cannot {verb} container c: this needs CRIU >= 4" in line


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("checkpoint", "--manage-cgroups-mode", "x"), "one of soft, full, strict and ignore"),
        (("checkpoint", "--page-server", "x"), "ADDRESS:PORT"),
        (("checkpoint", "--page-server", ":1"), "ADDRESS:PORT"),
        (("checkpoint", "--page-server", "::1:80"), "ADDRESS:PORT"),
        (("checkpoint", "--page-server", "h:0"), "invalid port number '0'"),
        (("checkpoint", "--page-server", "[::1]:80"), "needs CRIU"),
        (("checkpoint", "--empty-ns", "pid"), "namespace 'pid' is not supported"),
        (("checkpoint", "--empty-ns", "network"), "needs CRIU"),
        (("checkpoint", "--parent-path", "/x"), "--parent-path must be relative"),
        (("checkpoint", "--parent-path", "../x"), "invalid --parent-path"),
        (("restore", "--image-path", "/nonexistent"), "/nonexistent is no directory"),
        (("restore", "--image-path", "/", "--lsm-profile", "x"), "invalid --lsm-profile"),
        (("restore", "--image-path", "/", "--lsm-profile", "apparmor:x"), "needs CRIU"),
    ],
)
def test_criu_is_not_asked_for_what_it_cannot_do(
    argv: Row, words: str, both: Both, pyrunc: Pyrunc
) -> None:
    both.prepare("running")
    done = pyrunc(*argv, "c")
    assert done.returncode == 1
    assert words in done.stderr


def test_the_path_of_criu_is_ignored_with_a_warning(pyrunc: Pyrunc) -> None:
    done = pyrunc("--criu", "/nonexistent", "list", "--quiet")
    assert (done.returncode, done.stdout) == (0, "")
    (line,) = done.stderr.splitlines()
    assert "level=warning" in line
    assert "--criu is ignored" in line


def test_podman_finds_the_checkpoint_verbs(pyrunc: Pyrunc) -> None:
    """It asks for the help of one, and leaves a flag of the other without its value."""
    assert pyrunc("checkpoint", "--help").returncode == 0
    done = pyrunc("restore", "--lsm-mount-context")
    assert "flag needs an argument" in done.stdout + done.stderr
