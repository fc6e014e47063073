"""config.md, process: scheduling, affinity, priorities, capabilities, limits, what labels need."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer import host
from tests import ways
from tests.privileged.support import (
    FOREVER,
    REPOSITORY,
    TIMEOUT,
    Program,
    add_user_namespace,
    bind,
    create,
    exec_inside,
    group_files,
    read_inside,
    sh,
)

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

SYS_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}.get(os.uname().machine, 275)


def with_process(**changes: Any) -> Any:
    return lambda config: config["process"].update(changes)


def refusal(factory: lc.Factory, one: Bundle) -> str:
    with pytest.raises(lc.errors.ContainerError) as caught:
        create(factory, one)
    assert factory.list() == []
    return str(caught.value)


# ---- scheduler ---------------------------------------------------------------------------------


def attributes_of(pid: int) -> tuple[int, ...]:
    """``struct sched_attr``: policy, flags, nice, priority, runtime, deadline, period."""
    data = ctypes.create_string_buffer(48)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(SYS_SCHED_GETATTR, pid, data, len(data), 0) < 0:
        raise OSError(ctypes.get_errno(), "sched_getattr")
    return struct.unpack("=IIQiIQQQ", data.raw)[1:]


def realtime(config: dict[str, Any]) -> None:
    """Time for real-time processes: a v1 group has none at first."""
    config["linux"].setdefault("resources", {})["cpu"] = {
        "realtimePeriod": 1_000_000,
        "realtimeRuntime": 50_000,
    }


@pytest.mark.parametrize(
    ("scheduler", "wanted"),
    [
        ({"policy": "SCHED_OTHER", "nice": 7}, (0, 0, 7, 0)),
        ({"policy": "SCHED_OTHER"}, (0, 0, 0, 0)),
        ({"policy": "SCHED_OTHER", "nice": -5}, (0, 0, -5, 0)),
        ({"policy": "SCHED_BATCH", "nice": 3}, (3, 0, 3, 0)),
        ({"policy": "SCHED_IDLE"}, (5, 0, 0, 0)),
        ({"policy": "SCHED_FIFO", "priority": 10}, (1, 0, 0, 10)),
        ({"policy": "SCHED_RR", "priority": 99}, (2, 0, 0, 99)),
        (
            {"policy": "SCHED_RR", "priority": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            (2, 1, 0, 1),
        ),
        ({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, (0, 1, 0, 0)),
        ({"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_KEEP_POLICY"]}, (0, 0, 0, 0)),
        ({"policy": "SCHED_OTHER", "nice": 9, "flags": ["SCHED_FLAG_KEEP_PARAMS"]}, (0, 0, 0, 0)),
    ],
)
@pytest.mark.no_user_namespace("needs CAP_SYS_NICE on the host")
def test_each_policy(
    factory: lc.Factory, bundle: BundleMaker, scheduler: dict[str, Any], wanted: tuple[int, ...]
) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["process"]["scheduler"] = scheduler
        if "priority" in scheduler:
            realtime(config)

    with create(factory, bundle(FOREVER, edit=edit)) as container:
        container.start()
        assert attributes_of(container.pid)[:4] == wanted


@pytest.mark.parametrize(
    "flags", [[], ["SCHED_FLAG_RECLAIM"], ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"]]
)
@pytest.mark.no_user_namespace("needs CAP_SYS_NICE on the host")
def test_the_deadline_policy(factory: lc.Factory, bundle: BundleMaker, flags: list[str]) -> None:
    numbers = {
        "SCHED_FLAG_RESET_ON_FORK": 1,
        "SCHED_FLAG_RECLAIM": 2,
        "SCHED_FLAG_DL_OVERRUN": 4,
    }
    times = (2_000_000, 50_000_000, 100_000_000)
    scheduler: dict[str, Any] = {"policy": "SCHED_DEADLINE", "flags": flags}
    scheduler |= dict(zip(("runtime", "deadline", "period"), times, strict=True))
    one = bundle(FOREVER, edit=with_process(scheduler=scheduler))
    with create(factory, one) as container:
        container.start()
        found = attributes_of(container.pid)
        assert (found[0], found[4:]) == (6, times)
        assert found[1] == sum(numbers[flag] for flag in flags)


@pytest.mark.no_user_namespace("needs CAP_SYS_NICE on the host")
def test_a_policy_is_inherited_unless_reset(factory: lc.Factory, bundle: BundleMaker) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 4}

    script = "cut -d' ' -f19,41 /proc/$$/stat; cut -d' ' -f19,41 /proc/self/stat; true"
    assert read_inside(factory, bundle(sh(script), edit=edit)).lines == ["4 3", "4 3"]
    flags = ["SCHED_FLAG_RESET_ON_FORK"]
    edit = with_process(scheduler={"policy": "SCHED_RR", "priority": 5, "flags": flags})

    def both(config: dict[str, Any]) -> None:
        edit(config)
        realtime(config)

    script = "cut -d' ' -f40,41 /proc/$$/stat; cut -d' ' -f40,41 /proc/self/stat; true"
    assert read_inside(factory, bundle(sh(script), edit=both)).lines == ["5 2", "0 0"]


def test_a_policy_that_the_kernel_lacks_is_named(factory: lc.Factory, bundle: BundleMaker) -> None:
    edit = with_process(scheduler={"policy": "SCHED_ISO"})
    message = refusal(factory, bundle(edit=edit))
    assert "set the scheduling policy SCHED_ISO: sched_setattr: Invalid argument" in message


@pytest.mark.parametrize(
    ("scheduler", "path"),
    [
        ({"policy": "SCHED_OTHER", "nice": 20}, "$.process.scheduler.nice"),
        ({"policy": "SCHED_FIFO"}, "$.process.scheduler.priority"),
        ({"policy": "SCHED_BATCH", "priority": 1}, "$.process.scheduler.priority"),
        ({"policy": "SCHED_RR", "priority": 1, "runtime": 1}, "$.process.scheduler.runtime"),
        ({"policy": "SCHED_DEADLINE", "runtime": 5}, "$.process.scheduler.runtime"),
        ({"policy": "SCHED_MAGIC"}, "$.process.scheduler.policy"),
        ({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_MAGIC"]}, "$.process.scheduler.flags[0]"),
        ({"nice": 1}, "$.process.scheduler.policy"),
    ],
)
def test_a_scheduler_that_is_none_is_refused(
    factory: lc.Factory, bundle: BundleMaker, scheduler: dict[str, Any], path: str
) -> None:
    assert path in refusal(factory, bundle(edit=with_process(scheduler=scheduler)))


# ---- the rest of scheduling --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("priority", "wanted"),
    [
        ({"class": "IOPRIO_CLASS_RT", "priority": 0}, "realtime: prio 0"),
        ({"class": "IOPRIO_CLASS_BE", "priority": 7}, "best-effort: prio 7"),
        ({"class": "IOPRIO_CLASS_BE"}, "best-effort: prio 0"),
        ({"class": "IOPRIO_CLASS_IDLE", "priority": 4}, "idle"),
    ],
)
@pytest.mark.no_user_namespace("needs CAP_SYS_NICE on the host")
def test_io_priority(
    factory: lc.Factory, bundle: BundleMaker, priority: dict[str, Any], wanted: str
) -> None:
    one = bundle(sh("ionice; ionice -p 1"), edit=with_process(ioPriority=priority))
    result = read_inside(factory, one)
    assert all(line.startswith(wanted) for line in result.lines)
    assert len(result.lines) == 2


@pytest.mark.parametrize("priority", [{"class": "IOPRIO_CLASS_BE", "priority": 8}, {"class": "X"}])
def test_an_io_priority_that_is_none_is_refused(
    factory: lc.Factory, bundle: BundleMaker, priority: dict[str, Any]
) -> None:
    assert "$.process.ioPriority" in refusal(
        factory, bundle(edit=with_process(ioPriority=priority))
    )


def cpus_of(text: str) -> str:
    return next(line.split()[1] for line in text.splitlines() if "Cpus_allowed_list" in line)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs to choose from")
@pytest.mark.parametrize(
    ("affinity", "wanted"),
    [
        ({"initial": "0", "final": "1"}, "1"),
        ({"final": "0"}, "0"),
        # config.md: without a final one, whatever the cgroup has.
        ({"initial": "0"}, None),
        ({"initial": "0", "final": ""}, None),
        ({}, None),
    ],
)
def test_affinity_is_for_exec_alone(
    factory: lc.Factory, bundle: BundleMaker, affinity: dict[str, str], wanted: str | None
) -> None:
    with create(factory, bundle(FOREVER, edit=with_process(execCPUAffinity=affinity))) as container:
        container.start()
        every = cpus_of(Path(f"/proc/{container.pid}/status").read_text())
        found = cpus_of(exec_inside(container, ["cat", "/proc/self/status"]).text)
        assert found == (wanted or every)
    assert cpus_of(Path("/proc/self/status").read_text()) == every


def test_affinity_to_a_cpu_that_is_not_there_names_the_step(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    for name in ("initial", "final"):
        edit = with_process(execCPUAffinity={name: "8000"})
        with create(factory, bundle(FOREVER, edit=edit)) as container:
            container.start()
            with pytest.raises(lc.errors.StepError, match="run on the CPUs 8000: Invalid argument"):
                exec_inside(container, ["true"])


def test_affinity_that_is_no_list_is_refused(factory: lc.Factory, bundle: BundleMaker) -> None:
    for name, words in (("initial", "3-1"), ("final", "x")):
        edit = with_process(execCPUAffinity={name: words})
        assert f"$.process.execCPUAffinity.{name}" in refusal(factory, bundle(edit=edit))


# ---- terminal ----------------------------------------------------------------------------------


def test_the_consoles_size_is_ignored_without_a_terminal(
    factory: lc.Factory, bundle: BundleMaker, caplog: pytest.LogCaptureFixture
) -> None:
    one = bundle(sh("tty; stat -c %F /dev/console"))
    one.process["consoleSize"] = {"height": 3, "width": 4}
    result = read_inside(factory, one)
    assert result.lines[0] == "not a tty"
    assert "No such file" in result.lines[1]
    assert "$.process.consoleSize: there is no terminal, ignored" in caplog.text


# ---- privileges --------------------------------------------------------------------------------


def capabilities(**sets: list[str]) -> Any:
    return with_process(capabilities=sets)


def masks(factory: lc.Factory, one: Bundle) -> dict[str, int]:
    text = read_inside(factory, one).text
    rows = [line.split() for line in text.splitlines() if line.startswith("Cap")]
    return {name.removesuffix(":"): int(value, 16) for name, value in rows}


KILL, CHOWN, NET = "CAP_KILL", "CAP_CHOWN", "CAP_NET_BIND_SERVICE"


def test_ambient_capabilities_survive_the_change_of_the_user(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    def edit(config: dict[str, Any]) -> None:
        names = [KILL, NET]
        sets = ("bounding", "permitted", "inheritable", "effective")
        capabilities(**dict.fromkeys(sets, names), ambient=[NET])(config)
        config["process"]["user"] = {"uid": 1000, "gid": 1000}

    found = masks(factory, bundle(["cat", "/proc/self/status"], edit=edit))
    # What is not ambient is lost to an ordinary user at execve (man 7 capabilities).
    assert found == {
        "CapInh": 1 << 5 | 1 << 10,
        "CapPrm": 1 << 10,
        "CapEff": 1 << 10,
        "CapBnd": 1 << 5 | 1 << 10,
        "CapAmb": 1 << 10,
    }


@pytest.mark.parametrize("missing", ["permitted", "inheritable"])
def test_ambient_needs_permitted_and_inheritable(
    factory: lc.Factory,
    bundle: BundleMaker,
    missing: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sets = {name: [CHOWN, KILL] for name in ("bounding", "permitted", "effective", "inheritable")}
    sets[missing] = [CHOWN]
    sets["ambient"] = [CHOWN, KILL]
    found = masks(factory, bundle(["cat", "/proc/self/status"], edit=capabilities(**sets)))
    assert found["CapAmb"] == 1
    assert "CAP_KILL is not both permitted and inheritable, ignored" in caplog.text


def test_unknown_capabilities_are_a_warning(
    factory: lc.Factory, bundle: BundleMaker, caplog: pytest.LogCaptureFixture
) -> None:
    sets = {name: [CHOWN, "CAP_MAGIC"] for name in ("bounding", "permitted", "effective")}
    found = masks(factory, bundle(["cat", "/proc/self/status"], edit=capabilities(**sets)))
    assert found["CapBnd"] == found["CapPrm"] == found["CapEff"] == 1
    for name in sets:
        assert f"$.process.capabilities.{name}[1]" in caplog.text


@pytest.mark.no_user_namespace("a user namespace has every capability")
def test_capabilities_that_the_caller_lacks_are_a_warning(
    bundle: BundleMaker, state_root: str
) -> None:
    sets = ("bounding", "permitted", "effective")
    one = bundle(
        sh("grep Cap /proc/self/status; exit 3"),
        edit=capabilities(**{name: [KILL, CHOWN] for name in sets}),
    )
    one.save()
    source = """
