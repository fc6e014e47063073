"""A bundle made by runc, run by runc and by pyrunc: what a process finds inside is the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance import probe

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

RUNC = shutil.which("runc")
pytestmark = [
    pytest.mark.conformance,
    pytest.mark.skipif(RUNC is None, reason="runc is not installed"),
]

# Its first two arguments are the path of a cgroup, which is not looked at here, and the exit code.
PROBE = [probe.SCRIPT, "zero", "", "37"]


class Runc:
    """Runs runc as ``pyrunc`` runs pyrunc."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def argv(self, *args: str | os.PathLike[str]) -> list[str]:
        assert RUNC is not None
        return [RUNC, "--root", str(self._root), *(os.fspath(arg) for arg in args)]

    def __call__(
        self,
        *args: str | os.PathLike[str],
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        argv = self.argv(*args)
        return subprocess.run(argv, input=input or "", capture_output=True, text=True, timeout=30)


@pytest.fixture
def runc(tmp_path: Path) -> Runc:
    return Runc(tmp_path / "runc")


@pytest.fixture
def made_by_runc(bundle: BundleMaker, tmp_path: Path) -> Callable[..., Bundle]:
    """``made_by_runc(args)``: a bundle with the configuration that ``runc spec`` writes."""
    assert RUNC is not None
    subprocess.run([RUNC, "spec", "--bundle", str(tmp_path)], check=True)
    default = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))

    def make(args: Sequence[str], edit: Callable[[dict[str, Any]], object] | None = None) -> Bundle:
        made = bundle(args)
        config = json.loads(json.dumps(default))
        config["process"].update(args=list(args), terminal=False)
        config["linux"]["cgroupsPath"] = made.linux["cgroupsPath"]
        config["root"]["path"] = made.config["root"]["path"]
        if edit is not None:
            edit(config)
        made.config = config
        made.save()
        return made

    return make


def assert_alike(theirs: str, ours: str, *, but: str = "") -> None:
    names = probe.host_namespaces()
    expected, found = probe.report(theirs, names), probe.report(ours, names)
    assert expected.keys() == found.keys()
    expected[but] = found[but] = []
    for report in (expected, found):
        # One was given pipes, the other files: what counts is how many there are.
        report["descriptors"] = [str(len(report["descriptors"]))]
        report["nodes"] = [line for line in report["nodes"] if "/dev/fd/" not in line]
    assert not probe.differences(expected, found)


def as_user(config: dict[str, Any]) -> None:
    config["process"]["user"] = {"uid": 1000, "gid": 50, "additionalGids": [5, 1000]}
    config["process"]["cwd"] = "/home/app"
    config["process"]["env"].append("GREETING=hello there")


def limited(config: dict[str, Any]) -> None:
    config["linux"]["resources"].update(
        memory={"limit": 64 << 20},
        pids={"limit": 32},
        cpu={"shares": 512, "quota": 50000, "period": 100000},
    )
    config["process"]["rlimits"].append({"type": "RLIMIT_NPROC", "soft": 100, "hard": 200})
    config["process"]["oomScoreAdj"] = 500


def privileged(config: dict[str, Any]) -> None:
    every = ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_MKNOD", "CAP_SYS_PTRACE", "CAP_CHOWN"]
    sets = ("bounding", "effective", "permitted", "inheritable", "ambient")
    config["process"]["capabilities"] = dict.fromkeys(sets, every)
    config["process"]["noNewPrivileges"] = False
    config["linux"].pop("maskedPaths")
    config["linux"].pop("readonlyPaths")


def without_capabilities(config: dict[str, Any]) -> None:
    config["process"].pop("capabilities")


def with_host_namespaces(config: dict[str, Any]) -> None:
    kept = ("pid", "mount", "uts")
    namespaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [entry for entry in namespaces if entry["type"] in kept]


def with_more_mounts(config: dict[str, Any]) -> None:
    config["mounts"] += [
        {"destination": "/tmp", "type": "tmpfs", "source": "t", "options": ["size=1m", "noexec"]},
        {"destination": "/var", "type": "bind", "source": "/usr/share", "options": ["rbind", "ro"]},
        {"destination": "/home", "source": "/etc", "options": ["bind", "ro", "nosuid", "nodev"]},
    ]


def with_devices(config: dict[str, Any]) -> None:
    config["linux"]["devices"] = [
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7}
    ]
    config["linux"]["resources"]["devices"] += [
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"}
    ]


def with_cgroup_namespace(config: dict[str, Any]) -> None:
    config["linux"]["namespaces"].append({"type": "cgroup"})


