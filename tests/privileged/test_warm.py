"""A warm factory: the same containers, from an interpreter that nothing can spoil or lose."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    Program,
    await_end,
    children,
    create,
    exec_inside,
    read_inside,
    sh,
)

if TYPE_CHECKING:
    from tests.conftest import BundleMaker


@pytest.fixture
def warm(state_root: str) -> Iterator[lc.Factory]:
    with lc.Factory(root=state_root, warm=True) as factory:
        yield factory
    assert children() == set()


def nursery_pid(factory: lc.Factory) -> int:
    assert factory._nursery is not None
    return factory._nursery.pid


def kill_nursery(factory: lc.Factory) -> None:
    pidfd = os.pidfd_open(nursery_pid(factory))
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert await_end(pidfd)
    finally:
        os.close(pidfd)


def test_containers_and_processes_come_from_one_interpreter(
    warm: lc.Factory, bundle: BundleMaker
) -> None:
    pid = nursery_pid(warm)
    assert children() == {pid}
    with create(warm, bundle(FOREVER)) as container:
        container.start()
        assert exec_inside(container, ["echo", "on"]).text == "on\n"
        # Our own child, although somebody else has cloned it; and nothing is between us.
        assert children() == {pid, container.pid}
        status = Path(f"/proc/{container.pid}/status").read_text()
        assert f"\nPPid:\t{os.getpid()}\n" in status
    assert nursery_pid(warm) == pid


def test_it_holds_nothing_and_is_nobodys_to_look_into(
    warm: lc.Factory, bundle: BundleMaker
) -> None:
    read_inside(warm, bundle(["true"]))
    proc = Path(f"/proc/{nursery_pid(warm)}")
    names = sorted(os.readlink(each) for each in (proc / "fd").iterdir())
    kinds = [name.partition(":")[0] for name in names]
    assert kinds == ["/dev/null", "/dev/null", "/memfd", "anon_inode", "socket"]
    for kind in ("mnt", "pid", "net", "uts", "ipc", "cgroup", "user"):
        ours, its = (os.stat(f"{base}/ns/{kind}") for base in ("/proc/self", proc))
        assert (ours.st_dev, ours.st_ino) == (its.st_dev, its.st_ino)


def test_a_request_that_fails_spoils_nothing_for_the_next(
    warm: lc.Factory, bundle: BundleMaker
) -> None:
    """At every stage: before the clone, in the mounts, at execve; and one that kills itself."""
    pid = nursery_pid(warm)
    broken = [
        bundle(
            edit=lambda c: c["linux"]["namespaces"].append({"type": "user", "path": "/dev/null"})
        ),
        bundle(edit=lambda c: c["mounts"].append({"destination": "/x/y", "type": "nonsense"})),
        bundle(["/no/such/program"]),
        bundle(edit=lambda c: c["process"].update(cwd="/etc/passwd")),
    ]
    for index, one in enumerate(broken):
        with pytest.raises(lc.ContainerError):
            create(warm, one, f"broken-{index}").start()
        for container in warm.list():
            container.delete(force=True)
        assert read_inside(warm, bundle(["echo", "fine"])).text == "fine\n"
    assert nursery_pid(warm) == pid


def test_a_dead_interpreter_is_replaced(warm: lc.Factory, bundle: BundleMaker) -> None:
    first = nursery_pid(warm)
    kill_nursery(warm)
    assert read_inside(warm, bundle(["echo", "on"])).text == "on\n"
    assert nursery_pid(warm) not in (0, first)


def test_what_it_cloned_outlives_it(warm: lc.Factory, bundle: BundleMaker) -> None:
    with create(warm, bundle(FOREVER)) as container:
        container.start()
        kill_nursery(warm)
        assert container.status == "running"
        assert exec_inside(container, ["echo", "on"]).text == "on\n"


def test_many_threads_share_it(warm: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(sh("exit 7"))
    del one.linux["cgroupsPath"]
    codes: list[int] = []

    def work(name: int) -> None:
        for turn in range(4):
            with create(warm, one, f"t{name}-{turn}") as container:
                container.start()
                codes.append(container.wait(TIMEOUT))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [7] * 32


def test_it_is_killed_while_many_ask(warm: lc.Factory, bundle: BundleMaker) -> None:
    """Whoever was being served may fail, with an error; nothing is left, and the next one works."""
    one = bundle(sh("exit 7"))
    del one.linux["cgroupsPath"]
    stop = threading.Event()
    surprises: list[BaseException] = []
    done: list[int] = []

    def work(name: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            try:
                with create(warm, one, f"t{name}-{turn}") as container:
                    container.start()
                    done.append(container.wait(TIMEOUT))
            except lc.ContainerError:
                continue
            except BaseException as error:
                surprises.append(error)
                return

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        count = len(done)
        while len(done) < count + 3 and not surprises:
            select.select([], [], [], 0.005)
        pid = nursery_pid(warm)
        if pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    stop.set()
    for thread in threads:
        thread.join(TIMEOUT)
    assert surprises == []
    assert set(done) == {7}
    assert warm.list() == []
    assert read_inside(warm, bundle(["echo", "on"])).text == "on\n"


def test_a_closed_factory_can_be_used_again(warm: lc.Factory, bundle: BundleMaker) -> None:
    warm.close()
    assert children() == set()
    assert read_inside(warm, bundle(["echo", "on"])).text == "on\n"


def test_a_forked_program_gets_one_of_its_own(state_root: str, bundle: BundleMaker) -> None:
    source = """
