"""Filters that are felt: what a program in the container may call, and what it gets otherwise."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.seccomp_agent import CONTINUE, Agent, build_call, refused, returned
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    Result,
    add_user_namespace,
    await_end,
    bind,
    create,
    exec_inside,
    hook,
    read_inside,
    sh,
)

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the numbers of system calls are those of x86_64"
)

READ, MKDIR, CLONE, EXECVE, GETPID, PERSONALITY, KEYCTL, UNSHARE = 0, 83, 56, 59, 39, 135, 250, 272
MKDIR_X86, X32 = 39, 0x40000000
CLONE3, NEWER_THAN_ANY = 435, 5000
NEW_USER = 0x10000000
CONFIGS = Path(__file__).parents[1] / "data/configs"
EVERYTHING_OF_INIT = (
    "execve",
    "sendmsg",
    "recvmsg",
    "recvfrom",
    "sendto",
    "read",
    "close",
    "futex",
    "exit",
    "sched_yield",
    "nanosleep",
    "setresuid",
    "setresgid",
    "setgroups",
    "capset",
    "prctl",
    "chdir",
    "getcwd",
    "rt_sigaction",
    "rt_sigprocmask",
    "clone",
    "mmap",
    "munmap",
    "mprotect",
    "brk",
    "fcntl",
    "dup2",
    "dup3",
    "close_range",
    "waitid",
    "wait4",
    "poll",
    "ppoll",
)
Edit = Callable[[dict[str, Any]], object]


def engines_profile(name: str) -> dict[str, Any]:
    """The profile that an engine wrote into its configuration."""
    section: dict[str, Any] = json.loads((CONFIGS / f"{name}.json").read_text())["linux"]["seccomp"]
    return section


DOCKER = engines_profile("docker28-1")


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def profile(*rules: dict[str, Any], default: str = "ALLOW", **more: Any) -> dict[str, Any]:
    return {"defaultAction": f"SCMP_ACT_{default}", "syscalls": list(rules), **more}


@pytest.fixture(params=[True, False], ids=["nnp", "no-nnp"])
def privileges(request: pytest.FixtureRequest) -> Edit:
    """With and without noNewPrivileges: two ways to load a filter."""

    def edit(config: dict[str, Any]) -> None:
        config["process"]["noNewPrivileges"] = request.param

    return edit


@pytest.fixture(params=["root", "user namespace", "user"])
def identity(request: pytest.FixtureRequest) -> Edit:
    """As whom the program runs: each has other rights when the filter is loaded."""

    def edit(config: dict[str, Any]) -> None:
        if request.param == "user namespace":
            add_user_namespace(config)
        elif request.param == "user":
            config["process"]["user"] = {"uid": 1000, "gid": 1000}

    return edit


@pytest.fixture(scope="module")
def call_program(workspace: Path) -> Path:
    program = build_call(workspace)
    if program is None:
        pytest.skip("there is no C compiler")
    return program


Caller = Callable[..., Result]


@pytest.fixture
def call(factory: lc.Factory, bundle: BundleMaker, call_program: Path) -> Caller:
    """``call(profile, number, *arguments)``: a system call under a filter, and what came of it."""

    def run(
        section: dict[str, Any] | None, number: object, *arguments: object, edit: Edit | None = None
    ) -> Result:
        words = [str(word) for word in (number, *arguments)]
        one = bundle(["/run/call", *words])
        bind(one.config, call_program.parent, "/run")
        if section is not None:
            one.linux["seccomp"] = section
        if edit is not None:
            edit(one.config)
        return read_inside(factory, one)

    return run


def filtered(bundle: Bundle, section: dict[str, Any], *edits: Edit) -> Bundle:
    bundle.linux["seccomp"] = section
    for edit in edits:
        edit(bundle.config)
    return bundle


# ---- one call refused, and allowed again -------------------------------------------------------


def test_one_call_is_refused_by_a_profile_and_allowed_without(
    call: Caller, privileges: Edit, identity: Edit
) -> None:
    def edit(config: dict[str, Any]) -> None:
        privileges(config)
        identity(config)

    section = profile(rule("ERRNO", "getpid", errnoRet=errno.EXDEV))
    assert call(section, GETPID, edit=edit).text == f"errno {errno.EXDEV}\n"
    assert call(None, GETPID, edit=edit).text == "returned 1\n"
    assert call(profile(), GETPID, edit=edit).text == "returned 1\n"


def test_the_filter_is_the_only_thing_that_it_changes(
    factory: lc.Factory, bundle: BundleMaker, privileges: Edit, identity: Edit
) -> None:
    # The capability that loading may need is not one of the program's.
    script = sh("grep -E '^(Cap|Uid|Gid|Groups|NoNew|Sig[BIC])' /proc/self/status")
    plain = bundle(script)
    for edit in (privileges, identity):
        edit(plain.config)
    with_filter = filtered(bundle(script), profile(rule("ERRNO", "mkdir")), privileges, identity)
    assert read_inside(factory, with_filter, "two") == read_inside(factory, plain, "one")


def test_nothing_but_execve_has_to_pass_before_the_program(
    factory: lc.Factory, bundle: BundleMaker, privileges: Edit, identity: Edit
) -> None:
    # Whatever init needs on its last steps is refused; a static busybox needs little itself.
    needed = ("execve", "write", "exit_group", "brk", "mmap", "mprotect", "munmap", "arch_prctl")
    more = ("getuid", "geteuid", "getgid", "getegid", "set_tid_address", "set_robust_list", "rseq")
    odd = ("prlimit64", "readlink", "readlinkat", "getrandom", "newfstatat", "fstat", "ioctl")
    section = profile(
        rule("ALLOW", *needed, *more, *odd), default="ERRNO", defaultErrnoRet=errno.EPERM
    )
    one = filtered(bundle(["echo", "here"]), section, privileges, identity)
    assert read_inside(factory, one) == Result(0, "here\n")


# ---- each action -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "code"),
    [
        ("KILL", -signal.SIGSYS),
        ("KILL_THREAD", -signal.SIGSYS),
        ("KILL_PROCESS", -signal.SIGSYS),
        ("TRAP", -signal.SIGSYS),
    ],
)
def test_a_deadly_action_ends_the_process(action: str, code: int, call: Caller) -> None:
    assert call(profile(rule(action, "mkdir")), MKDIR, ":/tmp/new") == Result(code, "")


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (rule("ERRNO", "getpid"), f"errno {errno.EPERM}"),
        (rule("ERRNO", "getpid", errnoRet=errno.ENOTTY), f"errno {errno.ENOTTY}"),
        (rule("ERRNO", "getpid", errnoRet=0), "returned 0"),
        # There is no tracer.
        (rule("TRACE", "getpid", errnoRet=errno.ENOTTY), f"errno {errno.ENOSYS}"),
        (rule("LOG", "getpid"), "returned 1"),
        (rule("ALLOW", "getpid"), "returned 1"),
    ],
    ids=lambda each: each["action"] if isinstance(each, dict) else "",
)
def test_an_action_is_what_the_caller_gets(
    action: dict[str, Any], words: str, call: Caller
) -> None:
    assert call(profile(action), GETPID).text == f"{words}\n"


def test_the_default_action_is_for_everything_else(call: Caller) -> None:
    everything = json.loads(json.dumps(DOCKER))
    everything["defaultErrnoRet"] = errno.ENOTTY
    assert call(everything, KEYCTL).text == f"errno {errno.ENOTTY}\n"
    assert call(everything, GETPID).text == "returned 1\n"


def test_arguments_decide(call: Caller) -> None:
    args = [{"index": 0, "value": 0xFF, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}]
    section = profile(rule("ERRNO", "personality", args=args, errnoRet=errno.EXDEV))
    assert call(section, PERSONALITY, 8).text == f"errno {errno.EXDEV}\n"
    assert call(section, PERSONALITY, "0xffffffff").text == "returned 0\n"


# ---- architectures -----------------------------------------------------------------------------


def test_the_other_entries_of_the_kernel_are_filtered_too(call: Caller) -> None:
    every = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    section = profile(rule("ERRNO", "mkdir", errnoRet=errno.EXDEV), architectures=every)
    assert call(section, MKDIR, ":/tmp/new").text == f"errno {errno.EXDEV}\n"
    assert call(section, X32 | MKDIR, ":/tmp/new").text == f"errno {errno.EXDEV}\n"
    found = call(section, f"{MKDIR_X86}/x86", 0)
    if found.code == -signal.SIGSEGV:
        pytest.skip("this kernel has no 32-bit entry")
    assert found.text == f"errno {errno.EXDEV}\n"


def test_an_architecture_that_is_not_listed_is_deadly(call: Caller) -> None:
    section = profile(rule("ERRNO", "mkdir"))
    assert call(section, X32 | GETPID) == Result(-signal.SIGSYS, "")


# ---- what is newer than the profile ------------------------------------------------------------


def test_a_call_newer_than_the_profile_is_unknown(call: Caller, privileges: Edit) -> None:
    assert call(DOCKER, NEWER_THAN_ANY, edit=privileges).text == f"errno {errno.ENOSYS}\n"
    # Named by the profile, and refused by it.
    assert call(DOCKER, UNSHARE, NEW_USER, edit=privileges).text == f"errno {errno.EPERM}\n"


@pytest.mark.parametrize("default", ["KILL_PROCESS", "TRAP"])
def test_a_deadly_default_is_not_for_calls_that_it_could_not_know(
    default: str, call: Caller
) -> None:
    section = {**DOCKER, "defaultAction": f"SCMP_ACT_{default}"}
    section.pop("defaultErrnoRet", None)
    assert call(section, NEWER_THAN_ANY).text == f"errno {errno.ENOSYS}\n"
    assert call(section, KEYCTL) == Result(-signal.SIGSYS, "")


# ---- Docker's own profile ----------------------------------------------------------------------


# Podman's profile lets everybody make user namespaces, as podman does inside of them.
@pytest.mark.parametrize(
    ("engine", "refuses"),
    [("docker28-1", True), ("docker-1", True), ("containerd2-4", True), ("podman5-1", False)],
)
def test_a_busybox_userland_lives_under_an_engines_profile(
    engine: str,
    refuses: bool,
    factory: lc.Factory,
    bundle: BundleMaker,
    privileges: Edit,
    identity: Edit,
) -> None:
    script = "echo one | cat; ls / >/dev/null; (sleep 0; echo two) & wait; unshare -U true 2>&1"
    section = engines_profile(engine)
    one = filtered(bundle(sh(script)), section, privileges, identity)
    result = read_inside(factory, one)
    assert result.lines[:2] == ["one", "two"]
    assert result.code == int(refuses)
    assert ("unshare" in result.text) is refuses


def test_a_glibc_userland_lives_under_dockers_profile(
    factory: lc.Factory, bundle: BundleMaker, privileges: Edit
) -> None:
    # The host's programs and libraries, which try the newest calls first: clone3 for a thread.
    def host(config: dict[str, Any]) -> None:
        config["root"] = {"path": "/", "readonly": True}
        config["process"]["args"] = [
            shutil.which("python3", path="/usr/bin:/bin") or "python3",
            "-IS",
            "-c",
            "import os, threading, subprocess\n"
            "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
            "print(subprocess.run(['true']).returncode, flush=True)\n"
            "try: os.unshare(0x10000000)\n"
            "except (AttributeError, PermissionError) as error: print('refused')\n",
        ]

    one = filtered(bundle(), DOCKER, privileges, host)
    assert read_inside(factory, one) == Result(0, "thread\n0\nrefused\n")


def test_our_filters_say_what_runcs_say(
    call_program: Path, bundle: BundleMaker, call: Caller
) -> None:
    runc = shutil.which("runc")
    if runc is None:
        pytest.skip("runc is not installed")
    calls: list[tuple[object, ...]] = [
        (KEYCTL, 0, 0),
        (UNSHARE, NEW_USER),
        (PERSONALITY, "0xffffffff"),
        (PERSONALITY, "0x40000"),
        (GETPID,),
        (CLONE3, 0, 0),
        (NEWER_THAN_ANY,),
        (X32 | NEWER_THAN_ANY,),
        (X32 | KEYCTL,),
        (f"{NEWER_THAN_ANY}/x86",),
    ]
    for number, *arguments in calls:
        one = bundle(["/run/call", str(number), *map(str, arguments)])
        bind(one.config, call_program.parent, "/run")
        one.linux["seccomp"] = DOCKER
        one.save()
        name = f"lpc-test-{one.path.name}"
        theirs = subprocess.run(
            [runc, "--root", one.path / "runc", "run", "--bundle", one.path, name],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert call(DOCKER, number, *arguments).text == theirs.stdout, (number, theirs.stderr)


# ---- exec and start ----------------------------------------------------------------------------


def test_exec_is_under_the_same_filter(
    factory: lc.Factory, bundle: BundleMaker, privileges: Edit, identity: Edit
) -> None:
    section = profile(rule("ERRNO", "mkdir", "mkdirat", errnoRet=errno.EXDEV))
    one = filtered(bundle(FOREVER), section, privileges, identity)
    with create(factory, one) as container:
        container.start()
        seen = exec_inside(container, sh("mkdir /tmp/new; grep Seccomp: /proc/self/status"))
        assert "Invalid cross-device link" in seen.text
        assert seen.lines[-1].split() == ["Seccomp:", "2"]
        # A process that asks for other privileges gets the same filter.
        seen = exec_inside(container, sh("mkdir /tmp/new"), no_new_privileges=True)
        assert "Invalid cross-device link" in seen.text


@pytest.mark.parametrize(
    "rules",
    [
        (rule("KILL_PROCESS", "execve"),),
        (rule("ERRNO", "execve", "sendmsg"),),
        (rule("ERRNO", "execve"), rule("KILL_PROCESS", "sendmsg")),
    ],
    ids=["killed", "silenced", "killed when it speaks"],
)
def test_a_filter_that_refuses_execve_is_no_silent_success(
    rules: tuple[dict[str, Any], ...],
    factory: lc.Factory,
    bundle: BundleMaker,
    privileges: Edit,
) -> None:
    one = filtered(bundle(["true"]), profile(*rules), privileges)
    with create(factory, one) as container:
        with pytest.raises(lc.StepError, match=r"was not executed.*seccomp"):
            container.start()
        assert container.status == "stopped"


def test_a_failing_execve_is_told_under_an_engines_profile(
    factory: lc.Factory, bundle: BundleMaker, privileges: Edit
) -> None:
    one = filtered(bundle(["/script"], private_rootfs=True), DOCKER, privileges)
    script = one.rootfs / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    with create(factory, one) as container, pytest.raises(lc.ExecutableError) as caught:
        container.start()
    assert "the interpreter that it names is missing" in str(caught.value)


def test_flags_reach_the_kernel(call: Caller, privileges: Edit) -> None:
    flags = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]
    flags += ["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    section = profile(rule("ERRNO", "getpid", errnoRet=errno.EXDEV), flags=flags)
    assert call(section, GETPID, edit=privileges).text == f"errno {errno.EXDEV}\n"


def test_spec_allow_leaves_speculation_alone(factory: lc.Factory, bundle: BundleMaker) -> None:
    def bypass(*flags: str) -> str:
        section = profile(rule("ERRNO", "mkdir"), flags=list(flags))
        one = filtered(bundle(sh("grep Speculation_Store /proc/self/status")), section)
        return read_inside(factory, one).text

    if bypass() == bypass("SECCOMP_FILTER_FLAG_SPEC_ALLOW"):
        pytest.skip("this machine or kernel makes no difference for filtered processes")
    assert "mitigated" in bypass()


def test_what_libseccomp_refuses_leaves_nothing(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = filtered(bundle(["true"]), profile(architectures=["SCMP_ARCH_S390X"]))
    with pytest.raises(lc.SpecError, match=r"linux\.seccomp\.architectures\[0\]"):
        create(factory, one)
    assert factory.list() == []


def test_the_command_takes_an_engines_profile(bundle: BundleMaker, pyrunc: Pyrunc) -> None:
    for _ in range(2):
        one = filtered(bundle(sh("unshare -U true")), DOCKER)
        one.save()
        done = pyrunc("run", "--bundle", one, "c")
        assert done.returncode == 1
        assert "unshare" in done.stderr
    assert len(list(Path(pyrunc.root, "@seccomp").iterdir())) == 1
    assert pyrunc("list", "-q", check=True).stdout == ""


# ---- the agent ---------------------------------------------------------------------------------

ASKED = rule("NOTIFY", "mkdir", "mkdirat")


@pytest.fixture
def socket_path(workspace: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = workspace / "agent.sock"
    yield path
    path.unlink(missing_ok=True)


def asking(path: Path, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return profile(*(rules or (ASKED,)), listenerPath=str(path), **more)


def test_an_agent_answers_for_the_program(
    factory: lc.Factory,
    bundle: BundleMaker,
    socket_path: Path,
    privileges: Edit,
    identity: Edit,
) -> None:
    section = asking(socket_path, listenerMetadata="what the engine says")
    one = filtered(bundle(sh("mkdir /proc/never; echo $?")), section, privileges, identity)
    one.config["annotations"] = {"org.example.pod": "seven"}
    with Agent(socket_path, lambda number: refused(errno.EXDEV)) as agent:
        result = read_inside(factory, one)
    assert "Invalid cross-device link" in result.text
    assert agent.calls == [MKDIR]
    (state,) = agent.states
    assert state == {
        "ociVersion": one.config["ociVersion"],
        "fds": ["seccompFd"],
        "pid": state["pid"],
        "metadata": "what the engine says",
        "state": {
            "ociVersion": one.config["ociVersion"],
            "id": "one",
            "status": "creating",
            "pid": state["pid"],
            "bundle": str(one.path),
            "annotations": {"org.example.pod": "seven"},
        },
    }


def test_a_call_that_the_agent_makes_up_is_never_made(
    factory: lc.Factory, bundle: BundleMaker, socket_path: Path
) -> None:
    one = filtered(bundle(sh("mkdir /proc/never && ls -d /proc/never")), asking(socket_path))
    with Agent(socket_path, lambda number: returned(0)):
        result = read_inside(factory, one)
    assert "No such file" in result.text


def test_the_agent_may_be_asked_about_everything_that_init_does(
    factory: lc.Factory, bundle: BundleMaker, socket_path: Path, privileges: Edit, identity: Edit
) -> None:
    # Sending the listener, waiting for leave, execve itself: none may wait for the agent before it
    # has the listener. Only the program's calls are asked about, and the one that starts it.
    section = asking(socket_path, rule("NOTIFY", *EVERYTHING_OF_INIT))
    one = filtered(bundle(["true"]), section, privileges, identity)
    with Agent(socket_path, lambda number: CONTINUE) as agent:
        assert read_inside(factory, one).code == 0
    assert agent.calls[0] == EXECVE
    assert agent.calls.count(EXECVE) == 1


def test_exec_has_a_listener_of_its_own(
    factory: lc.Factory, bundle: BundleMaker, socket_path: Path, privileges: Edit, identity: Edit
) -> None:
    one = filtered(bundle(FOREVER), asking(socket_path), privileges, identity)
    with Agent(socket_path, lambda number: refused(errno.EXDEV)) as agent:
        with create(factory, one) as container:
            container.start()
            process = lc.Process(
                sh("mkdir /proc/x"), stdin=lc.DEVNULL, stdout=lc.PIPE, stderr=lc.STDOUT
            )
            with container.exec(process):
                output, _ = process.communicate(timeout=TIMEOUT)
            init = container.pid
        assert b"Invalid cross-device link" in (output or b"")
    first, second = agent.states
    assert (first["pid"], first["state"]["status"]) == (init, "creating")
    assert (second["pid"], second["state"]["pid"]) == (process.pid, init)
    assert second["state"]["status"] == "running"
    assert agent.calls == [MKDIR]


def test_an_agent_that_is_away_fails_create_and_leaves_nothing(
    factory: lc.Factory, bundle: BundleMaker, socket_path: Path
) -> None:
    one = filtered(bundle(["true"]), asking(socket_path))
    for words in ("No such file", "refused"):
        with pytest.raises(lc.StepError, match=rf"listenerPath.*{socket_path}.*{words}"):
            create(factory, one)
        assert factory.list() == []
        if words == "No such file":
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(socket_path))


def test_an_agent_that_went_away_fails_start_before_the_program_runs(
    factory: lc.Factory, bundle: BundleMaker, socket_path: Path, privileges: Edit, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    one = filtered(bundle(sh("echo it ran >/run/proof")), asking(socket_path), privileges)
    bind(one.config, tmp_path, "/run")
    with Agent(socket_path, lambda number: CONTINUE):
        container = create(factory, one)
    with container:
        with pytest.raises(lc.StepError, match=r"listenerPath.*refused"):
            container.start()
        assert container.status == "stopped"
    assert list(tmp_path.iterdir()) == []


def test_an_agent_that_went_away_fails_exec_and_not_the_container(
    factory: lc.Factory, bundle: BundleMaker, socket_path: Path
) -> None:
    one = filtered(bundle(FOREVER), asking(socket_path))
    with Agent(socket_path, lambda number: CONTINUE):
        container = create(factory, one)
        with container:
            container.start()
            socket_path.unlink()
            with pytest.raises(lc.StepError, match="listenerPath"):
                container.exec(lc.Process(["true"], stdin=lc.DEVNULL))
            assert container.status == "running"


def test_a_start_hook_runs_before_the_filter(
    factory: lc.Factory, bundle: BundleMaker, socket_path: Path, tmp_path: Path
) -> None:
    # Hooks are the engine's: they are not what the profile was written for.
    one = filtered(
        bundle(["true"], private_rootfs=True), asking(socket_path, rule("NOTIFY", "execve"))
    )
    one.config["hooks"] = {"startContainer": [{"path": "/bin/true", "args": ["true"]}]}
    one.config["hooks"]["poststart"] = [hook("true")]
    with Agent(socket_path, lambda number: CONTINUE) as agent:
        assert read_inside(factory, one).code == 0
    assert agent.calls == [EXECVE]


def test_a_path_is_ignored_where_no_rule_asks(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = filtered(bundle(["true"]), profile(listenerPath="/no/such/agent"))
    assert read_inside(factory, one).code == 0


def test_the_command_starts_what_another_process_created(
    bundle: BundleMaker, pyrunc: Pyrunc, socket_path: Path
) -> None:
    one = filtered(bundle(FOREVER), asking(socket_path))
    one.save()
    with Agent(socket_path, lambda number: refused(errno.EXDEV)) as agent:
        pyrunc("create", "--bundle", one, "c", check=True)
        assert agent.states == []
        pyrunc("start", "c", check=True)
        done = pyrunc("exec", "c", "mkdir", "/proc/x")
        assert "Invalid cross-device link" in done.stderr
        pyrunc("delete", "--force", "c", check=True)
    assert [state["state"]["status"] for state in agent.states] == ["creating", "running"]


def test_a_dry_run_compiles_and_asks_nobody(
    bundle: BundleMaker, pyrunc: Pyrunc, socket_path: Path
) -> None:
    one = filtered(bundle(["true"]), asking(socket_path))
    one.save()
    said = pyrunc("run", "--dry-run", "--bundle", one, "c", check=True).stdout
    assert "under a seccomp filter of" in said.splitlines()[-1]
    assert list(Path(pyrunc.root).iterdir()) == []


def test_an_init_whose_starter_dies_in_the_hand_over_ends_too(
    bundle: BundleMaker, pyrunc: Pyrunc, socket_path: Path, privileges: Edit
) -> None:
    # The agent takes no connection: the starter waits for it, and init for the starter.
    one = filtered(bundle(["true"]), asking(socket_path, rule("NOTIFY", *EVERYTHING_OF_INIT)))
    privileges(one.config)
    one.save()
    with socket.socket(socket.AF_UNIX) as agent, socket.socket(socket.AF_UNIX) as first:
        agent.bind(str(socket_path))
        agent.listen(0)
        first.connect(str(socket_path))
        pyrunc("create", "--bundle", one, "c", check=True)
        pid = json.loads(pyrunc("state", "c", check=True).stdout)["pid"]
        pidfd = os.pidfd_open(pid)
        with subprocess.Popen(pyrunc.argv("start", "c")) as starter:
            deadline = time.monotonic() + TIMEOUT
            while "Seccomp:\t2" not in Path(f"/proc/{pid}/status").read_text():
                assert time.monotonic() < deadline
            starter.kill()
        assert await_end(pidfd)
        os.close(pidfd)
    pyrunc("delete", "c", check=True)