@pytest.mark.parametrize(
    "edit",
    [
        None,
        as_user,
        limited,
        privileged,
        without_capabilities,
        with_host_namespaces,
        with_more_mounts,
        with_devices,
        with_cgroup_namespace,
    ],
)
def test_a_process_finds_the_same_inside(
    edit: Callable[[dict[str, Any]], object] | None,
    made_by_runc: Callable[..., Bundle],
    runc: Runc,
    pyrunc: Pyrunc,
) -> None:
    made = made_by_runc(["sh", "-c", *PROBE, "one two", "*"], edit)

    theirs = runc("run", "--bundle", made, "probe", input="typed\n")
    ours = pyrunc("run", "--bundle", made, "probe", input="typed\n")

    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr) == (37, "")
    assert_alike(theirs.stdout, ours.stdout)


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--user", "1000:50"),
        ("--user", "1000", "--additional-gids", "5", "--cwd", "/tmp", "--env", "A=1"),
        ("--cap", "CAP_SYS_ADMIN"),
        ("--no-new-privs=false",),
    ],
)
def test_a_second_process_finds_the_same_inside(
    flags: tuple[str, ...],
    made_by_runc: Callable[..., Bundle],
    runc: Runc,
    pyrunc: Pyrunc,
    tmp_path: Path,
) -> None:
    made = made_by_runc(["sh", "-c", "trap : TERM; read line < /tmp/never"], with_fifo_of(tmp_path))
    outcomes = []
    for command in (runc, pyrunc):
        try:
            # Through the shell and a file: runc gives its own streams to what it leaves behind.
            assert _quietly(command, "run", "--detach", "--bundle", str(made), "probe") == 0
            outcomes.append(command("exec", *flags, "probe", "sh", "-c", *PROBE, input="typed\n"))
        finally:
            command("delete", "--force", "probe")
    theirs, ours = outcomes

    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr) == (37, "")
    # What runc needed to get inside may still be there, as a zombie.
    assert_alike(theirs.stdout, ours.stdout, but="processes")


def with_fifo_of(directory: Path) -> Callable[[dict[str, Any]], object]:
    """/tmp/never inside is a pipe that nobody writes to: reading it waits for ever."""
    os.mkfifo(directory / "never")

    def edit(config: dict[str, Any]) -> None:
        config["mounts"].append(
            {"destination": "/tmp", "source": str(directory), "options": ["bind"]}
        )

    return edit


def _quietly(command: Runc | Pyrunc, *args: str) -> int:
    """The exit code of a call that leaves a process with its standard streams behind."""
    argv = command.argv(*args)
    null = subprocess.DEVNULL
    return subprocess.run(argv, stdin=null, stdout=null, stderr=null, timeout=30).returncode


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 255"], 255),
        (["sh", "-c", "kill -KILL $$"], 0),
        (["nothing-of-the-kind"], 1),
        (["/etc/passwd"], 1),
        (["/etc"], 1),
        (["/bin/nothing"], 1),
    ],
)
def test_a_run_ends_with_the_same_code(
    command: list[str],
    code: int,
    made_by_runc: Callable[..., Bundle],
    runc: Runc,
    pyrunc: Pyrunc,
) -> None:
    made = made_by_runc(command)
    theirs = runc("run", "--bundle", made, "short")
    ours = pyrunc("run", "--bundle", made, "short")

    assert ours.returncode == theirs.returncode == code
    assert bool(ours.stderr) == bool(theirs.stderr)
    for phrase in ("executable file not found in $PATH", "permission denied", "no such file"):
        if phrase in theirs.stderr:
            assert phrase in ours.stderr


ABSENT = [
    ("state", "nobody"),
    ("start", "nobody"),
    ("kill", "nobody"),
    ("kill", "nobody", "9"),
    ("kill", "--all", "nobody", "9"),
    ("delete", "nobody"),
    ("delete", "--force", "nobody"),
    ("exec", "nobody", "true"),
    ("exec", "nobody"),
    ("state",),
    ("state", "a", "b"),
    ("state", ""),
    ("state", "../x"),
    ("run", "--bundle", "/nonexistent", "nobody"),
    ("create", "--bundle", "/nonexistent", "nobody"),
    ("run",),
    ("run", "--bogus", "nobody"),
    ("exec",),
    ("list", "--format", "xml"),
    ("bogus",),
    ("help", "bogus"),
    ("kill",),
    ("spec", "x"),
]


@pytest.mark.parametrize("argv", ABSENT, ids=" ".join)
def test_a_mistake_has_the_same_code(argv: tuple[str, ...], runc: Runc, pyrunc: Pyrunc) -> None:
    theirs, ours = runc(*argv), pyrunc(*argv)

    assert ours.returncode == theirs.returncode
    assert bool(ours.stderr) == bool(theirs.stderr)
    assert len(ours.stderr.splitlines()) <= 1
    for phrase in ("container does not exist", "Incorrect Usage"):
        assert (phrase in ours.stderr + ours.stdout) == (phrase in theirs.stderr + theirs.stdout)


def test_the_configuration_that_spec_writes_is_runcs(
    runc: Runc, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    written = []
    for name, command in (("theirs", runc), ("ours", pyrunc)):
        for flag in ((), ("--rootless",)):
            directory = tmp_path / name / "-".join(("spec", *flag))
            directory.mkdir(parents=True)
            assert command("spec", *flag, "--bundle", directory).returncode == 0
            config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
            # The one is a newer document; and it is fit for every hierarchy.
            config.pop("ociVersion")
            written.append(config)

    assert written[:2] == written[2:]
