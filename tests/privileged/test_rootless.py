"""An ordinary user with a Python of his own: run, exec, wait, a terminal, clear refusals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import _cffi_backend
import pytest

import libpycontainer
from libpycontainer.cgroups import hierarchies
from tests.conftest import RUN_PREFIX
from tests.privileged.seccomp_agent import Agent, refused
from tests.privileged.support import TIMEOUT, run_in_pure_v2_view

VIEW = "LPC_TEST_ROOTLESS_VIEW"
TOP = Path("/sys/fs/cgroup")
PURE = (TOP / "cgroup.controllers").exists()
pytestmark = pytest.mark.privileged_caller("makes an ordinary user of its own")
UID = 1000
PRELUDE = """
import os, signal, sys
sys.path.insert(0, {package!r})
import libpycontainer as lc
from libpycontainer.spec import default
rootfs = {rootfs!r}
def config(*args, **process):
    document = default.config(rootless=True)
    document["root"]["path"] = rootfs
    document["process"].update(args=list(args), terminal=False, **process)
    return document
factory = lc.Factory()
def create(*args, **options):
    for name in ("stdin", "stdout", "stderr"):
        options.setdefault(name, lc.DEVNULL)
    return factory.create("one", config(*args), **options)
def output(process):
    return process.communicate(timeout=20)[0].decode()
"""


def candidates() -> list[str]:
    found = [sys.executable, shutil.which("python3") or "", "/usr/bin/python3"]
    found += [str(path) for path in Path("/opt").glob("*/bin/python3")]
    return [path for path in found if path]


def as_user(
    *command: str, before: Sequence[str] = (), **options: Any
) -> subprocess.CompletedProcess[str]:
    ids = [f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    return subprocess.run(
        [*before, "setpriv", *ids, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        cwd="/",
        **options,
    )


@pytest.fixture(scope="module")
def package(workspace: Path) -> Path:
    """The package, and cffi's part of it, where every user may read them."""
    target = workspace / "package"
    source = Path(libpycontainer.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, target / "libpycontainer", ignore=ignored)
    shutil.copy2(_cffi_backend.__file__, target)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    target.chmod(0o755)
    return target


@pytest.fixture(scope="module")
def interpreter(package: Path) -> str:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    trial = f"import sys; sys.path.insert(0, {str(package)!r}); import libpycontainer._shim"
    for path in candidates():
        if as_user(path, "-c", trial).returncode == 0:
            return path
    pytest.skip("no interpreter of this version that uid 1000 may run has cffi")


