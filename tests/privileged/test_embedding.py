"""A program with a life of its own: threads, children, signal handlers, an event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    Program,
    add_user_namespace,
    children,
    create,
    exec_inside,
    groups_left,
    open_descriptors,
    sh,
)

if TYPE_CHECKING:
    from tests.conftest import BundleMaker


@pytest.fixture
def own_group(state_root: str, workspace: Path) -> lc.Factory:
    """For lc.run: its groups under a name of this run's, where nobody else makes any."""
    return lc.Factory(root=state_root, cgroup_parent=f"/{workspace.name}")


def test_threads_run_at_once(own_group: lc.Factory) -> None:
    errors: list[BaseException] = []

    def run_some(index: int) -> None:
        try:
            for turn in range(10):
                done = lc.run(
                    ["echo", f"{index}.{turn}"], capture_output=True, text=True, factory=own_group
                )
                assert (done.returncode, done.stdout) == (0, f"{index}.{turn}\n")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run_some, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_threads_that_exec_at_once_lose_no_process(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    # One that is forgotten is never reaped, and the container's init never gone.
    def start_and_drop() -> None:
        for _ in range(5):
            container.exec(lc.Process(FOREVER, stdin=lc.DEVNULL, stdout=lc.DEVNULL)).close()

    with create(factory, bundle(FOREVER)) as container:
        container.start()
        threads = [threading.Thread(target=start_and_drop) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        container.signal(signal.SIGKILL)
        assert container.wait(TIMEOUT) == -signal.SIGKILL


def test_program_that_reaps_everything(factory: lc.Factory, bundle: BundleMaker) -> None:
    # The library's children end too, and its handler is always the first to hear of it.
    source = """
import time
def reap(number, frame):
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
signal.signal(signal.SIGCHLD, reap)
codes = []
for turn in range(20):
    with create(f"c{turn}", stdout=lc.PIPE) as container:
        container.start()
        container.process.stdout.readline()
        if turn % 2:
            with container.exec(lc.Process(["sh", "-c", "exit 3"], stdin=lc.DEVNULL)) as process:
                codes.append(process.wait(20))
        container.signal(signal.SIGTERM)
        codes.append(container.wait(20))
say(sorted(set(codes)))
done = lc.run(["sh", "-c", "exit 4"])
say(done.returncode)
"""
    one = bundle(sh("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"))
    with Program(factory.root, one, source) as program:
        assert program.rest().splitlines() == ["[3, 5]", "4"]


def test_children_of_the_program_are_not_stolen(factory: lc.Factory, bundle: BundleMaker) -> None:
    mine = [subprocess.Popen(["sh", "-c", f"exit {code}"]) for code in range(5)]
    for process in mine:
        # Ended, but not reaped: what anybody who waits for any child would take.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        assert exec_inside(container, sh("exit 3")).code == 3
        with pytest.raises(lc.ExecutableError):
            container.exec(lc.Process(["nothing"]))
    assert lc.run(["true"]).returncode == 0
    assert [process.wait() for process in mine] == list(range(5))


def test_event_loop_hears_of_the_end(factory: lc.Factory, bundle: BundleMaker) -> None:
    async def use() -> tuple[int, int, int]:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        with create(factory, bundle(sh("read line; exit 7")), stdin=lc.PIPE) as container:
            container.start()
            process = container.process
            assert process is not None
            assert process.stdin is not None
            loop.add_reader(process.fileno(), ended.set)
            # Its own children are the loop's affair still.
            child = await asyncio.create_subprocess_exec("sh", "-c", "exit 8")
            code = await child.wait()
            assert not ended.is_set()
            process.stdin.close()
            await asyncio.wait_for(ended.wait(), TIMEOUT)
            loop.remove_reader(process.fileno())
            done = await asyncio.to_thread(lc.run, ["sh", "-c", "exit 9"])
            return process.wait(0), code, done.returncode

    assert asyncio.run(use()) == (7, 8, 9)


def test_thread_that_forks_does_not_hold_up_the_others(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    # A forked child without an exec (multiprocessing) keeps a copy of every descriptor that was
    # open at that moment, also of the conversation's other end: no end-of-file comes from there.
    source = """
import threading, time
stop = threading.Event()
forked = []
def fork():
    while not stop.is_set():
        pid = os.fork()
        if pid == 0:
            time.sleep(10)
            os._exit(0)
        forked.append(pid)
        time.sleep(0.01)
with create() as container:
    thread = threading.Thread(target=fork)
    thread.start()
    try:
        container.start()
        for turn in range(10):
            with container.exec(lc.Process(["true"], stdin=lc.DEVNULL)) as process:
                process.wait(5)
        try:
            container.exec(lc.Process(["nothing"], stdin=lc.DEVNULL))
        except lc.ExecutableError:
            pass
        say("done")
    finally:
        stop.set()
        thread.join()
        for pid in forked:
            os.kill(pid, signal.SIGKILL)
"""
    started = time.monotonic()
    with Program(factory.root, bundle(FOREVER), source) as program:
        assert program.hear() == "done"
        assert time.monotonic() - started < 8
        program.rest()


GLOBALS = """
import faulthandler, threading
def seen():
    status = open("/proc/self/status").read()
    names = ("Umask", "Uid", "Gid", "Groups", "Sig", "Shd", "Cap", "NoNew", "Seccomp", "Threads")
    kept = [line for line in status.splitlines() if line.startswith(names)]
    links = {name: f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")}
    kinds = sorted(os.listdir("/proc/self/ns"))
    return {
        "status": kept,
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "fds": {n: os.readlink(p) for n, p in links.items() if os.path.lexists(p)},
        "handlers": [signal.getsignal(n) for n in sorted(signal.valid_signals())],
        "namespaces": [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds],
        "limits": open("/proc/self/limits").read(),
        "oom": open("/proc/self/oom_score_adj").read(),
        "keys": open("/proc/self/cgroup").read(),
        "session": (os.getsid(0), os.getpgid(0), os.getpriority(os.PRIO_PROCESS, 0)),
        "children": open("/proc/thread-self/children").read(),
        "threads": threading.active_count(),
    }
signal.signal(signal.SIGCHLD, lambda *_: None)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
os.umask(0o077)
os.chdir("/usr")
def use(name):
    with create(name) as container:
        container.start()
        with container.exec(lc.Process(["true"], stdin=lc.DEVNULL, terminal=False)) as process:
            process.wait(20)
        container.pause()
        container.resume()
        container.stats()
        container.signal(9)
        container.wait(20)
    lc.run(["true"], memory="64M", stdin=lc.DEVNULL)
    try:
        lc.run(["/no/such"])
    except lc.ContainerError:
        pass
use("first")
before = seen()
use("second")
after = seen()
for name in before:
    if before[name] != after[name]:
        say(f"{name}: {before[name]} -> {after[name]}")
say("compared")
"""


def test_nothing_global_of_the_program_changes(factory: lc.Factory, bundle: BundleMaker) -> None:
    with Program(factory.root, bundle(FOREVER), GLOBALS) as program:
        assert program.rest() == "compared"


def test_import_starts_nothing_and_loads_little() -> None:
    source = """
import sys, libpycontainer
ours = sorted(name for name in sys.modules if name.startswith("libpycontainer"))
print(ours, "cffi" in sys.modules, "attrs" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", source],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout == "['libpycontainer'] False False\n"


def count_leavings(factory: lc.Factory) -> dict[str, Any]:
    return {
        "fds": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "children": children(),
        "groups": groups_left(factory.cgroup_parent or ""),
        "state": os.listdir(factory.root),
    }


def test_five_hundred_in_a_row_leave_nothing(own_group: lc.Factory) -> None:
    lc.run(["true"], factory=own_group)
    before = count_leavings(own_group)
    for turn in range(500):
        done = lc.run(["true"], stdin=lc.DEVNULL, factory=own_group)
        assert done.returncode == 0, turn
    assert count_leavings(own_group) == before


def test_dropped_handles_close_themselves(factory: lc.Factory, bundle: BundleMaker) -> None:
    create(factory, bundle(FOREVER)).start()
    container = factory.load("one")
    assert container.status == "running"
    container.delete(force=True)


# A file or a finalizer that is hit right behind its opening says so; that is Python's to clean up.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("user_namespace", [False, True])
def test_interrupted_creation_leaves_no_process(
    factory: lc.Factory, bundle: BundleMaker, user_namespace: bool
) -> None:
    # Ctrl-C at any moment of it: KeyboardInterrupt is raised wherever the program happens to be.
    # That may be between os.open and the assignment of its result, so a descriptor can get lost,
    # as in any Python program; nothing that outlives the program can.
    before = children()
    open_before = open_descriptors()
    interrupted = 0
    one = bundle(["true"], edit=add_user_namespace if user_namespace else None)
    # A background job is started with the signal ignored, and Python then installs no handler.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    for turn in range(40):
        timer = threading.Timer(turn * 0.001, signal.raise_signal, (signal.SIGINT,))
        try:
            timer.start()
            with create(factory, one, f"c{turn}") as container:
                container.start()
                container.wait(TIMEOUT)
                timer.join()
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
        for left in factory.list():
            left.delete(force=True)
    signal.signal(signal.SIGINT, previous)
    assert interrupted > 10
    assert children() == before
    for number in open_descriptors() - open_before:
        os.close(number)
