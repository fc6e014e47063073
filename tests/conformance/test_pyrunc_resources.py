"""``update``, ``pause``, ``resume``, ``ps``, ``events``: runc's flags, output, words and codes."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

pytestmark = pytest.mark.conformance
MIB = 1 << 20
RUNC = shutil.which("runc")
PATIENCE = 20
VERBS = ("events", "pause", "ps", "resume", "update")

PURE = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split() if PURE else []

needs_v1 = pytest.mark.skipif(PURE, reason="only v1 has it")
needs_controllers = pytest.mark.skipif(
    PURE and not {"cpu", "cpuset", "memory", "pids"} <= set(CONTROLLERS),
    reason="v2 has no controllers here",
)
needs_runc = pytest.mark.skipif(RUNC is None, reason="runc is not installed")


@pytest.fixture
def sleeper(bundle: BundleMaker) -> Bundle:
    def edit(config: dict[str, Any]) -> None:
        config["linux"]["resources"]["memory"] = {"limit": 64 * MIB, "swap": 128 * MIB}

    return bundle(["sleep", "1000"], edit=edit)


@pytest.fixture
def running(sleeper: Bundle, pyrunc: Pyrunc) -> Iterator[Bundle]:
    pyrunc("run", "-d", "--bundle", sleeper, "c", check=True)
    yield sleeper
    pyrunc("delete", "--force", "c", check=True)


def group(made: Bundle, v1: str, v2: str) -> str:
    """A file of the container's group, whichever version this host has."""
    top = "/sys/fs/cgroup" if PURE else f"/sys/fs/cgroup/{v1.partition('.')[0]}"
    return Path(top + made.linux["cgroupsPath"], v2 if PURE else v1).read_text().strip()


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "level=error" in line]
    return line


def pid_of(pyrunc: Pyrunc) -> int:
    return int(json.loads(pyrunc("state", "c", check=True).stdout)["pid"])


# ---- update ----------------------------------------------------------------------------------

LIMIT = "memory.limit_in_bytes"
SOFT = "memory.soft_limit_in_bytes"
BOTH = "memory.memsw.limit_in_bytes"
QUOTA = "cpu.cfs_quota_us"
# The flags; what v1's file says then, and what v2's does. The container's own limits are 64 MiB,
# and 128 with swap.
FLAGS = [
    ("--memory=32m", (LIMIT, 32 * MIB), ("memory.max", 32 * MIB)),
    ("--memory=32m", (BOTH, 128 * MIB), ("memory.swap.max", 96 * MIB)),
    ("--memory 33554432", (LIMIT, 32 * MIB), ("memory.max", 32 * MIB)),
    ("--memory-reservation 16M", (SOFT, 16 * MIB), ("memory.low", 16 * MIB)),
    ("--memory-swap 96MiB", (BOTH, 96 * MIB), ("memory.swap.max", 32 * MIB)),
    ("--memory-swap=-1", (BOTH, 9223372036854771712), ("memory.swap.max", "max")),
    ("--cpu-quota 50000", (QUOTA, 50000), ("cpu.max", "50000 100000")),
    ("--cpu-quota -1", (QUOTA, -1), ("cpu.max", "max 100000")),
    ("--cpu-period 200000", ("cpu.cfs_period_us", 200000), ("cpu.max", "max 200000")),
    (
        "--cpu-quota 50000 --cpu-burst 20000",
        ("cpu.cfs_burst_us", 20000),
        ("cpu.max.burst", 20000),
    ),
    ("--cpu-share 300", ("cpu.shares", 300), ("cpu.weight", 39)),
    ("--cpu-idle 1", ("cpu.idle", 1), ("cpu.idle", 1)),
    ("--cpuset-cpus 0", ("cpuset.cpus", 0), ("cpuset.cpus", 0)),
    ("--cpuset-mems 0", ("cpuset.mems", 0), ("cpuset.mems", 0)),
    ("--pids-limit 33", ("pids.max", 33), ("pids.max", 33)),
    ("--pids-limit -1", ("pids.max", "max"), ("pids.max", "max")),
]


@needs_controllers
@pytest.mark.parametrize(("flags", "v1", "v2"), FLAGS)
def test_every_flag_of_update_reaches_its_file(
    flags: str, v1: tuple[str, object], v2: tuple[str, object], running: Bundle, pyrunc: Pyrunc
) -> None:
    done = pyrunc("update", *flags.split(), "c")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert group(running, v1[0], v2[0]) == str((v2 if PURE else v1)[1])