class User:
    """Runs scripts as an ordinary user, with a runtime directory of his own."""

    def __init__(self, interpreter: str, package: Path, rootfs: Path, home: Path) -> None:
        self.interpreter = interpreter
        self.prelude = PRELUDE.format(package=str(package), rootfs=str(rootfs))
        self.home = home

    def __call__(self, script: str, before: Sequence[str] = ()) -> str:
        """What the script prints; a failure is an ``AssertionError`` with its words.

        ``before`` is a command of root's that executes the rest.
        """
        done = as_user(
            self.interpreter,
            "-c",
            self.prelude + script,
            before=before,
            env={
                "PATH": os.environ["PATH"],
                "XDG_RUNTIME_DIR": str(self.home),
                "HOME": str(self.home),
            },
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def left(self) -> list[Path]:
        # A name with an "@" is no container's.
        return list((self.home / "libpycontainer").glob("[!@]*"))


@pytest.fixture
def user(interpreter: str, package: Path, busybox_rootfs: Path, workspace: Path) -> Iterator[User]:
    home = Path(tempfile.mkdtemp(prefix="home-", dir=workspace))
    os.chown(home, UID, UID)
    user = User(interpreter, package, busybox_rootfs, home)
    yield user
    assert user.left() == []


def test_container_runs(user: User) -> None:
    script = """
script = "id -u; cat /proc/self/uid_map; echo $$; hostname; exit 7"
with create("sh", "-c", script, stdout=lc.PIPE) as container:
    print(container.status)
    container.start()
    print(output(container.process))
    print(container.wait(20), container.status)
"""
    words = user(script).split()
    assert words == ["created", "0", "0", str(UID), "1", "1", "runc", "7", "stopped"]


def test_process_is_the_user_on_the_host(user: User) -> None:
    script = """
with create("sleep", "1000") as container:
    container.start()
    print(os.stat(f"/proc/{container.pid}").st_uid, container.processes() == [container.pid])
"""
    assert user(script) == f"{UID} True"


def test_root_of_a_users_user_namespace_does_without_cgroups_too(user: User) -> None:
    """So does podman of an ordinary user call a runtime: without a path, and without a mapping."""
    script = """
from libpycontainer import syscalls
maps = {"setgroups": "deny", "uid_map": f"0 {os.getuid()} 1", "gid_map": f"0 {os.getgid()} 1"}
syscalls.unshare(0x10020000)  # CLONE_NEWUSER, CLONE_NEWNS
for name, text in maps.items():
    with open(f"/proc/self/{name}", "w") as file:
        file.write(text)
document = config("sh", "-c", "id -u; exit 7")
linux = document["linux"]
linux["namespaces"] = [{"type": each} for each in ("pid", "ipc", "uts", "mount", "network")]
linux["resources"] = {}
del linux["uidMappings"], linux["gidMappings"]
with factory.create("one", document, stdout=lc.PIPE) as container:
    container.start()
    print(os.geteuid(), output(container.process), container.wait(20))
"""
    assert user(script).split() == ["0", "0", "7"]


@pytest.mark.skipif(PURE, reason="there is one hierarchy only")
def test_without_a_cgroup_those_of_the_caller_are_shown(user: User) -> None:
    """Tools read them: they are the ones that the container is in."""
    script = """
document = config("sh", "-c", "cd /sys/fs/cgroup; echo *; ls */cgroup.procs; mkdir pids/new")
document["mounts"] = [each for each in document["mounts"] if "cgroup" not in each["destination"]]
shown = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
document["mounts"].append(shown)
linux = document["linux"]
linux["namespaces"] = [each for each in linux["namespaces"] if each["type"] != "cgroup"]
with factory.create("one", document, stdout=lc.PIPE, stderr=lc.STDOUT) as container:
    container.start()
    print(output(container.process))
"""
    names, *rest = user(script).splitlines()
    found = sorted(one.name for one in hierarchies.hierarchies() if one.version == 1)
    assert names.split() == found
    assert rest[:-1] == [f"{name}/cgroup.procs" for name in found]
    assert "Read-only file system" in rest[-1]


def test_container_can_be_entered(user: User) -> None:
    script = """
with create("sleep", "1000") as container:
    container.start()
    args = ["sh", "-c", "id -u; cat /proc/1/comm"]
    with container.exec(lc.Process(args, stdin=lc.DEVNULL, stdout=lc.PIPE)) as process:
        print(output(process), process.returncode)
"""
    assert user(script).split() == ["0", "sleep", "0"]


def test_another_handle_waits_and_deletes(user: User) -> None:
    script = """
container = create("sh", "-c", "exit 9")
loaded = factory.load("one")
loaded.process
container.start()
codes = [loaded.wait(20)]
if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15):
    # Before that the kernel keeps it for one of them only.
    codes.append(container.wait(20))
loaded.delete()
print(set(codes), factory.list())
"""
    assert user(script) == "{9} []"


def test_force_ends_a_running_one(user: User) -> None:
    script = """
container = create("sh", "-c", "sleep 1000 & sleep 1000")
container.start()
container.delete(force=True)
print(container.wait(20), factory.list())
"""
    assert user(script) == "-9 []"


def test_terminal_works(user: User) -> None:
    script = """
document = config("sh", "-c", "tty; read line; echo got $line")
document["process"]["terminal"] = True
with factory.create("one", document) as container:
    container.start()
    os.write(container.process.console, b"typed\\n")
    container.wait(20)
    print(os.read(container.process.console, 1000).decode())
"""
    text = user(script)
    assert "/dev/pts/0" in text
    assert "got typed" in text


def test_pipe_can_be_reopened(user: User) -> None:
    script = """
with create("sh", "-c", "echo again >/dev/stdout", stdout=lc.PIPE) as container:
    container.start()
    print(output(container.process))
"""
    assert user(script) == "again"


def test_limit_that_cannot_be_set_is_refused(user: User) -> None:
    script = """
for limit in ({"memory": "64M"}, {"pids": 10}, {"cpus": 0.5}):
    try:
        lc.run(["true"], **limit)
        print("no error")
    except lc.ContainerError as error:
        print(error)
"""
    lines = user(script).splitlines()
    for line, word in zip(lines, ("memory", "pids", "cpu"), strict=True):
        assert line.startswith(f"$.linux.resources.{word}"), line


def test_without_a_cgroup_everything_else_works(user: User) -> None:
    script = """
with create("sh", "-c", "sleep 1000 & sleep 1000") as container:
    container.start()
    print(container.cgroup.mode, container.stats().pids, container.stats().memory)
    for verb in (container.pause, lambda: container.update(pids=5)):
        try:
            verb()
            print("no error")
        except lc.ContainerError as error:
            print(error)
    print(container.status)
    container.signal(signal.SIGKILL, all=True)
    print(container.wait(20))
"""
    lines = user(script).splitlines()
    assert lines[0] == "none None None"
    assert lines[1] == "cannot freeze a container without a cgroup"
    assert lines[2].startswith("$.linux.resources.pids.limit: cannot set pids limit 5: no cgroup")
    assert lines[3:] == ["running", "-9"]


# ---- with a subtree of one's own ---------------------------------------------------------------

# What can be limited in the hierarchies that this test may delegate: the configuration, the file
# and what it says, and the same for an update.
LIMITS: dict[str, tuple[dict[str, Any], str, str]] = {
    "pids": ({"pids": {"limit": 17}}, "pids.max", "17"),
    "memory": ({"memory": {"limit": 1 << 26}}, "memory.max", str(1 << 26)),
    "hugetlb": (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 1 << 22}]},
        "hugetlb.2MB.max",
        str(1 << 22),
    ),
}


