"""What the program finds when it starts: namespaces, identity, privileges, limits, signals."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import FOREVER, Program, create, group_files, read_inside, sh

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

DEFAULT_CAPABILITIES = 1 << 29 | 1 << 5 | 1 << 10  # AUDIT_WRITE, KILL, NET_BIND_SERVICE
SIGNAL_SETS = ("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd")


def status_fields(text: str) -> dict[str, str]:
    return {
        name: value.strip()
        for name, colon, value in (line.partition(":") for line in text.splitlines())
        if colon
    }


@pytest.mark.no_user_namespace("expects the host's user namespace")
def test_namespaces_are_not_the_hosts(factory: lc.Factory, bundle: BundleMaker) -> None:
    names = ("pid", "net", "ipc", "uts", "mnt", "cgroup", "user", "time")

    def add_cgroup(config: dict[str, Any]) -> None:
        namespaces = config["linux"]["namespaces"]
        if {"type": "cgroup"} not in namespaces:
            namespaces.append({"type": "cgroup"})

    script = "for name in " + " ".join(names) + "; do readlink /proc/self/ns/$name; done"
    inside = read_inside(factory, bundle(sh(script), edit=add_cgroup)).lines
    host = [os.readlink(f"/proc/self/ns/{name}") for name in names]
    shared = {
        name for name, ours, theirs in zip(names, host, inside, strict=True) if ours == theirs
    }
    assert shared == {"user", "time"}


def test_program_is_pid_one_of_its_own_session(factory: lc.Factory, bundle: BundleMaker) -> None:
    result = read_inside(factory, bundle(sh("cat /proc/$$/stat; echo /proc/[0-9]*")))
    fields = result.lines[0].split()
    assert fields[0] == fields[4] == fields[5] == "1"
    assert fields[3] == "0"
    assert result.lines[1] == "/proc/1"


def test_loopback_is_up_and_alone(factory: lc.Factory, bundle: BundleMaker) -> None:
    result = read_inside(
        factory, bundle(sh("ip -o addr; ping -c 1 -W 1 127.0.0.1 >&2; ls /sys/class/net"))
    )
    assert "127.0.0.1" in result.text
    assert result.lines[-1] == "lo"


def test_names_are_the_configured_ones(factory: lc.Factory, bundle: BundleMaker) -> None:
    def name(config: dict[str, Any]) -> None:
        config.update(hostname="chosen", domainname="example.org")

    result = read_inside(
        factory, bundle(sh("hostname; cat /proc/sys/kernel/domainname"), edit=name)
    )
    assert result.lines == ["chosen", "example.org"]
    assert os.uname().nodename != "chosen"


def test_sysctls_are_set_inside_only(factory: lc.Factory, bundle: BundleMaker) -> None:
    def set_sysctls(config: dict[str, Any]) -> None:
        config["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "77", "kernel.msgmax": "4242"}

    names = ("net/ipv4/ip_default_ttl", "kernel/msgmax")
    before = [Path("/proc/sys", name).read_text() for name in names]
    script = "cat " + " ".join(f"/proc/sys/{name}" for name in names)
    assert read_inside(factory, bundle(sh(script), edit=set_sysctls)).lines == ["77", "4242"]
    assert [Path("/proc/sys", name).read_text() for name in names] == before


def test_default_capabilities(factory: lc.Factory, bundle: BundleMaker) -> None:
    result = read_inside(factory, bundle(["cat", "/proc/self/status"]))
    fields = status_fields(result.text)
    for name in ("CapBnd", "CapPrm", "CapEff"):
        assert int(fields[name], 16) == DEFAULT_CAPABILITIES, name
    assert int(fields["CapInh"], 16) == 0
    assert int(fields["CapAmb"], 16) == 0


def test_each_capability_set_is_its_own(factory: lc.Factory, bundle: BundleMaker) -> None:
    def choose(config: dict[str, Any]) -> None:
        config["process"]["user"] = {"uid": 1000, "gid": 1000}
        config["process"]["capabilities"] = {
            "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_SYS_TIME"],
            "permitted": ["CAP_KILL", "CAP_CHOWN"],
            "effective": ["CAP_KILL"],
            "inheritable": ["CAP_KILL", "CAP_CHOWN"],
            "ambient": ["CAP_KILL"],
        }

    result = read_inside(factory, bundle(["cat", "/proc/self/status"], edit=choose))
    fields = {
        name: int(value, 16)
        for name, value in status_fields(result.text).items()
        if name.startswith("Cap")
    }
    kill, chown, time = 1 << 5, 1 << 0, 1 << 25
    assert fields == {
        "CapBnd": kill | chown | time,
        "CapInh": kill | chown,
        # An ordinary user's execve keeps what is ambient.
        "CapPrm": kill,
        "CapEff": kill,
        "CapAmb": kill,
    }


def test_no_capabilities_field_means_none(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["cat", "/proc/self/status"], edit=lambda c: c["process"].pop("capabilities"))
    fields = status_fields(read_inside(factory, one).text)
    assert {int(value, 16) for name, value in fields.items() if name.startswith("Cap")} == {0}


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(factory: lc.Factory, bundle: BundleMaker, wanted: bool) -> None:
    one = bundle(
        ["cat", "/proc/self/status"], edit=lambda c: c["process"].update(noNewPrivileges=wanted)
    )
    assert status_fields(read_inside(factory, one).text)["NoNewPrivs"] == str(int(wanted))


def test_resource_limits(factory: lc.Factory, bundle: BundleMaker) -> None:
    def limit(config: dict[str, Any]) -> None:
        config["process"]["rlimits"] = [
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 2 << 20},
        ]

    lines = read_inside(factory, bundle(["cat", "/proc/self/limits"], edit=limit)).lines
    found = {line[:26].strip(): line[26:].split()[:2] for line in lines}
    assert found["Max open files"] == ["100", "200"]
    assert found["Max core file size"] == ["0", "0"]
    assert found["Max stack size"] == [str(1 << 20), str(2 << 20)]


def test_tight_resource_limits_are_no_hindrance(factory: lc.Factory, bundle: BundleMaker) -> None:
    # They must not be in init's own way: it has open files and memory of its own.
    def limit(config: dict[str, Any]) -> None:
        config["process"]["rlimits"] = [
            {"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3},
            {"type": "RLIMIT_AS", "soft": 4 << 20, "hard": 4 << 20},
            {"type": "RLIMIT_FSIZE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_NPROC", "soft": 1, "hard": 1},
        ]

    result = read_inside(factory, bundle(["echo", "runs"], edit=limit))
    assert result == (0, "runs\n")


def test_identity(factory: lc.Factory, bundle: BundleMaker) -> None:
    def become(config: dict[str, Any]) -> None:
        config["process"]["user"] = {
            "uid": 1000,
            "gid": 1001,
            "additionalGids": [50, 60],
            "umask": 0o027,
        }

    script = "id -u; id -g; grep -E '^(Uid|Gid|Groups)' /proc/self/status; umask"
    lines = read_inside(factory, bundle(sh(script), edit=become)).lines
    assert lines[:2] == ["1000", "1001"]
    assert lines[2].split() == ["Uid:"] + ["1000"] * 4
    assert lines[3].split() == ["Gid:"] + ["1001"] * 4
    assert lines[4].split() == ["Groups:", "50", "60"]
    assert lines[5] == "0027"


@pytest.mark.privileged_caller("an ordinary user cannot give himself groups")
def test_no_group_of_the_callers_stays(factory: lc.Factory, bundle: BundleMaker) -> None:
    script = """