@needs_controllers
@pytest.mark.parametrize("words", [["--resources", "-"], ["--resources=-"], ["-r", "-"]])
def test_update_reads_standard_input(words: list[str], running: Bundle, pyrunc: Pyrunc) -> None:
    # What dockerd sends through containerd's shim: zeros for what is to stay.
    document = {
        "memory": {"limit": 32 * MIB, "reservation": 0, "kernel": 0, "swap": 0},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
        "blockIO": {"weight": 0},
        "pids": None,
    }
    done = pyrunc("update", *words, "c", input=json.dumps(document))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert group(running, LIMIT, "memory.max") == str(32 * MIB)
    assert group(running, BOTH, "memory.swap.max") == str((96 if PURE else 128) * MIB)


@needs_controllers
def test_update_reads_a_file_and_then_ignores_the_other_flags(
    running: Bundle, pyrunc: Pyrunc, tmp_path: Path
) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"pids": {"limit": 44}}))
    pyrunc("update", f"--resources={tmp_path}/r.json", "--pids-limit", "9", "c", check=True)
    assert group(running, "pids.max", "pids.max") == "44"
    pyrunc("update", "-r", "r.json", "c", check=True, cwd=tmp_path)


@needs_controllers
def test_update_changes_all_or_nothing(running: Bundle, pyrunc: Pyrunc) -> None:
    pyrunc("update", "--pids-limit", "50", "c", check=True)
    done = pyrunc("update", "--pids-limit", "60", "--memory", "32M", "--cpuset-cpus", "4000", "c")
    assert "$.linux.resources.cpu.cpus: cannot set cpu cpus 4000 in " in error_of(done)
    if not PURE:
        # v2 takes such a limit, and then takes the memory.
        done = pyrunc("update", "--pids-limit", "60", "--memory", "4096", "c")
        assert "$.linux.resources.memory.limit: cannot set memory limit 4096 in " in error_of(done)
        assert "EBUSY (current usage: " in error_of(done)
    assert group(running, "pids.max", "pids.max") == "50"
    assert group(running, LIMIT, "memory.max") == str(64 * MIB)


@needs_controllers
def test_later_updates_build_on_earlier_ones(running: Bundle, pyrunc: Pyrunc) -> None:
    """The period stays on record: without it this quota would be measured by the default one."""
    pyrunc("update", "--cpu-period", "50000", "--cpu-quota", "25000", "c", check=True)
    pyrunc("update", "--cpu-quota", "10000", "c", check=True)
    found = group(running, "cpu.cfs_period_us", "cpu.max")
    assert found == ("10000 50000" if PURE else "50000")
    done = pyrunc("update", "--memory", "256M", "c")
    assert "$.linux.resources.memory.swap: 134217728 is less than the mem" in error_of(done)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--memory", "foo"], "invalid value for memory: invalid size: 'foo'"),
        (["--memory", "-2"], "invalid value for memory: invalid size: '-2'"),
        (["--cpu-period", "x"], "invalid value for cpu-period"),
        (["--cpu-share", "-1"], "invalid value for cpu-share"),
        (["--cpu-quota", "99999999999999999999"], "invalid value for cpu-quota"),
        (["--cpu-idle", "yes"], "invalid value for cpu-idle"),
        (["--cpu-idle", "2"], "$.linux.resources.cpu.idle: 2 is neither 0 nor 1"),
        (["--cpu-quota", "5"], "$.linux.resources.cpu.quota: 5 is less than 1000"),
        (["--blkio-weight", "5"], "$.linux.resources.blockIO.weight: 5 is not between 10"),
        (["--l3-cache-schema", "L3:0=f"], "$.linux.intelRdt: this host has no resctrl"),
        (["--resources", "/nonexistent"], "/nonexistent: $: cannot be read: No such file"),
    ],
)
def test_update_refuses_what_is_no_limit(
    flags: list[str], words: str, running: Bundle, pyrunc: Pyrunc
) -> None:
    if "resctrl" in words and " - resctrl " in Path("/proc/self/mountinfo").read_text():
        pytest.skip("this host has resctrl")
    assert words in error_of(pyrunc("update", *flags, "c")).replace('\\"', '"')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "$: not JSON"),
        ('{"memory":', "$: not JSON"),
        ("[]", "standard input: $: invalid value, expected an object"),
        ('{"memory": {"limit": "x"}}', "$.linux.resources.memory.limit: invalid value"),
    ],
)
def test_update_refuses_input_that_is_no_document(
    text: str, words: str, running: Bundle, pyrunc: Pyrunc
) -> None:
    assert words in error_of(pyrunc("update", "-r", "-", "c", input=text))


def test_obsolete_flags_are_taken_with_a_warning(running: Bundle, pyrunc: Pyrunc) -> None:
    done = pyrunc("update", "--kernel-memory", "5", "--kernel-memory-tcp=7", "c", check=True)
    assert [line.split("level=")[1] for line in done.stderr.splitlines()] == [
        'warning msg="Setting --kernel-memory is ignored and will be removed"',
        'warning msg="Setting --kernel-memory-tcp is ignored and will be removed"',
    ]