def available() -> list[str]:
    """The controllers with an entry above: of v2's those that cannot do with processes beside."""
    if not PURE:
        return ["pids"]
    here = (TOP / "cgroup.controllers").read_text().split()
    return [name for name in ("memory", "hugetlb") if name in here]


@pytest.fixture
def subtree() -> Iterator[str]:
    """A group in every hierarchy that belongs to the user; its name."""
    name = f"/{RUN_PREFIX}-subtree"
    tops = [TOP] if PURE else [path for path in TOP.iterdir() if path.is_dir()]
    groups = [Path(str(top) + name) for top in tops if not top.is_symlink()]
    control = TOP / "cgroup.subtree_control"
    missing = set(available()) - set(control.read_text().split()) if PURE else set()
    for each in missing:
        control.write_text(f"+{each}")
    for group in groups:
        group.mkdir()
        os.chown(group, UID, UID)
        for file in ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks"):
            if (group / file).exists():
                os.chown(group / file, UID, UID)
        if group.parent.name == "cpuset":
            for file in ("cpuset.cpus", "cpuset.mems"):
                (group / file).write_text((group.parent / file).read_text())
    yield name
    for group in groups:
        for path in (group / "@self", group):
            if path.exists():
                path.rmdir()
    for each in missing:
        control.write_text(f"-{each}")


def settled(subtree: str) -> list[str]:
    """A command that runs another one inside of the user's subtree."""
    script = f"for file in {TOP}{{,/*}}{subtree}/cgroup.procs; do"
    script += ' if test -e "$file"; then echo $$ >"$file" || exit 1; fi; done; exec "$@"'
    return ["bash", "-c", script, "bash"]


IN_SUBTREE = """
import json
limits, file = json.loads(LIMITS)
def own():
    return open("/proc/self/cgroup").read().split("0::")[1].split()[0]
document = config("sh", "-c", "sleep 1000 & sleep 1000")
document["linux"]["resources"] = limits
before = own()
container = factory.create("one", document, stdin=lc.DEVNULL, stdout=lc.DEVNULL, stderr=lc.DEVNULL)
with container:
    container.start()
    paths = container.cgroup.paths()
    directory = paths.get(CONTROLLER, paths[""])
    print(before, own(), directory, open(f"{directory}/{file}").read().strip())
    members = container.processes()
    container.pause()
    print(container.status)
    container.resume()
    args = ["sh", "-c", "echo in"]
    with container.exec(lc.Process(args, stdin=lc.DEVNULL, stdout=lc.PIPE)) as process:
        print(output(process).strip(), process.returncode)
    container.signal(signal.SIGKILL, all=True)
    print(container.wait(20))
print(os.path.exists(directory))
"""


