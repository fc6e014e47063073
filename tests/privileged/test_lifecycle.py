"""The verbs of a container, the statuses they lead through, and those that forbid them."""

from __future__ import annotations

import os
import pwd
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    REPOSITORY,
    TIMEOUT,
    Gate,
    Program,
    children,
    create,
    exec_inside,
    groups_left,
    hook,
    sh,
)

if TYPE_CHECKING:
    from tests.conftest import BundleMaker

OTHER_PROGRAM = """
import sys
import libpycontainer as lc
container = lc.Factory(root=sys.argv[1]).load("one")
print(container.status, flush=True)
if sys.argv[2] == "wait":
    process = container.process
    print("holding", flush=True)
    print(container.wait(20))
container.delete(force=True)
"""


def other_program(root: str, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OTHER_PROGRAM, root, what],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def test_container_goes_through_every_status(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        seen = [container.status]
        container.start()
        seen.append(container.status)
        container.pause()
        seen.append(container.status)
        container.resume()
        seen.append(container.status)
        container.signal(signal.SIGKILL)
        assert container.wait(TIMEOUT) == -signal.SIGKILL
        seen.append(container.status)
        container.delete()
    assert seen == ["created", "running", "paused", "running", "stopped"]


def test_container_is_creating_while_its_hooks_run(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    made: list[lc.Container] = []
    with Gate(tmp_path) as gate:
        one = bundle(
            FOREVER, edit=lambda c: c.update(hooks={"createRuntime": [hook(gate.script())]})
        )
        thread = threading.Thread(target=lambda: made.append(create(factory, one)))
        thread.start()
        gate.reached()
        early = factory.load("one")
        assert early.status == "creating"
        assert early.state()["pid"] > 0
        with pytest.raises(lc.ContainerError):
            early.exec(lc.Process(["true"]))
        gate.open()
        thread.join()
    with made[0]:
        # Who looked early is not left with what he saw then.
        assert early.status == "created"


def test_state_is_the_oci_document(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(FOREVER, edit=lambda c: c.update(annotations={"org.example.key": "value"}))
    with create(factory, one) as container:
        created = container.state()
        container.start()
        running = container.state()
        container.signal(signal.SIGKILL)
        container.wait(TIMEOUT)
        stopped = container.state()
    assert created == {
        "ociVersion": one.config["ociVersion"],
        "id": "one",
        "status": "created",
        "pid": container.process.pid if container.process else None,
        "bundle": str(one),
        "annotations": {"org.example.key": "value"},
    }
    assert (running["status"], running["pid"]) == ("running", created["pid"])
    assert (stopped["status"], stopped["pid"]) == ("stopped", 0)


def call(container: lc.Container, verb: str) -> None:
    if verb == "exec":
        container.exec(lc.Process(["true"])).close()
    elif verb == "kill":
        container.signal(signal.SIGTERM)
    else:
        getattr(container, verb)()


@pytest.mark.parametrize(
    ("status", "verbs"),
    [
        ("created", ["resume"]),
        ("running", ["start", "resume", "delete"]),
        ("paused", ["start", "exec", "pause", "delete"]),
        ("stopped", ["start", "exec", "kill", "pause", "resume"]),
    ],
)
def test_status_forbids_verbs(
    factory: lc.Factory, bundle: BundleMaker, status: str, verbs: list[str]
) -> None:
    with create(factory, bundle(FOREVER)) as container:
        if status != "created":
            container.start()
        if status == "paused":
            container.pause()
        if status == "stopped":
            container.signal(signal.SIGKILL)
            container.wait(TIMEOUT)
        for verb in verbs:
            with pytest.raises(lc.StatusError) as caught:
                call(container, verb)
            assert caught.value.status == status, verb
            assert caught.value.verb == verb
            assert "one" in str(caught.value)
        assert container.status == status


def test_created_container_can_be_deleted(factory: lc.Factory, bundle: BundleMaker) -> None:
    create(factory, bundle(FOREVER)).delete()
    assert factory.list() == []


@pytest.mark.privileged_caller("init cannot be traced until it has become the program")
def test_created_container_can_be_entered_and_paused(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    with create(factory, bundle(FOREVER)) as container:
        assert exec_inside(container, ["echo", "early"]).text == "early\n"
        container.pause()
        assert container.status == "paused"
        container.resume()
        container.start()
        assert container.status == "running"


def test_looking_at_a_paused_created_container_never_blocks(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    # Its init takes no connections: whoever asks by connecting would queue, and block in the end.
    look = "container = factory.load('one')\nfor _ in range(20): container.status\nsay('done')"
    one = bundle(FOREVER)
    with create(factory, one) as container:
        container.pause()
        with Program(factory.root, one, look) as program:
            assert program.popen.stdout is not None
            ready, _, _ = select.select([program.popen.stdout], [], [], TIMEOUT)
            # Before anything else that looks: without this the failure would block the test, too.
            container.cgroup.thaw()
            assert ready


def test_deletion_is_final(factory: lc.Factory, bundle: BundleMaker) -> None:
    container = create(factory, bundle(FOREVER))
    container.delete()
    with pytest.raises(lc.NotFoundError, match="one"):
        container.delete()
    with pytest.raises(lc.NotFoundError, match="one"):
        container.start()
    with pytest.raises(lc.NotFoundError, match="one"):
        factory.load("one")


def test_block_deletes_whatever_happened_inside(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(FOREVER)

    def fail_inside() -> None:
        with create(factory, one) as container:
            container.start()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert factory.list() == []
    assert groups_left(one.linux["cgroupsPath"]) == []


def test_block_accepts_that_it_was_deleted_inside(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        factory.load("one").delete(force=True)
    assert container.status == "stopped"


def test_old_handle_leaves_a_new_container_of_that_name_alone(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    with create(factory, bundle(FOREVER)) as old:
        factory.load("one").delete(force=True)
        new = create(factory, bundle(FOREVER))
        with pytest.raises(lc.ContainerError):
            old.delete(force=True)
    assert new.status == "created"
    new.delete()


@pytest.mark.timeout(30)
def test_deletion_by_another_handle_leaves_no_zombie(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    before = children()
    create(factory, bundle(FOREVER))
    factory.load("one").delete(force=True)
    assert children() == before


def test_another_program_waits_for_the_exit_code(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(sh("read line; exit 7"))
    with create(factory, one, stdin=lc.PIPE) as container:
        container.start()
        with other_program(factory.root, "wait") as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "running\n"
            assert other.stdout.readline() == "holding\n"
            process = container.process
            assert process is not None
            assert process.stdin is not None
            process.stdin.close()
            assert container.wait(TIMEOUT) == 7
            assert other.stdout.readline() == "7\n"
        assert other.returncode == 0
        assert factory.list() == []


def test_another_program_deletes(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(FOREVER)
    with create(factory, one) as container:
        container.start()
        with other_program(factory.root, "delete") as other:
            assert other.stdout is not None
            assert other.stdout.read() == "running\n"
        assert other.returncode == 0
        assert container.wait(TIMEOUT) == -signal.SIGKILL
    assert groups_left(one.linux["cgroupsPath"]) == []


def test_list_names_every_container(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER), "b") as second, create(factory, bundle(FOREVER), "a"):
        second.start()
        found = [(container.id, container.status) for container in factory.list()]
    assert found == [("a", "created"), ("b", "running")]
    assert factory.list() == []


def test_signal_reaches_init(factory: lc.Factory, bundle: BundleMaker) -> None:
    script = "trap 'exit 9' USR1; echo ready; while :; do read line || :; done"
    one = bundle(sh(script))
    with create(factory, one, stdin=lc.PIPE, stdout=lc.PIPE) as container:
        container.start()
        process = container.process
        assert process is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        container.signal(signal.SIGUSR1)
        assert container.wait(TIMEOUT) == 9


def test_signal_to_all_reaches_every_process(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        with container.exec(lc.Process(FOREVER)) as process:
            assert len(container.processes()) == 2
            container.signal(signal.SIGTERM, all=True)
            # Init has no handler, so the kernel spares it; the other one ends.
            assert process.wait(TIMEOUT) == -signal.SIGTERM
        assert container.processes() == [container.pid]
        container.signal(signal.SIGKILL, all=True)
        assert container.wait(TIMEOUT) == -signal.SIGKILL


@pytest.mark.timeout(40)
def test_sigkill_ends_a_paused_container(factory: lc.Factory, bundle: BundleMaker) -> None:
    # A v1 freezer lets nobody die until it thaws.
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        container.pause()
        container.signal(signal.SIGKILL)
        assert container.wait(TIMEOUT) == -signal.SIGKILL


def test_pause_stops_every_process(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["cat"])
    with create(factory, one, stdin=lc.PIPE, stdout=lc.PIPE) as container:
        container.start()
        container.pause()
        process = container.process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x\n")
        process.stdin.flush()
        os.set_blocking(process.stdout.fileno(), False)
        assert process.stdout.read() is None
        container.resume()
        os.set_blocking(process.stdout.fileno(), True)
        assert process.stdout.readline() == b"x\n"


def test_force_deletes_a_paused_container(factory: lc.Factory, bundle: BundleMaker) -> None:
    container = create(factory, bundle(FOREVER))
    container.start()
    container.pause()
    container.delete(force=True)
    assert factory.list() == []


def test_processes_are_the_hosts_pids(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        with container.exec(lc.Process(["sh", "-c", "read line"], stdin=lc.PIPE)) as process:
            assert set(container.processes()) == {container.pid, process.pid}
            names = [Path(f"/proc/{pid}/comm").read_text() for pid in (container.pid, process.pid)]
            assert names == ["sleep\n", "sh\n"]
            process.kill()
            process.wait(TIMEOUT)
        assert container.processes() == [container.pid]


def test_stats_count(factory: lc.Factory, bundle: BundleMaker) -> None:
    def limit(config: dict[str, Any]) -> None:
        config["linux"]["resources"].update(memory={"limit": 64 << 20}, pids={"limit": 50})

    with create(factory, bundle(FOREVER, edit=limit)) as container:
        container.start()
        stats = container.stats()
    assert stats.pids is not None
    assert (stats.pids.current, stats.pids.limit) == (1, 50)
    assert stats.memory is not None
    assert stats.memory.limit == 64 << 20
    assert 0 < stats.memory.usage < 64 << 20
    assert stats.cpu is not None
    assert stats.cpu.usage > 0


def test_wait_says_when_the_time_is_up(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        with pytest.raises(lc.TimeoutExpired) as caught:
            container.wait(timeout=0.01)
        assert caught.value.timeout == 0.01
        assert container.status == "running"


def test_one_of_two_creators_of_a_name_wins(factory: lc.Factory, bundle: BundleMaker) -> None:
    bundles = [bundle(FOREVER) for _ in range(4)]
    made: list[lc.Container] = []
    refused: list[lc.AlreadyExistsError] = []

    def try_to_create(index: int) -> None:
        try:
            made.append(create(factory, bundles[index]))
        except lc.AlreadyExistsError as error:
            refused.append(error)

    threads = [threading.Thread(target=try_to_create, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 3)
    assert all("one" in str(error) for error in refused)
    made[0].delete()


def test_one_of_two_starters_wins(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        outcomes: list[str] = []

        def try_to_start() -> None:
            try:
                factory.load("one").start()
                outcomes.append("started")
            except lc.StatusError as error:
                outcomes.append(error.status)

        threads = [threading.Thread(target=try_to_start) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["running", "running", "started"]
        assert container.status == "running"


def test_handle_tells_what_was_asked_for(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(FOREVER)
    with create(factory, one) as container:
        loaded = factory.load("one")
        for handle in (container, loaded):
            assert handle.id == "one"
            assert handle.bundle == str(one)
            assert handle.root == factory.root
            assert handle.owner == pwd.getpwuid(os.geteuid()).pw_name
            assert handle.created.endswith("Z")
            assert handle.spec.process is not None
            assert list(handle.spec.process.args or ()) == list(FOREVER)
            assert "one" in repr(handle)
        assert loaded.pid == container.pid


def test_pid_file_holds_the_pid(factory: lc.Factory, bundle: BundleMaker, tmp_path: Path) -> None:
    with create(factory, bundle(FOREVER), pid_file=str(tmp_path / "pid")) as container:
        assert (tmp_path / "pid").read_text() == str(container.pid)
    assert os.listdir(tmp_path) == ["pid"]


def test_failing_pid_file_leaves_nothing(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    (tmp_path / "pid").mkdir()
    with pytest.raises(lc.ContainerError, match="pid"):
        create(factory, bundle(FOREVER), pid_file=str(tmp_path / "pid"))
    assert factory.list() == []
    assert os.listdir(tmp_path) == ["pid"]