os.setgroups([4242])
with create(stdout=sys.stdout) as container:
    container.start()
    container.wait(20)
"""
    one = bundle(["grep", "^Groups", "/proc/self/status"])
    with Program(factory.root, one, script) as program:
        assert program.rest().split() == ["Groups:"]


def test_umask_is_022_unless_configured(factory: lc.Factory, bundle: BundleMaker) -> None:
    before = os.umask(0o077)
    try:
        assert read_inside(factory, bundle(sh("umask"))).text == "0022\n"
    finally:
        os.umask(before)


def test_environment_is_exact(factory: lc.Factory, bundle: BundleMaker) -> None:
    def choose(config: dict[str, Any]) -> None:
        config["process"]["env"] = ["PATH=/usr/bin", "A=1", "A=2", "EMPTY=", "HOME=/somewhere"]

    result = read_inside(factory, bundle(["env"], edit=choose))
    assert sorted(result.lines) == ["A=2", "EMPTY=", "HOME=/somewhere", "PATH=/usr/bin"]


@pytest.mark.parametrize(("uid", "home"), [(0, "/root"), (1000, "/home/app"), (4242, "/")])
def test_home_is_the_containers_passwds(
    factory: lc.Factory, bundle: BundleMaker, uid: int, home: str
) -> None:
    def become(config: dict[str, Any]) -> None:
        config["process"]["user"] = {"uid": uid, "gid": uid}

    assert read_inside(factory, bundle(sh("echo $HOME"), edit=become)).text == home + "\n"


def test_program_is_looked_up_in_the_containers_path(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(["hello"], private_rootfs=True)
    for directory, text in (("first", "first"), ("second", "second")):
        path = one.rootfs / directory / "hello"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\necho {text}\n")
        path.chmod(0o755)
    # Neither a directory of that name nor a file that cannot be executed ends the search.
    (one.rootfs / "directory/hello").mkdir(parents=True)
    (one.rootfs / "plain").mkdir()
    (one.rootfs / "plain/hello").write_text("no program")
    one.process["env"] = ["PATH=/missing:/directory:/plain:/second:/first"]
    assert read_inside(factory, one).text == "second\n"


def test_working_directory_is_made(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["pwd"], private_rootfs=True)
    one.process["cwd"] = "/made/on/the/way"
    assert read_inside(factory, one).text == "/made/on/the/way\n"
    assert (one.rootfs / "made/on/the/way").stat().st_mode & 0o777 == 0o755


def test_working_directory_that_only_the_user_may_enter(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(["pwd"], private_rootfs=True)
    (one.rootfs / "home/app").chmod(0o700)
    one.process.update(cwd="/home/app", user={"uid": 1000, "gid": 1000})
    one.process.pop("capabilities")
    assert read_inside(factory, one).text == "/home/app\n"


def test_oom_score_adj(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(
        ["cat", "/proc/self/oom_score_adj"], edit=lambda c: c["process"].update(oomScoreAdj=321)
    )
    before = Path("/proc/self/oom_score_adj").read_text()
    assert read_inside(factory, one).text == "321\n"
    assert Path("/proc/self/oom_score_adj").read_text() == before


def test_limits_are_on_the_hosts_cgroup_files(factory: lc.Factory, bundle: BundleMaker) -> None:
    def limit(config: dict[str, Any]) -> None:
        config["linux"]["resources"].update(
            memory={"limit": 64 << 20},
            cpu={"quota": 50_000, "period": 100_000, "shares": 512},
            pids={"limit": 33},
        )

    one = bundle(FOREVER, edit=limit)
    path = one.linux["cgroupsPath"]
    with create(factory, one) as container:
        memory = group_files(path, "memory.limit_in_bytes", "memory.max", "memory")
        assert memory == str(64 << 20)
        assert group_files(path, "pids.max", "pids.max", "pids") == "33"
        cpu = group_files(path, "cpu.cfs_quota_us", "cpu.max", "cpu")
        assert cpu in ("50000", "50000 100000")
        members = Path(f"/proc/{container.pid}/cgroup").read_text().splitlines()
        ours = [line for line in members if line.endswith(path)]
        assert len(ours) == len(container.cgroup.paths().keys()) or len(ours) == len(members)


def test_memory_limit_is_enforced(factory: lc.Factory, bundle: BundleMaker) -> None:
    def limit(config: dict[str, Any]) -> None:
        config["linux"]["resources"].update(memory={"limit": 32 << 20})

    # tail keeps a line without an end in memory, whole.
    one = bundle(sh("tail -n 1 /dev/zero; echo survived $?"), edit=limit)
    assert read_inside(factory, one).lines[-1] == "survived 137"


def test_pids_limit_is_enforced(factory: lc.Factory, bundle: BundleMaker) -> None:
    def limit(config: dict[str, Any]) -> None:
        config["linux"]["resources"].update(pids={"limit": 2})

    one = bundle(sh("sleep 1000 & sleep 1000 & echo both"), edit=limit)
    result = read_inside(factory, one)
    assert "can't fork" in result.text
    assert "both" not in result.text


def test_only_the_standard_descriptors_are_open(factory: lc.Factory, bundle: BundleMaker) -> None:
    inherited = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        # The shell's own are looked at: what lists them is another process and has one more.
        result = read_inside(factory, bundle(sh("ls /proc/$$/fd; true")))
    finally:
        os.close(inherited)
    assert result.lines == ["0", "1", "2"]


def test_passed_descriptors_follow_the_preserved_ones(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    script = """
for number, text in enumerate(("three", "four", "passed"), 3):
    with open(f"{bundle}/{text}", "w+") as file:
        file.write(text + "\\n")
        file.flush()
        file.seek(0)
        os.dup2(file.fileno(), 100 + number)
