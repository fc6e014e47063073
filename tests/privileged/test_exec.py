"""One more process in a container: where it lands, who it is, and how it ends."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import FOREVER, TIMEOUT, Program, children, create, exec_inside, sh

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

NAMESPACES = ("pid", "net", "ipc", "uts", "mnt", "cgroup", "user", "time")


def running(factory: lc.Factory, bundle: BundleMaker, **changes: Any) -> lc.Container:
    one = bundle(FOREVER, edit=lambda c: c["process"].update(changes))
    container = create(factory, one)
    container.start()
    return container


def test_it_lands_in_every_namespace_and_group(factory: lc.Factory, bundle: BundleMaker) -> None:
    with running(factory, bundle) as container, container.exec(lc.Process(FOREVER)) as process:
        for name in NAMESPACES:
            places = [os.readlink(f"/proc/{p.pid}/ns/{name}") for p in (container, process)]
            assert places[0] == places[1], name
        groups = [Path(f"/proc/{p.pid}/cgroup").read_text() for p in (container, process)]
        assert groups[0] == groups[1]
        assert os.readlink(f"/proc/{process.pid}/root") == "/"
        assert process.pid in container.processes()
        process.kill()
        process.wait(TIMEOUT)


def test_it_is_a_session_of_its_own(factory: lc.Factory, bundle: BundleMaker) -> None:
    with running(factory, bundle) as container:
        fields = exec_inside(container, sh("cat /proc/$$/stat; true")).text.split()
        assert fields[0] == fields[4] == fields[5]


def test_it_takes_after_the_containers_process(factory: lc.Factory, bundle: BundleMaker) -> None:
    changes = {
        "cwd": "/home",
        "env": ["PATH=/bin:/usr/bin", "A=b"],
        "user": {"uid": 1000, "gid": 1000, "umask": 0o007, "additionalGids": [50]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}],
    }
    with running(factory, bundle, **changes) as container:
        result = exec_inside(
            container, sh("pwd; echo $A; id -u; id -G; umask; ulimit -n; echo $HOME")
        )
    assert result.lines == ["/home", "b", "1000", "1000 50", "0007", "64", "/home/app"]


def test_it_can_be_different(factory: lc.Factory, bundle: BundleMaker) -> None:
    with running(factory, bundle) as container:
        result = exec_inside(
            container,
            sh(
                "pwd; id -u; id -g; id -G; echo $NEW; echo $HOME; ulimit -n;"
                "cat /proc/self/oom_score_adj; grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status"
            ),
            cwd="/tmp",
            user="1000:50",
            additional_gids=[60],
            env={"NEW": "x", "PATH": "/bin:/usr/bin"},
            rlimits={"RLIMIT_NOFILE": (20, 30)},
            oom_score_adj=500,
            capabilities=["CAP_CHOWN"],
            no_new_privileges=False,
        )
    assert result.lines[:8] == ["/tmp", "1000", "50", "50 60", "x", "/home/app", "20", "500"]
    assert result.lines[8].split()[1] == f"{1:016x}"
    assert result.lines[9].split()[1] == "0"


def test_it_needs_no_environment_of_the_callers(factory: lc.Factory, bundle: BundleMaker) -> None:
    with running(factory, bundle) as container:
        names = {line.partition("=")[0] for line in exec_inside(container, ["env"]).lines}
    assert names == {"PATH", "TERM", "HOME"}


def test_only_its_own_descriptors_are_open(factory: lc.Factory, bundle: BundleMaker) -> None:
    with running(factory, bundle) as container:
        assert exec_inside(container, sh("ls /proc/$$/fd; true")).lines == ["0", "1", "2"]
        with open("/dev/null") as null:
            result = exec_inside(container, sh("ls /proc/$$/fd; true"), pass_fds=[null.fileno()])
        assert result.lines == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("args", "number"),
    [(["nothing"], errno.ENOENT), (["/etc/passwd"], errno.EACCES), (["/nothing"], errno.ENOENT)],
)
def test_useless_program_is_an_error(
    factory: lc.Factory, bundle: BundleMaker, args: list[str], number: int
) -> None:
    before = children()
    with running(factory, bundle) as container:
        with pytest.raises(lc.ExecutableError, match=args[0]) as caught:
            container.exec(lc.Process(args))
        assert caught.value.errno == number
        assert container.processes() == [container.pid]
        assert container.status == "running"
    assert children() == before


def test_missing_working_directory_is_an_error(factory: lc.Factory, bundle: BundleMaker) -> None:
    with running(factory, bundle) as container, pytest.raises(lc.StepError, match="/missing"):
        container.exec(lc.Process(["true"], cwd="/missing"))


@pytest.mark.parametrize("user", ["app", "1000:staff", "-1", "1:2:3", ""])
def test_user_must_be_numbers(user: str) -> None:
    with pytest.raises(lc.ContainerError, match="user"):
        lc.Process(["true"], user=user)


@pytest.mark.parametrize(
    "description",
    [
        {"args": []},
        {"args": ["true"], "cwd": "relative"},
        {"args": ["true"], "rlimits": {"RLIMIT_NONSENSE": (1, 1)}},
        {"args": ["a\0b"]},
        {"args": ["true"], "env": {"A": "b\0c"}},
        {"args": ["true"], "env": {"A=B": "c"}},
        {"args": ["true"], "user": (1 << 40, 0)},
    ],
    ids=["no args", "relative cwd", "unknown limit", "NUL", "NUL in env", "= in a name", "big uid"],
)
def test_wrong_description_is_one_of_our_errors(
    factory: lc.Factory, bundle: BundleMaker, description: dict[str, Any]
) -> None:
    with running(factory, bundle) as container:
        with pytest.raises(lc.ContainerError):
            container.exec(lc.Process(**description))
        assert container.processes() == [container.pid]


@pytest.mark.timeout(40)
def test_process_nobody_waits_for_does_not_hold_the_container(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    # A pid namespace's init is not gone before every process of it is reaped, and this one is
    # the caller's child.
    before = children()
    with running(factory, bundle) as container:
        container.exec(lc.Process(FOREVER))
        container.exec(lc.Process(["true"]))
        container.signal(signal.SIGKILL)
        assert container.wait(TIMEOUT) == -signal.SIGKILL
        container.delete()
    assert children() == before


@pytest.mark.timeout(40)
def test_before_the_start_only_root_may_enter(factory: lc.Factory, bundle: BundleMaker) -> None:
    """Who waits for its start is our own interpreter, which nobody but root may trace."""
    with create(factory, bundle(FOREVER)) as container:
        if os.geteuid() == 0:
            assert exec_inside(container, ["echo", "on"]).text == "on\n"
        else:
            with pytest.raises(lc.StatusError, match="start it first") as caught:
                exec_inside(container, ["echo", "on"])
            assert (caught.value.verb, caught.value.status) == ("exec", "created")
            assert isinstance(caught.value.__cause__, lc.StepError)
        assert container.status == "created"
        container.start()
        assert exec_inside(container, ["echo", "on"]).text == "on\n"


def test_its_exit_code_is_kept_when_the_container_ends_first(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    with running(factory, bundle) as container:
        first, second = (container.exec(lc.Process(FOREVER)) for _ in range(2))
        with first, second:
            first.signal(signal.SIGTERM)
            container.delete(force=True)
            assert {first.wait(TIMEOUT), second.wait(TIMEOUT)} <= {-signal.SIGTERM, -signal.SIGKILL}


def test_container_loaded_elsewhere_can_be_entered(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    script = """
container = factory.load("one")
process = lc.Process(["hostname"], stdin=lc.DEVNULL, stdout=lc.PIPE)
container.exec(process)
say(process.communicate(timeout=20)[0].decode().strip())
"""
    with running(factory, bundle) as container:
        one = bundle(["true"])
        with Program(container.root, one, script) as program:
            assert program.rest() == "runc"


def test_many_at_once(factory: lc.Factory, bundle: BundleMaker) -> None:
    results: list[str] = []
    with running(factory, bundle) as container:

        def run_one(index: int) -> None:
            for turn in range(3):
                results.append(exec_inside(container, ["echo", f"{index}.{turn}"]).text.strip())

        threads = [threading.Thread(target=run_one, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [f"{index}.{turn}" for index in range(4) for turn in range(3)]


def test_end_of_the_container_ends_it(factory: lc.Factory, bundle: BundleMaker) -> None:
    with running(factory, bundle) as container, container.exec(lc.Process(FOREVER)) as process:
        container.signal(signal.SIGKILL)
        assert process.wait(TIMEOUT) == -signal.SIGKILL
        assert container.wait(TIMEOUT) == -signal.SIGKILL


def test_no_process_inside_may_look_at_it_while_it_enters(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    # A process of the container that could trace it, or read its descriptors, would get at the
    # host's side of it (CVE-2016-9962).
    script = """
while :; do
    ls -l /proc/[0-9]*/fd /proc/[0-9]*/exe 2>/dev/null | grep -E 'python|socket:|memfd'
done
"""
    spy = lc.Process(sh(script), stdin=lc.DEVNULL, stdout=lc.PIPE, stderr=lc.DEVNULL)
    with running(factory, bundle) as container, container.exec(spy):
        for _ in range(10):
            exec_inside(container, ["true"])
        spy.kill()
        container.signal(signal.SIGKILL)
        output, _ = spy.communicate(timeout=TIMEOUT)
    assert output == b""