import logging
logging.basicConfig(stream=sys.stdout, format="%(message)s")
with create(stdout=lc.PIPE) as container:
    container.start()
    os.write(1, container.process.communicate()[0])
"""
    done = without("kill", state_root, one, source)
    assert f"{KILL} is not in the caller's bounding set, ignored" in done
    found = dict(line.split() for line in done.splitlines() if line.startswith("Cap"))
    assert found["CapBnd:"] == found["CapEff:"] == "0000000000000001"


def without(capability: str, state_root: str, one: Bundle, source: str) -> str:
    """What a program says that uses the library as root without one capability."""
    done = subprocess.run(
        [
            *("setpriv", f"--bounding-set=-{capability}"),
            *(sys.executable, "-c", Program.PRELUDE + source, state_root, str(one)),
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT,
        text=True,
    )
    return done.stdout


@pytest.mark.parametrize(("wanted", "gained"), [(True, "1000"), (False, "0")])
def test_no_new_privileges_stops_set_user_id_programs(
    factory: lc.Factory, bundle: BundleMaker, wanted: bool, gained: str
) -> None:
    # The host's cat: busybox gives privileges up that it does not need.
    one = bundle(["/srv/cat", "/proc/self/status"], private_rootfs=True)
    (one.rootfs / "srv").mkdir()
    shutil.copy("/usr/bin/cat", one.rootfs / "srv/cat")
    ways.own(one.rootfs / "srv/cat")
    (one.rootfs / "srv/cat").chmod(0o4755)
    for directory in ("/usr", "/lib", "/lib64"):
        if os.path.isdir(directory):
            bind(one.config, directory, directory, "ro")
    one.process.update(noNewPrivileges=wanted, user={"uid": 1000, "gid": 1000})
    uids = next(line for line in read_inside(factory, one).lines if line.startswith("Uid"))
    assert uids.split()[1:3] == ["1000", gained]


# ---- limits ------------------------------------------------------------------------------------

LIMITS = {
    "RLIMIT_CPU": "Max cpu time",
    "RLIMIT_FSIZE": "Max file size",
    "RLIMIT_DATA": "Max data size",
    "RLIMIT_STACK": "Max stack size",
    "RLIMIT_CORE": "Max core file size",
    "RLIMIT_RSS": "Max resident set",
    "RLIMIT_NPROC": "Max processes",
    "RLIMIT_NOFILE": "Max open files",
    "RLIMIT_MEMLOCK": "Max locked memory",
    "RLIMIT_AS": "Max address space",
    "RLIMIT_LOCKS": "Max file locks",
    "RLIMIT_SIGPENDING": "Max pending signals",
    "RLIMIT_MSGQUEUE": "Max msgqueue size",
    "RLIMIT_NICE": "Max nice priority",
    "RLIMIT_RTPRIO": "Max realtime priority",
    "RLIMIT_RTTIME": "Max realtime timeout",
}


def test_every_limit(factory: lc.Factory, bundle: BundleMaker) -> None:
    wanted = {}
    for number, name in enumerate(LIMITS):
        hard = resource.getrlimit(getattr(resource, name, number))[1]
        # A caller without CAP_SYS_RESOURCE may only lower them, and the program needs some of it.
        hard = (1 << 30) + number if hard < 0 else hard
        wanted[name] = (hard - hard // 4, hard)
    limits = [{"type": name, "soft": s, "hard": h} for name, (s, h) in wanted.items()]
    text = read_inside(
        factory, bundle(["cat", "/proc/self/limits"], edit=with_process(rlimits=limits))
    ).text
    for name, title in LIMITS.items():
        line = next(line for line in text.splitlines() if line.startswith(title))
        assert tuple(map(int, line.removeprefix(title).split()[:2])) == wanted[name]


def test_a_limit_may_be_infinite(factory: lc.Factory, bundle: BundleMaker) -> None:
    limits = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}]
    one = bundle(sh("ulimit -Sc; ulimit -Hc"), edit=with_process(rlimits=limits))
    assert read_inside(factory, one).lines == ["0", "unlimited"]


WITH_RESOURCE = pytest.mark.skipif(
    not host.facts().capabilities >> 24 & 1, reason="the caller has no CAP_SYS_RESOURCE"
)

LOWER = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (500, 600))
try:
    with create(stdout=lc.PIPE) as container:
        container.start()
        say(container.process.communicate()[0].decode())
except lc.errors.ContainerError as error:
    say(f"{type(error).__name__}: {error}")
say(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize("user_namespace", [False, True])
@pytest.mark.parametrize(
    ("hard", "words"),
    [(600, "550"), (601, "cannot set RLIMIT_NOFILE to 500:601: prlimit: Operation not permitted")],
)
def test_without_the_capability_limits_can_only_be_lowered(
    bundle: BundleMaker, state_root: str, hard: int, words: str, user_namespace: bool
) -> None:
    one = bundle(sh("ulimit -n"))
    if user_namespace:
        add_user_namespace(one.config)
    one.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 550, "hard": hard}]
    one.save()
    done = without("sys_resource", state_root, one, LOWER)
    assert words in done
    assert "(500, 600)" in done
    if hard > 600:
        assert "the hard limit is 600" in done


@WITH_RESOURCE
def test_with_the_capability_limits_are_raised(bundle: BundleMaker, state_root: str) -> None:
    one = bundle(sh("ulimit -n"))
    add_user_namespace(one.config)
    one.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 650, "hard": 700}]
    one.save()
    with Program(state_root, one, LOWER) as program:
        assert program.rest().split("\n")[0] == "650"


@pytest.mark.parametrize(
    ("limits", "path"),
    [
        ([{"type": "RLIMIT_MAGIC", "soft": 1, "hard": 1}], "$.process.rlimits[0].type"),
        (
            [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2,
            "$.process.rlimits[1].type: RLIMIT_CORE is given twice",
        ),
        ([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}], "$.process.rlimits[0].soft"),
        ([{"type": "RLIMIT_CORE", "soft": 2**64, "hard": 1}], "$.process.rlimits[0].soft"),
        ([{"type": "RLIMIT_CORE", "soft": 2}], "$.process.rlimits[0].hard"),
    ],
)
def test_a_limit_that_is_none_is_refused(
    factory: lc.Factory, bundle: BundleMaker, limits: list[dict[str, Any]], path: str
) -> None:
    assert path in refusal(factory, bundle(edit=with_process(rlimits=limits)))


@pytest.mark.parametrize(
    "value",
    [0, 1, 1000, *(pytest.param(value, marks=WITH_RESOURCE) for value in (-1000, -1))],
)
def test_the_oom_score_is_exact(factory: lc.Factory, bundle: BundleMaker, value: int) -> None:
    one = bundle(["cat", "/proc/self/oom_score_adj"], edit=with_process(oomScoreAdj=value))
    assert read_inside(factory, one).text == f"{value}\n"


def test_the_oom_score_is_left_alone_unless_it_is_set(state_root: str, bundle: BundleMaker) -> None:
    # A cold one: what a warm one makes has the score that the program had when it began.
    factory = lc.Factory(root=state_root)
    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    own.write_text("77")
    try:
        assert read_inside(factory, bundle(["cat", "/proc/self/oom_score_adj"])).text == "77\n"
    finally:
        own.write_text(before)


def test_an_oom_score_that_the_caller_may_not_set_names_the_step(
    bundle: BundleMaker, state_root: str
) -> None:
    one = bundle(edit=with_process(oomScoreAdj=-999))
    one.save()
    source = """