for number in (3, 4, 30):
    os.dup2({3: 103, 4: 104, 30: 105}[number], number)
with create(stdout=sys.stdout, preserve_fds=2, pass_fds=[30]) as container:
    container.start()
    container.wait(20)
"""
    one = bundle(sh("ls /proc/$$/fd; cat <&3; cat <&4; cat <&5"))
    with Program(factory.root, one, script) as program:
        said = program.rest().split()
    assert said == ["0", "1", "2", "3", "4", "5", "three", "four", "passed"]


@pytest.mark.parametrize("options", ["preserve_fds=1", "pass_fds=[3]", "stdout=3"])
def test_descriptor_that_is_not_open_is_refused(
    factory: lc.Factory, bundle: BundleMaker, options: str
) -> None:
    # One of the library's own may have got that number by then: a way into its conversation.
    script = f"""
os.closerange(3, 50)
try:
    with create({options}) as container:
        say("created")
except lc.ContainerError as error:
    say(error)
"""
    with Program(factory.root, bundle(["true"]), script) as program:
        said = program.rest()
    assert "3" in said
    assert "not open" in said


def test_signals_are_at_their_defaults(factory: lc.Factory, bundle: BundleMaker) -> None:
    script = """
for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
with create(stdout=sys.stdout) as container:
    container.start()
    container.wait(20)