@pytest.mark.parametrize("controller", available())
def test_in_a_subtree_of_ones_own_limits_work(controller: str, user: User, subtree: str) -> None:
    wanted, file, value = LIMITS[controller]
    script = IN_SUBTREE.replace("CONTROLLER", repr(controller))
    script = script.replace("LIMITS", repr(json.dumps([wanted, file])))
    lines = user(script, before=settled(subtree)).splitlines()
    # On v2 the caller makes way: nobody may be in the group whose children are limited.
    after = f"{subtree}/@self" if PURE else subtree
    top = TOP if PURE else TOP / controller
    place = f"{top}{subtree}/libpycontainer/one"
    assert lines == [f"{subtree} {after} {place} {value}", "paused", "in 0", "-9", "False"]


def test_in_a_subtree_of_ones_own_nobody_is_moved_without_need(user: User, subtree: str) -> None:
    script = """
def own():
    return open("/proc/self/cgroup").read().split("0::")[1].split()[0]
with create("sleep", "1000") as container:
    container.start()
    print(own(), container.processes() == [container.pid], container.cgroup.mode)
    container.pause()
    print(container.status)
"""
    mode = "v2" if PURE else "hybrid"
    assert user(script, before=settled(subtree)) == f"{subtree} True {mode}\npaused"


def test_a_limit_of_a_controller_that_was_not_delegated_is_refused(
    user: User, subtree: str
) -> None:
    script = """
document = config("true")
document["linux"]["resources"] = {"network": {"classID": 1048577}}
try:
    factory.create("one", document)
    print("created")
except lc.ContainerError as error:
    print(error)
"""
    said = user(script, before=settled(subtree))
    assert said.startswith("$.linux.resources.network.classID: "), said


def test_run_shows_the_host_read_only(user: User) -> None:
    script = """
script = "id -u; ls -d /proc/[0-9]*; ls /sys/class/net; touch /etc/x /usr/x || echo refused"
done = lc.run(["sh", "-c", script], capture_output=True, text=True)
print(done.stdout)
print(lc.run(["false"]).returncode)
"""
    words = user(script).split()
    assert words[0] == "0"
    assert words[1] == "/proc/1"
    assert words[-2:] == ["refused", "1"]


def test_error_names_the_step(user: User) -> None:
    script = """
document = config("true")
document["mounts"].append({"destination": "/tmp", "type": "ext4", "source": "/dev/null"})
try:
    factory.create("one", document)
except lc.StepError as error:
    print(error)
try:
    create("no-such-program")
except lc.ExecutableError as error:
    print(error)
"""
    lines = user(script).splitlines()
    assert "mount ext4 on /tmp" in lines[0]
    assert "no-such-program" in lines[1]


def test_other_users_cannot_be_mapped(user: User) -> None:
    script = """
document = config("true")
document["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1}]
try:
    factory.create("one", document)
    print("created")
except lc.ContainerError as error:
    print(error)
"""
    assert "created" not in user(script)


def test_state_root_of_root_is_out_of_reach(user: User) -> None:
    script = """
try:
    lc.Factory(root="/run/libpycontainer-of-root").create("one", config("true"))
except lc.ContainerError as error:
    print(error)
"""
    assert "Permission denied" in user(script)


@pytest.fixture
def granted(workspace: Path) -> list[str]:
    """A command that runs another one where the user, and only there, has subordinate ids."""
    if shutil.which("newuidmap") is None:
        pytest.skip("newuidmap is not installed")
    ids, passwd = workspace / "subids", workspace / "passwd"
    ids.write_text("lpc-rootless:500000:1000\n")
    passwd.write_text(f"root:x:0:0::/root:/bin/sh\nlpc-rootless:x:{UID}:{UID}::/:/bin/sh\n")
    script = (
        'mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid'
        ' && mount --bind "$2" /etc/passwd && shift 2 && exec "$@"'
    )
    return ["unshare", "-m", "sh", "-c", script, "sh", str(ids), str(passwd)]