try:
    create()
except lc.errors.StepError as error:
    say(error)
say(factory.list())
"""
    done = without("sys_resource", state_root, one, source)
    assert "set oom_score_adj to -999: Permission denied" in done
    assert done.endswith("[]\n")


def test_an_oom_score_beyond_the_kernels_is_refused(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    message = refusal(factory, bundle(edit=with_process(oomScoreAdj=1001)))
    assert "$.process.oomScoreAdj" in message


# ---- user --------------------------------------------------------------------------------------


@pytest.mark.no_user_namespace("they are not mapped")
def test_users_are_numbers_that_no_file_has_to_know(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    user = {"uid": 4_000_000, "gid": 4_000_001, "additionalGids": [4_000_002, 7, 7], "umask": 0o137}
    script = "id -u; id -g; grep Groups /proc/self/status; umask; echo $HOME"
    one = bundle(sh(script), edit=with_process(user=user))
    result = read_inside(factory, one)
    assert result.lines[:2] == ["4000000", "4000001"]
    assert set(result.lines[2].split()[1:]) == {"4000002", "7"}
    assert result.lines[3:] == ["0137", "/"]


@pytest.mark.parametrize("umask", [0, 0o22, 0o77, 0o777])
def test_the_umask_is_the_given_one(factory: lc.Factory, bundle: BundleMaker, umask: int) -> None:
    one = bundle(sh("umask"), edit=with_process(user={"uid": 0, "gid": 0, "umask": umask}))
    assert read_inside(factory, one).text == f"{umask:04o}\n"


def test_a_umask_of_ten_bits_is_refused(factory: lc.Factory, bundle: BundleMaker) -> None:
    edit = with_process(user={"uid": 0, "gid": 0, "umask": 0o1000})
    assert "$.process.user.umask" in refusal(factory, bundle(edit=edit))


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"cwd": "tmp"}, "$.process.cwd"),
        ({"cwd": ""}, "$.process.cwd"),
        ({"args": []}, "$.process.args"),
        ({"args": [""]}, "$.process.args[0]"),
        ({"args": None}, "$.process.args"),
        ({"env": ["A=1", "NOVALUE"]}, "$.process.env[1]"),
        ({"args": ["a\0b"]}, "$.process.args[0]"),
    ],
)
def test_a_command_that_is_none_is_refused(
    factory: lc.Factory, bundle: BundleMaker, changes: dict[str, Any], path: str
) -> None:
    assert path in refusal(factory, bundle(edit=with_process(**changes)))


# ---- labels and keys ---------------------------------------------------------------------------


@pytest.mark.skipif(
    Path("/sys/module/apparmor").exists() or Path("/sys/fs/selinux").exists(),
    reason="this kernel has a security module of that kind",
)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"apparmorProfile": "docker-default"}, "AppArmor is not enabled on this host"),
        ({"selinuxLabel": "system_u:system_r:container_t:s0"}, "SELinux is not enabled"),
    ],
)
def test_a_label_without_its_security_module_is_refused(
    factory: lc.Factory, bundle: BundleMaker, changes: dict[str, str], words: str
) -> None:
    message = refusal(factory, bundle(edit=with_process(**changes)))
    assert f"$.process.{next(iter(changes))}: {words}" in message


def test_a_session_keyring_is_made_unless_it_is_not_wanted(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    for id, wanted in (("keyed", True), ("keyless", False)):
        one = bundle(["cat", "/proc/keys"], edit=lambda c: c["linux"].update(maskedPaths=[]))
        text = read_inside(factory, one, id, new_keyring=wanted).text
        assert (f" keyring   _ses.{id}: empty" in text) is wanted


@pytest.mark.no_user_namespace("needs CAP_SYS_NICE on the host")
def test_the_group_has_the_time_that_a_policy_needs(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    """Where real-time processes are counted by v1 groups, the limit comes before the policy."""
    if not Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists():
        pytest.skip("no v1 cpu controller that counts real-time processes")
    one = bundle(FOREVER, edit=realtime)
    one.process["scheduler"] = {"policy": "SCHED_FIFO", "priority": 1}
    with create(factory, one) as container:
        container.start()
        path = one.linux["cgroupsPath"]
        assert group_files(path, "cpu.rt_runtime_us", "", "cpu") == "50000"
    del one.linux["resources"]["cpu"]
    message = refusal(factory, one)
    assert "set the scheduling policy SCHED_FIFO: sched_setattr: Operation not permitted" in message