"""
    with Program(factory.root, bundle(["cat", "/proc/self/status"]), script) as program:
        fields = status_fields(program.rest())
    assert {name: int(fields[name], 16) for name in SIGNAL_SETS} == dict.fromkeys(SIGNAL_SETS, 0)


def test_session_keyring_is_its_own(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["cat", "/proc/keys"], edit=lambda c: c["linux"].update(maskedPaths=[]))
    assert " keyring   _ses.one: empty" in read_inside(factory, one).text


def test_caller_keeps_its_own_session_and_handlers(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    session = os.getsid(0)
    handlers = {number: signal.getsignal(number) for number in signal.Signals}
    read_inside(factory, bundle(["true"]))
    assert os.getsid(0) == session
    assert {number: signal.getsignal(number) for number in signal.Signals} == handlers


@pytest.mark.no_user_namespace("they are those of another user namespace")
def test_namespaces_of_another_container_can_be_joined(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    files = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts"}
    with create(
        factory, bundle(FOREVER, edit=lambda c: c.update(hostname="first")), "first"
    ) as first:
        first.start()

        def join(config: dict[str, Any]) -> None:
            del config["hostname"]
            for namespace in config["linux"]["namespaces"]:
                if namespace["type"] in files:
                    namespace["path"] = f"/proc/{first.pid}/ns/{files[namespace['type']]}"

        script = """
hostname; for name in pid net ipc uts; do readlink /proc/self/ns/$name; done; cat /proc/1/comm
"""
        result = read_inside(factory, bundle(sh(script), edit=join), "second")
        expected = [os.readlink(f"/proc/{first.pid}/ns/{name}") for name in files.values()]
        assert result.lines == ["first", *expected, "sleep"]
        assert first.status == "running"