MAPPED = f"""
mappings = [
    {{"containerID": 0, "hostID": {UID}, "size": 1}},
    {{"containerID": 1, "hostID": 500000, "size": SIZE}},
]
def mapped(*args, **process):
    document = config(*args, **process)
    document["linux"].update(uidMappings=mappings, gidMappings=mappings)
    return document
"""


def test_subordinate_ids_are_mapped_with_newuidmap(user: User, granted: list[str]) -> None:
    script = """
identity = {"uid": 33, "gid": 34}
words = ["sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -G; sleep 1000"]
document = mapped(*words, user=identity)
with factory.create("one", document, stdin=lc.DEVNULL, stdout=lc.PIPE) as container:
    container.start()
    print([container.process.stdout.readline().split() for _ in range(6)])
    print(os.stat(f"/proc/{container.pid}").st_uid)
    with container.exec(lc.Process(["id", "-u"], user=0, stdin=lc.DEVNULL, stdout=lc.PIPE)) as one:
        print(output(one))
"""
    lines = user(MAPPED.replace("SIZE", "1000") + script, before=granted).splitlines()
    rows = [[b"0", b"%d" % UID, b"1"], [b"1", b"500000", b"1000"]]
    assert lines == [str([*rows, *rows, [b"33"], [b"34"]]), "500032", "0"]


def test_ids_that_are_not_granted_are_refused_in_newuidmaps_words(
    user: User, granted: list[str]
) -> None:
    script = """
try:
    factory.create("one", mapped("true"))
except lc.ContainerError as error:
    print(error.op, error)
"""
    said = user(MAPPED.replace("SIZE", "2000") + script, before=granted)
    assert said.startswith("newgidmap ")
    assert "500000" in said


# ---- seccomp -----------------------------------------------------------------------------------


PROFILE = """
def filtered(no_new_privileges, *rules, **more):
    document = config("sh", "-c", "mkdir /proc/x; unshare -U true; grep Seccomp: /proc/self/status")
    document["process"]["noNewPrivileges"] = no_new_privileges
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **more}
    document["linux"]["seccomp"] = profile
    return document
def rule(action, *names, **more):
    return {"names": list(names), "action": action, **more}
def run(document):
    options = {"stdin": lc.DEVNULL, "stdout": lc.PIPE, "stderr": lc.STDOUT}
    with factory.create("one", document, **options) as container:
        container.start()
        print(output(container.process))
"""


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_filter_is_loaded(no_new_privileges: bool, user: User) -> None:
    script = f"""
run(filtered({no_new_privileges}, rule("SCMP_ACT_ERRNO", "mkdir", "unshare", errnoRet=18)))
"""
    lines = user(PROFILE + script).splitlines()
    assert [line.rpartition(": ")[2] for line in lines[:2]] == ["Invalid cross-device link"] * 2
    assert lines[2].split() == ["Seccomp:", "2"]


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_an_agent_is_given_the_listener(
    no_new_privileges: bool, user: User, workspace: Path
) -> None:
    path = workspace / "rootless-agent.sock"
    script = f"""
run(filtered({no_new_privileges}, rule("SCMP_ACT_NOTIFY", "mkdir"), listenerPath={str(path)!r}))
"""
    with Agent(path, lambda number: refused(18)) as agent:
        lines = user(PROFILE + script).splitlines()
    path.unlink()
    assert lines[0].endswith("Invalid cross-device link")
    (state,) = agent.states
    assert (state["fds"], state["state"]["id"]) == (["seccompFd"], "one")


# ---- the same again, as if there was only v2 -------------------------------------------------


@pytest.mark.skipif(VIEW in os.environ, reason="this is the view already")
@pytest.mark.skipif(PURE, reason="the host shows nothing else")
@pytest.mark.timeout(150)
def test_the_battery_in_a_pure_v2_view() -> None:
    run_in_pure_v2_view(__file__, VIEW, timeout=140)