# ---- pause and resume ------------------------------------------------------------------------


def test_pause_and_resume_say_nothing_and_show_in_the_state(
    running: Bundle, pyrunc: Pyrunc
) -> None:
    for verb, status in (("pause", "paused"), ("resume", "running")):
        done = pyrunc(verb, "c")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert json.loads(pyrunc("state", "c").stdout)["status"] == status
        again = error_of(pyrunc(verb, "c"))
        assert f"container not {'running' if verb == 'pause' else 'paused'}" in again


def test_pause_needs_no_environment(running: Bundle, pyrunc: Pyrunc) -> None:
    """podman calls it with XDG_RUNTIME_DIR alone: no PATH, no HOME."""
    kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    for verb in ("pause", "resume"):
        done = pyrunc(verb, "c", env={"XDG_RUNTIME_DIR": "/run", **kept})
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("pause", "container not running"),
        ("resume", "container not paused"),
        ("update", "container not running"),
        ("events", "container with id c is not running"),
    ],
)
def test_what_needs_an_init_is_refused_without(
    verb: str, words: str, running: Bundle, pyrunc: Pyrunc
) -> None:
    pidfd = os.pidfd_open(pid_of(pyrunc))
    pyrunc("kill", "c", "KILL", check=True)
    assert select.select([pidfd], [], [], PATIENCE)[0]
    os.close(pidfd)
    assert words in error_of(pyrunc(verb, "c"))
    assert pyrunc("ps", "--format", "json", "c").stdout == "null\n"
    assert pyrunc("ps", "c").stdout.split()[:3] == ["UID", "PID", "PPID"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_container_and_a_missing_name(verb: str, pyrunc: Pyrunc) -> None:
    assert "container does not exist" in error_of(pyrunc(verb, "nobody"))
    assert '\\"' + verb + '\\" requires ' in error_of(pyrunc(verb))


# ---- ps --------------------------------------------------------------------------------------


def test_ps_lists_pids_as_json(running: Bundle, pyrunc: Pyrunc) -> None:
    pid = pid_of(pyrunc)
    for words in (["--format", "json"], ["-f", "json"], ["--format=json"]):
        assert pyrunc("ps", *words, "c", check=True).stdout == f"[{pid}]\n"
    assert "invalid format option" in error_of(pyrunc("ps", "-f", "xml", "c"))


@pytest.mark.skipif(shutil.which("ps") is None, reason="there is no ps on this host")
def test_ps_shows_the_hosts_listing_reduced(running: Bundle, pyrunc: Pyrunc) -> None:
    pid = pid_of(pyrunc)
    title, *rows = pyrunc("ps", "c", check=True).stdout.splitlines()
    assert title.split()[:4] == ["UID", "PID", "PPID", "C"]
    assert [row.split()[1] for row in rows] == [str(pid)]
    shown = pyrunc("ps", "c", "-o", "pid,comm", check=True).stdout.split()
    assert shown == ["PID", "COMMAND", str(pid), "sleep"]
    assert "couldn't find PID field in ps output" in error_of(pyrunc("ps", "c", "-o", "comm"))
    assert "exit status 1" in error_of(pyrunc("ps", "c", "--no-such-option"))


def test_ps_works_where_there_is_no_such_program(running: Bundle, pyrunc: Pyrunc) -> None:
    env = {**os.environ, "PATH": "/nonexistent"}
    title, row = pyrunc("ps", "c", check=True, env=env).stdout.splitlines()
    assert title.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    cells = row.split(None, 7)
    assert cells[:2] == ["root", str(pid_of(pyrunc))]
    assert cells[5:] == ["?", "00:00:00", "sleep 1000"]
    assert "no program ps" in error_of(pyrunc("ps", "c", "aux", env=env))


# ---- events ----------------------------------------------------------------------------------


def shape(value: Any) -> Any:
    """Names and kinds, in order, without what varies: which of the zeros are left out."""
    if isinstance(value, dict):
        return [(name, shape(item)) for name, item in value.items()]
    return type(value).__name__


def test_events_shows_one_measurement(running: Bundle, pyrunc: Pyrunc) -> None:
    (line,) = pyrunc("events", "--stats", "c", check=True).stdout.splitlines()
    event = json.loads(line)
    assert list(event) == ["type", "id", "data"]
    assert (event["type"], event["id"]) == ("stats", "c")
    assert list(event["data"]) == [
        *("cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"),
        "network_interfaces",
    ]
    assert event["data"]["cpu"]["usage"]["total"] > 0
    assert [one["Name"] for one in event["data"]["network_interfaces"]] == ["lo"]


@needs_runc
@needs_v1
def test_the_measurement_has_runcs_shape(sleeper: Bundle, pyrunc: Pyrunc, tmp_path: Path) -> None:
    assert RUNC is not None
    runc = [RUNC, "--root", str(tmp_path / "runc")]
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    found = {}
    subprocess.run([*runc, "run", "-d", "-b", str(sleeper), "c"], check=True, **quiet)
    try:
        done = subprocess.run([*runc, "events", "--stats", "c"], check=True, capture_output=True)
        found["runc"] = json.loads(done.stdout)
    finally:
        subprocess.run([*runc, "delete", "--force", "c"], check=True)
    pyrunc("run", "-d", "--bundle", sleeper, "c", check=True)
    try:
        found["pyrunc"] = json.loads(pyrunc("events", "--stats", "c", check=True).stdout)
    finally:
        pyrunc("delete", "--force", "c", check=True)
    theirs, ours = found["runc"], found["pyrunc"]
    # Younger than the runc of this host, or more than runc tells: pressure, and interfaces.
    for part in ("cpu", "memory", "blkio"):
        ours["data"][part].pop("psi", None)
    for event in (theirs, ours):
        event["data"].pop("network_interfaces")
        event["data"].pop("hugetlb")
        # Left out where it is zero, as it is for a container that has read no file yet.
        event["data"]["memory"].pop("cache", None)
        event["data"]["cpu"]["usage"].pop("percpu_kernel", None)
        event["data"]["cpu"]["usage"].pop("percpu_user", None)
    assert shape(ours) == shape(theirs)
    for path in (("memory", "usage", "limit"), ("memory", "swap", "limit"), ("cpuset", "cpus")):
        pair = [event["data"] for event in (theirs, ours)]
        for key in path:
            pair = [value[key] for value in pair]
        assert pair[0] == pair[1], path


def test_events_come_until_the_container_ends(running: Bundle, pyrunc: Pyrunc) -> None:
    argv = pyrunc.argv("events", "--interval", "50ms", "c")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout is not None
        for _ in range(3):
            assert json.loads(events.stdout.readline())["type"] == "stats"
        pyrunc("kill", "c", "KILL", check=True)
        rest = events.communicate(timeout=PATIENCE)[0]
    assert events.returncode == 0
    assert {json.loads(line)["type"] for line in rest.splitlines()} <= {"stats"}


@needs_controllers
def test_events_report_that_memory_ran_out(bundle: BundleMaker, pyrunc: Pyrunc) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["linux"]["resources"]["memory"] = {"limit": 16 * MIB, "swap": 17 * MIB}

    made = bundle(["sleep", "1000"], edit=edit)
    pyrunc("run", "-d", "--bundle", made, "c", check=True)
    try:
        argv = pyrunc.argv("events", "--interval", "50ms", "c")
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as events:
            assert events.stdout is not None
            # It watches once it has shown something.
            events.stdout.readline()
            script = "x=$(head -c 67108864 /dev/zero | tr '\\0' x); echo $x"
            hog = threading.Thread(target=pyrunc, args=("exec", "c", "sh", "-c", script))
            hog.start()
            line = next(line for line in events.stdout if '"type":"oom"' in line)
            hog.join()
            # Not SIGINT: a background job's children ignore that.
            events.send_signal(signal.SIGTERM)
            events.communicate(timeout=PATIENCE)
        assert line == '{"type":"oom","id":"c"}\n'
        (line,) = pyrunc("events", "--stats", "c", check=True).stdout.splitlines()
        memory = json.loads(line)["data"]["memory"]
        assert memory["usage"]["limit"] == 16 * MIB
        assert memory["usage"]["failcnt"] > 0
    finally:
        pyrunc("delete", "--force", "c", check=True)


@pytest.mark.parametrize("interval", ["0", "0s", "-1s"])
def test_an_interval_is_more_than_nothing(interval: str, running: Bundle, pyrunc: Pyrunc) -> None:
    done = pyrunc("events", f"--interval={interval}", "c")
    assert "duration interval must be greater than 0" in error_of(done)


# ---- help ------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_runcs_layout_and_all_of_its_flags(verb: str, pyrunc: Pyrunc) -> None:
    ours = pyrunc(verb, "--help", check=True).stdout
    assert ours.startswith(f"NAME:\n   pyrunc {verb} - ")
    assert f"USAGE:\n   pyrunc {verb}" in ours
    assert f"   {verb} " in pyrunc("--help", check=True).stdout
    if RUNC is None:
        return
    theirs = subprocess.run([RUNC, verb, "--help"], capture_output=True, text=True).stdout
    assert ours.partition("\n\n")[0] == theirs.partition("\n\n")[0].replace("runc", "pyrunc")
    flags = [word for word in theirs.split() if word.startswith("--")]
    assert [flag for flag in flags if f"{flag} " not in ours] == []
