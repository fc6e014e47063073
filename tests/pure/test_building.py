"""Configurations built in code: what they start from, each keyword, and each misuse."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import libpycontainer as lc
from libpycontainer import validate
from libpycontainer.errors import ArgumentError, SpecError
from libpycontainer.host import Facts
from libpycontainer.seccomp import compiler, library
from libpycontainer.spec import light, models, profile
from libpycontainer.spec.models import Linux, LinuxResources, Process

REPOSITORY = Path(lc.__file__).parents[1]


def become(uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "getegid", lambda: uid)


def kinds(spec: lc.Spec) -> set[str]:
    assert spec.linux is not None
    return {each.type for each in spec.linux.namespaces or ()}


def process(spec: lc.Spec) -> Process:
    assert spec.process is not None
    return spec.process


def linux(spec: lc.Spec) -> Linux:
    assert spec.linux is not None
    return spec.linux


def resources(spec: lc.Spec) -> LinuxResources:
    found = linux(spec).resources
    assert found is not None
    return found


def mounts(spec: lc.Spec) -> dict[str, lc.Mount]:
    return {each.destination: each for each in spec.mounts or ()}


# ---- what it starts from ------------------------------------------------------------------------


@pytest.mark.parametrize("euid", [0, 1000])
@pytest.mark.parametrize("network", [False, True, "/run/netns/other"])
def test_the_default_is_valid_for_root_and_for_others(
    euid: int, network: bool | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(euid, monkeypatch)
    spec = lc.Spec.default().evolve(network=network)
    facts = Facts() if euid == 0 else Facts(euid=euid, egid=euid, capabilities=0)
    for form in (spec, light.load(spec.to_dict())):
        problems = validate.check(form, facts)
        assert [str(problem) for problem in problems if not problem.warning] == []


def test_the_default_gives_nothing_away() -> None:
    spec = lc.Spec.default()
    sets = process(spec).capabilities
    assert sets is not None
    assert {sets.bounding, sets.effective, sets.permitted} == {()}
    assert process(spec).no_new_privileges is True
    assert not process(spec).terminal
    assert kinds(spec) >= {"pid", "network", "ipc", "uts", "mount", "cgroup"}
    assert linux(spec).seccomp == lc.LinuxSeccomp.default()
    assert spec.root is not None
    assert spec.root.readonly is True
    assert "/proc/kcore" in (linux(spec).masked_paths or ())
    assert "/proc/sys" in (linux(spec).readonly_paths or ())


def test_an_ordinary_user_gets_a_user_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    become(0, monkeypatch)
    assert "user" not in kinds(lc.Spec.default())
    become(1000, monkeypatch)
    spec = lc.Spec.default()
    (mapping,) = linux(spec).uid_mappings or ()
    assert "user" in kinds(spec)
    assert (mapping.container_id, mapping.host_id, mapping.size) == (0, 1000, 1)
    # Device rules are a cgroup's, which he may not have.
    assert linux(spec).resources is None


def test_the_default_filter_is_dockers() -> None:
    # As Docker wrote it for a container with this one capability that brings calls.
    path = REPOSITORY / "tests/data/configs/docker28-1.json"
    theirs = json.loads(path.read_text(encoding="utf-8"))["linux"]["seccomp"]
    ours = profile.section(["CAP_SYS_CHROOT"], "x86_64")

    def free(section: dict[str, Any]) -> set[str]:
        return {
            name
            for rule in section["syscalls"]
            if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args")
            for name in rule["names"]
        }

    assert free(ours) == free(theirs)
    assert set(ours["architectures"]) == set(theirs["architectures"])
    if os.uname().machine == "x86_64" and library.installed():
        assert compiler.compile(ours).code == compiler.compile(theirs).code


@pytest.mark.parametrize("machine", [*profile.MACHINES, "sparc64"])
def test_the_default_filter_is_one_for_every_machine(machine: str) -> None:
    for capabilities in ((), ("CAP_SYS_ADMIN",), tuple(profile.BY_CAPABILITY)):
        document = profile.section(capabilities, machine)
        found = models.LinuxSeccomp.load(document)
        rules = {name: rule for rule in found.syscalls or () for name in rule.names}
        # No namespace may be made, unless by who may mount as well.
        assert ("clone3" in rules and rules["clone3"].action == "SCMP_ACT_ALLOW") is (
            "CAP_SYS_ADMIN" in capabilities
        )
        assert bool(rules["clone"].args) is ("CAP_SYS_ADMIN" not in capabilities)


# ---- each keyword -------------------------------------------------------------------------------


def test_a_copy_leaves_the_original_alone() -> None:
    spec = lc.Spec.default()
    changed = spec.evolve(args=["true"], memory="1M", hostname=None)
    assert spec == lc.Spec.default()
    assert changed.hostname is None
    assert changed != spec
    assert spec.evolve() == spec


def test_a_configuration_that_was_read_the_light_way_can_be_built_on() -> None:
    document = lc.Spec.default().to_dict()
    changed = light.load(document).evolve(memory="1M", args=["true"])
    assert changed == lc.Spec.default().evolve(memory="1M", args=["true"])
    with pytest.raises(TypeError, match="did you mean 'memory'"):
        light.load(document).evolve(memroy="1M")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Root has no attribute 'memory'"):
        light.load(document).root.evolve(memory="1M")  # type: ignore[union-attr]


def test_the_process() -> None:
    spec = lc.Spec.default().evolve(
        args=["ls", Path("/tmp")],
        env={"A": "1", "B": "x=y"},
        cwd=Path("/work"),
        user="7:8",
        umask=0o27,
        additional_gids=[9],
        terminal=True,
        rlimits={"nofile": 64, "RLIMIT_CORE": (0, -1)},
        oom_score_adj=5,
        no_new_privileges=False,
    )
    document = spec.to_dict()["process"]
    assert document["args"] == ["ls", "/tmp"]
    assert document["env"] == ["A=1", "B=x=y"]
    assert document["cwd"] == "/work"
    assert document["user"] == {"uid": 7, "gid": 8, "umask": 0o27, "additionalGids": [9]}
    assert document["terminal"] is True
    assert document["noNewPrivileges"] is False
    assert document["oomScoreAdj"] == 5
    assert document["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1},
    ]


def test_variables_are_added_or_take_the_place_of_others() -> None:
    spec = lc.Spec.default().evolve(env=["A=1", "B=2"], add_env={"B": "3", "C": "a=b"})
    assert process(spec).env == ("A=1", "B=3", "C=a=b")


@pytest.mark.parametrize(
    ("user", "ids"), [(1000, (1000, 0)), ("1000", (1000, 0)), ("5:6", (5, 6)), ((5, 6), (5, 6))]
)
def test_a_user_is_a_number_or_two(user: Any, ids: tuple[int, int]) -> None:
    found = process(lc.Spec.default().evolve(user=user)).user
    assert found is not None
    assert (found.uid, found.gid) == ids


def test_capabilities_are_roots_as_they_are_and_ambient_for_others() -> None:
    spec = lc.Spec.default().evolve(capabilities=["net_bind_service", "CAP_KILL", "KILL"])
    sets = process(spec).capabilities
    assert sets is not None
    held = ("CAP_NET_BIND_SERVICE", "CAP_KILL")
    assert sets.bounding == sets.effective == sets.permitted == held
    assert sets.ambient is None
    assert sets.inheritable is None
    other = process(spec.evolve(user=1000)).capabilities
    assert other == process(lc.Spec.default().evolve(user=1000, capabilities=held)).capabilities
    assert other is not None
    assert other.ambient == other.inheritable == held
    assert process(spec.evolve(user=1000).evolve(user=0)).capabilities == sets


def test_the_default_filter_follows_the_capabilities_and_no_other_does() -> None:
    spec = lc.Spec.default()
    traced = spec.evolve(capabilities=["SYS_CHROOT"])
    assert linux(traced).seccomp == lc.LinuxSeccomp.default(["CAP_SYS_CHROOT"])
    assert linux(traced).seccomp != linux(spec).seccomp
    assert traced.evolve(capabilities=[]) == spec
    own = {"defaultAction": "SCMP_ACT_LOG"}
    kept = spec.evolve(seccomp=own, capabilities=["SYS_CHROOT"])
    assert kept.to_dict()["linux"]["seccomp"] == own
    assert linux(kept.evolve(seccomp="default")).seccomp == linux(traced).seccomp
    assert linux(kept.evolve(seccomp=None)).seccomp is None


def test_limits_come_and_go() -> None:
    spec = lc.Spec.default().evolve(memory="1.5G", cpus=1.5, pids=64)
    found = resources(spec).to_dict()
    assert found["memory"] == {"limit": 3 << 29}
    assert found["cpu"] == {"quota": 150_000, "period": 100_000}
    assert found["pids"] == {"limit": 64}
    assert spec.evolve(memory=None, cpus=None, pids=None) == lc.Spec.default()


def test_what_else_is_limited_stays() -> None:
    spec = lc.Spec.default().evolve(linux={"resources": {"memory": {"swap": 5}}}, memory=4)
    assert resources(spec).to_dict()["memory"] == {"limit": 4, "swap": 5}
    assert resources(spec.evolve(memory=None)).to_dict()["memory"] == {"swap": 5}


def test_files() -> None:
    spec = lc.Spec.default().evolve(rootfs=Path("/srv/root"), read_only=False)
    assert spec.to_dict()["root"] == {"path": "/srv/root", "readonly": False}
    more = spec.evolve(add_mounts=[lc.Mount.bind("/data"), lc.Mount.tmpfs("/tmp", size="1M")])
    assert list(mounts(more)) == [*mounts(spec), "/data"]
    assert "size=1048576" in (mounts(more)["/tmp"].options or ())
    assert list(mounts(spec.evolve(mounts=[lc.Mount.proc()]))) == ["/proc"]


def test_the_hosts_sockets_are_not_shown_with_its_files() -> None:
    shown = lc.Spec.default().evolve(rootfs="/")
    assert mounts(shown)["/run"].type == "tmpfs"
    own = lc.Mount.bind("/srv/run", "/run")
    assert mounts(lc.Spec.default().evolve(rootfs="/", add_mounts=[own]))["/run"] == own
    assert "/run" not in mounts(lc.Spec.default().evolve(rootfs="/srv"))


def test_the_network_is_its_own_the_hosts_or_somebodys(monkeypatch: pytest.MonkeyPatch) -> None:
    become(1000, monkeypatch)
    spec = lc.Spec.default()
    hosts = spec.evolve(network=True)
    assert "network" not in kinds(hosts)
    # Only the owner of a network namespace may mount a sysfs: it is shown instead.
    assert mounts(hosts)["/sys"].type == "bind"
    joined = spec.evolve(network="/run/netns/x")
    assert {"type": "network", "path": "/run/netns/x"} in joined.to_dict()["linux"]["namespaces"]
    again = hosts.evolve(network=False)
    assert kinds(again) == kinds(spec)
    assert mounts(again) == mounts(spec)


def test_sections_are_changed_at_any_depth_or_given_whole() -> None:
    spec = lc.Spec.default().evolve(
        linux={
            "resources": {"cpu": {"shares": 512}},
            "devices": [{"path": "/dev/kvm", "type": "c", "major": 10, "minor": 232}],
        },
        hooks={"poststop": [{"path": "/bin/true"}]},
        process={"console_size": {"height": 24, "width": 80}},
    )
    assert resources(spec).cpu == models.LinuxCPU(shares=512)
    assert resources(spec).devices == resources(lc.Spec.default()).devices
    assert linux(spec).masked_paths == linux(lc.Spec.default()).masked_paths
    (device,) = linux(spec).devices or ()
    assert device == models.LinuxDevice(path="/dev/kvm", type="c", major=10, minor=232)
    assert spec.hooks == models.Hooks(poststop=[models.Hook(path="/bin/true")])
    assert process(spec).console_size == models.Box(height=24, width=80)
    assert spec.evolve(linux=Linux()).linux == Linux()


# ---- mounts -------------------------------------------------------------------------------------


def test_a_bind_is_read_only_unless_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = lc.Mount.bind("data")
    assert (shown.source, shown.destination) == (f"{tmp_path}/data", f"{tmp_path}/data")
    assert set(shown.options or ()) == {"rbind", "ro", "rro", "nosuid", "nodev"}
    writable = lc.Mount.bind(tmp_path, "/in", read_only=False, recursive=False, options=["noexec"])
    assert writable.options == ("bind", "nosuid", "nodev", "noexec")


def test_a_tmpfs_has_a_size_and_a_mode() -> None:
    mount = lc.Mount.tmpfs("/scratch", size="64M", mode=0o700, executable=False, read_only=True)
    assert (mount.destination, mount.type) == ("/scratch", "tmpfs")
    wanted = {"nosuid", "nodev", "noexec", "ro", "mode=0700", f"size={64 << 20}"}
    assert set(mount.options or ()) == wanted


@pytest.mark.parametrize(
    "make",
    [
        lambda: lc.Mount.bind("/data", "inside"),
        lambda: lc.Mount.bind("/data", ""),
        lambda: lc.Mount.bind("/data", "/in\0side"),
        lambda: lc.Mount.tmpfs("scratch"),
        lambda: lc.Mount.proc("proc"),
        lambda: lc.Mount.shm("shm"),
    ],
)
def test_a_destination_is_absolute(make: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^destination: "):
        make()


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ({"size": "64Q"}, "size"),
        ({"size": "-1"}, "size"),
        ({"size": 0}, "size"),
        ({"mode": "755"}, "mode"),
        ({"mode": 0o10000}, "mode"),
        ({"read_only": 1}, "read_only"),
        ({"executable": "no"}, "executable"),
        ({"options": "noatime"}, "options"),
        ({"options": [1]}, "options"),
    ],
)
def test_a_tmpfs_that_cannot_be_is_refused_by_the_parameters_name(
    arguments: dict[str, Any], parameter: str
) -> None:
    with pytest.raises(ArgumentError, match=f"^{parameter}: ") as caught:
        lc.Mount.tmpfs("/tmp", **arguments)
    assert caught.value.parameter == parameter


@pytest.mark.parametrize("source", [None, 5, "", b"/data", "a\0b"])
def test_a_source_is_a_path(source: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^source: "):
        lc.Mount.bind(source)


# ---- misuse -------------------------------------------------------------------------------------

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"args": "ls -l"}, r'args: expected a list of words such as \["sh"'),
    ({"args": []}, "args: there is nothing to run"),
    ({"args": ["ls", 5]}, "args: 5 is not a word"),
    ({"env": {"A": 1}}, "env: the value of 'A' is not text: 1"),
    ({"env": {"": "1"}}, "env: '=1' is not NAME=value"),
    ({"env": ["A"]}, "env: 'A' is not NAME=value"),
    ({"env": "A=1"}, "env: expected a list, not 'A=1'"),
    ({"add_env": {"A": None}}, "add_env: the value of 'A'"),
    ({"cwd": "work"}, "cwd: 'work' is not an absolute path"),
    ({"user": "root"}, "user: expected a uid, 'uid:gid' or"),
    ({"user": -1}, "user: expected"),
    ({"user": (1, 2, 3)}, "user: expected"),
    ({"user": True}, "user: expected"),
    ({"terminal": "yes"}, "terminal: expected True or False, not 'yes'"),
    ({"no_new_privileges": None}, "no_new_privileges: expected True or False"),
    ({"capabilities": ["NET_ADMN"]}, "there is no 'NET_ADMN'; did you mean 'CAP_NET_ADMIN'?"),
    ({"capabilities": "NET_ADMIN"}, "capabilities: expected a list"),
    ({"capabilities": [21]}, "capabilities: expected text, not 21"),
    ({"rlimits": {"NOFILES": 1}}, "did you mean 'RLIMIT_NOFILE'?"),
    ({"rlimits": {"NOFILE": (2, 1)}}, "rlimits: NOFILE: 2 is more than the hard limit 1"),
    ({"rlimits": {"NOFILE": "9"}}, "rlimits: NOFILE: expected a number"),
    ({"rlimits": [1]}, "rlimits: expected a mapping"),
    ({"rootfs": None}, "rootfs: expected a path, not None"),
    ({"rootfs": ""}, "rootfs: '' is not a path"),
    ({"read_only": 1}, "read_only: expected True or False, not 1"),
    ({"mounts": ["/data"]}, r"mounts\[0\]: expected a Mount, such as Mount.bind\('/data'\)"),
    ({"add_mounts": lc.Mount.proc()}, "add_mounts: expected a list of mounts"),
    ({"add_mounts": [lc.Mount(destination="x")]}, r"add_mounts\[0\]: the destination 'x'"),
    ({"network": "host"}, "network: 'host' is not an absolute path"),
    ({"network": None}, "network: expected a path"),
    ({"seccomp": "none"}, "seccomp: expected 'default'"),
    ({"memory": "12Q"}, "memory: invalid size '12Q'"),
    ({"memory": -5}, "memory: invalid size -5"),
    ({"cpus": 0}, "cpus: invalid number of processors 0"),
    ({"pids": 1.5}, "pids: invalid number of tasks 1.5"),
    ({"linux": {"resorces": {}}}, "linux: Linux has no attribute 'resorces'; did you mean"),
    ({"linux": {"resources": {"pids": {"limt": 1}}}}, "linux.resources.pids: LinuxPids has no"),
    ({"linux": {"resources": {"pids": {}}}}, "linux.resources.pids: .*'limit'"),
    ({"linux": []}, r"linux: expected a Linux, or a mapping of its attributes, not \[\]"),
    ({"hooks": {"poststop": [{"path": "/x", "arg": 1}]}}, r"hooks.poststop\[0\]: Hook has no"),
]


@pytest.mark.parametrize(("changes", "words"), MISTAKES, ids=[str(each[0]) for each in MISTAKES])
def test_a_mistake_is_refused_by_the_keywords_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words) as caught:
        lc.Spec.default().evolve(**changes)
    assert caught.value.parameter.partition(".")[0].partition("[")[0] in changes


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"hostname": 5}, "$.hostname"),
        ({"annotations": {"a": 1}}, "$.annotations.a"),
        ({"umask": "22"}, "$.process.user.umask"),
        ({"oom_score_adj": 1.5}, "$.process.oomScoreAdj"),
        ({"linux": {"resources": {"pids": {"limit": "4"}}}}, "$.linux.resources.pids.limit"),
        ({"seccomp": {"defaultAction": "ALLOW"}}, "$.linux.seccomp.defaultAction"),
    ],
)
def test_what_would_be_no_document_is_refused_by_its_path(
    changes: dict[str, Any], path: str
) -> None:
    with pytest.raises(SpecError) as caught:
        lc.Spec.default().evolve(**changes)
    assert [problem.path for problem in caught.value.problems] == [path]


def test_an_unknown_keyword_is_a_type_error_that_knows_better() -> None:
    with pytest.raises(TypeError, match=r"no parameter 'memroy'; did you mean 'memory'?"):
        lc.Spec.default().evolve(memroy="1M")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"no parameter 'zzz'$"):
        lc.Spec.default().evolve(zzz=1)  # type: ignore[arg-type]


def test_a_user_who_is_named_is_told_why_that_cannot_be() -> None:
    with pytest.raises(ArgumentError) as caught:
        lc.Spec.default().evolve(user="daemon")
    assert "/etc/passwd" in caught.value.hint
    assert caught.value.hint in caught.value.__notes__
