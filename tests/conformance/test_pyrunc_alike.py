"""A bundle made by runc, run by runc and by pyrunc: what a process finds inside is the same."""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

RUNC = shutil.which("runc")
pytestmark = [
    pytest.mark.conformance,
    pytest.mark.skipif(RUNC is None, reason="runc is not installed"),
]

# Every line must be the same for two containers one after the other; the test looks at each
# section by its title.
PROBE = r"""
section() { echo "== $1"; }
section identity;   id; pwd; umask; hostname; cat /proc/sys/kernel/domainname
section arguments;  echo "$0" "$@"
section environment; env | sort
section status
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Sig(Blk|Ign|Cgt))' /proc/self/status
section limits;     cat /proc/self/limits
section oom;        cat /proc/self/oom_score_adj
section cgroups;    cat /proc/self/cgroup
section mounts;     cat /proc/self/mountinfo
section devices;    ls -ln /dev | sed 's/ [A-Z][a-z][a-z] .*:.. / /'; ls -l /dev/pts /dev/shm
section descriptors; for fd in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$fd ] && echo $fd; done
section session
awk '{ print "leads its group: " ($1 == $5) ", its session: " ($1 == $6) ", terminal: " $7 }' \
    /proc/$$/stat
section processes;  set -- /proc/[0-9]*; echo "$@"
section network;    ip -o link; ip -o addr
section masked
for path in /proc/acpi /proc/kcore /proc/keys /proc/timer_list /proc/scsi /sys/firmware; do
    [ -e $path ] && echo $path && ls -A $path | head -3 && head -c 10 $path 2>/dev/null
done
section read-only
for path in / /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel /dev; do
    if touch $path/probe 2>/dev/null || [ -w $path ]; then echo $path: writable; fi
done
section namespaces
for type in pid net ipc uts mnt user cgroup time; do
    [ "$(readlink /proc/self/ns/$type)" = "$(readlink /proc/1/ns/$type)" ] && echo $type
done
section group-limits
cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max \
    /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.shares \
    /sys/fs/cgroup/cpuset/cpuset.cpus /sys/fs/cgroup/cpuset/cpuset.mems \
    /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max 2>/dev/null
section group-devices
sort /sys/fs/cgroup/devices/devices.list 2>/dev/null
section stdin;      cat
section end
exit 37
"""


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


def sections(output: str) -> dict[str, list[str]]:
    """The probe's output by title, without what no two containers have in common."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output.splitlines():
        if line.startswith("== "):
            lines = found.setdefault(line[3:], [])
        else:
            lines.append(line)
    found["mounts"] = [_mount(line) for line in found.get("mounts", [])]
    return found


def _mount(line: str) -> str:
    """A line of mountinfo without the numbers that the kernel gives in turn."""
    fields = line.split()
    fields[0:3] = ["id", "parent", re.sub(r"^0:\d+$", "0:N", fields[2])]
    return " ".join(re.sub(r"^(shared|master):\d+$", r"\1:N", field) for field in fields)


def assert_alike(theirs: str, ours: str, *, but: str = "") -> None:
    expected, found = sections(theirs), sections(ours)
    assert expected.keys() == found.keys()
    expected.pop(but, None)
    differences = [
        f"{title}: {line}"
        for title in expected
        for line in difflib.unified_diff(expected[title], found[title], "runc", "pyrunc", "", "", 0)
    ]
    assert not differences, "\n".join(differences)


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
    made = made_by_runc(["sh", "-c", PROBE, "zero", "one two", "*"], edit)

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
            outcomes.append(
                command("exec", *flags, "probe", "sh", "-c", PROBE, "zero", input="typed\n")
            )
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