factory = lc.Factory(root=root, warm=True)
mine = factory._nursery.pid
pid = os.fork()
if pid == 0:
    code = create("inside").__enter__()
    code.start()
    say(f"{code.wait(10)} {factory._nursery.pid != mine} {code.process.pid != 0}")
    code.delete()
    factory.close()
    os._exit(0)
os.waitpid(pid, 0)
with create("outside") as container:
    container.start()
    say(f"{container.wait(10)} {factory._nursery.pid == mine}")
factory.close()
"""
    one = bundle(sh("exit 7"))
    with Program(state_root, one, source) as program:
        assert program.hear() == "7 True True"
        assert program.hear() == "7 True"
        assert program.rest() == ""
        assert program.popen.returncode == 0


def test_it_ends_with_its_program_also_where_a_child_keeps_the_line(
    state_root: str, bundle: BundleMaker
) -> None:
    source = """
factory = lc.Factory(root=root, warm=True)
with create() as container:
    container.start()
    container.wait(10)
child = os.fork()
if child == 0:
    signal.pause()
say(f"{factory._nursery.pid} {child}")
signal.pause()
"""
    with Program(state_root, bundle(["true"]), source) as program:
        nursery, child = map(int, program.hear().split())
        pidfds = [os.pidfd_open(pid) for pid in (nursery, child)]
        try:
            program.kill()
            assert await_end(pidfds[0])
            assert not await_end(pidfds[1], 0)
        finally:
            signal.pidfd_send_signal(pidfds[1], signal.SIGKILL)
            for pidfd in pidfds:
                os.close(pidfd)


@pytest.mark.privileged_caller("starts with root's rights")
def test_a_program_that_gave_up_its_rights_does_not_keep_them_in_it(
    state_root: str, bundle: BundleMaker
) -> None:
    source = """
factory = lc.Factory(root=root, warm=True)
with create() as container:
    container.start()
    container.wait(10)
first = factory._nursery.pid
os.setresuid(65534, 65534, 65534)
try:
    # Whether he may do anything at all depends on where this Python lies.
    spawner = factory.spawner()
    spawner.start()
    pid = factory._nursery.pid
    uid = [line for line in open(f"/proc/{pid}/status") if line.startswith("Uid")]
    assert uid[0].split()[1:] == ["65534"] * 4, uid
    spawner.close()
except lc.InterpreterError as error:
    assert "Permission denied" in str(error)
say(os.path.exists(f"/proc/{first}"))
factory.close()
"""
    with Program(state_root, bundle(["true"]), source) as program:
        assert program.hear() == "False"
        assert program.rest() == ""
        assert program.popen.returncode == 0


@pytest.mark.privileged_caller("makes a group of its own")
def test_too_many_processes_are_an_error_and_no_end(
    warm: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    """A fork storm: the clone is refused, told so, and the interpreter goes on."""
    pids = Path("/sys/fs/cgroup/pids")
    if not pids.is_dir():
        pytest.skip("needs the pids controller of cgroup v1")
    storm = pids / f"lpc-test-storm-{os.getpid()}"
    storm.mkdir()
    try:
        (storm / "cgroup.procs").write_text(str(nursery_pid(warm)))
        (storm / "pids.max").write_text("1")
        with pytest.raises(lc.ContainerError, match=r"clone .*: Resource temporarily unavailable"):
            create(warm, bundle(["true"]))
        assert warm.list() == []
        (storm / "pids.max").write_text("max")
        assert read_inside(warm, bundle(["echo", "on"])).text == "on\n"
    finally:
        warm.close()
        storm.rmdir()
