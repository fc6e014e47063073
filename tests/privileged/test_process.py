"""The handle of a process: waiting, exit codes, the pidfd, and who else may reap."""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests.privileged.support import FOREVER, TIMEOUT, create, sh

if TYPE_CHECKING:
    from tests.conftest import BundleMaker


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 1", 1), ("exit 255", 255), ("kill -9 $$; exit 3", 3)],
)
def test_exit_code_is_the_programs(
    factory: lc.Factory, bundle: BundleMaker, script: str, code: int
) -> None:
    # Pid 1 cannot kill itself: the kernel spares it what it sends.
    with create(factory, bundle(sh(script))) as container:
        container.start()
        assert container.wait(TIMEOUT) == code
        assert container.process is not None
        assert container.process.returncode == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_exit_code_is_negative_for_a_signal(
    factory: lc.Factory, bundle: BundleMaker, number: signal.Signals
) -> None:
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        with container.exec(lc.Process(FOREVER)) as process:
            process.signal(number)
            assert process.wait(TIMEOUT) == -number


def test_poll_looks_without_waiting(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        process = container.process
        assert process is not None
        assert process.poll() is None
        process.kill()
        select.select([process], [], [], TIMEOUT)
        assert process.poll() == -signal.SIGKILL
        assert process.poll() == -signal.SIGKILL


def test_process_can_be_selected_on(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        process = container.process
        assert process is not None
        assert select.select([process], [], [], 0) == ([], [], [])
        process.kill()
        assert select.select([process], [], [], TIMEOUT) == ([process], [], [])


def test_gone_process_takes_no_signal(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(["true"])) as container:
        container.start()
        container.wait(TIMEOUT)
        process = container.process
        assert process is not None
        with pytest.raises(ProcessLookupError):
            process.signal(signal.SIGTERM)
        process.kill()


def test_two_threads_may_wait_for_one_process(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(sh("read line; exit 4")), stdin=lc.PIPE) as container:
        container.start()
        codes: list[int] = []
        threads = [
            threading.Thread(target=lambda: codes.append(container.wait(TIMEOUT))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        process = container.process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        for thread in threads:
            thread.join()
        assert codes == [4] * 4


@pytest.mark.parametrize("disposition", [signal.SIG_IGN, signal.SIG_DFL])
def test_exit_code_survives_ignored_children(
    factory: lc.Factory, bundle: BundleMaker, disposition: signal.Handlers
) -> None:
    before = signal.signal(signal.SIGCHLD, disposition)
    try:
        with create(factory, bundle(sh("exit 6"))) as container:
            container.start()
            assert container.wait(TIMEOUT) == 6
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_wait_is_interrupted_by_an_exception_of_a_signal_handler(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    class InterruptedByTestError(Exception):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise InterruptedByTestError

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with create(factory, bundle(FOREVER)) as container:
            container.start()
            timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            with pytest.raises(InterruptedByTestError):
                container.wait(TIMEOUT)
            timer.join()
            assert container.status == "running"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_handle_that_was_never_started_says_so() -> None:
    process = lc.Process(["true"])
    for use in (process.fileno, process.poll, process.wait, lambda: process.pid):
        with pytest.raises(lc.ContainerError, match="not been started"):
            use()


def test_started_process_cannot_be_started_again(factory: lc.Factory, bundle: BundleMaker) -> None:
    # The first one's pidfd and pipes would be lost, and nobody could wait for it.
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        with container.exec(lc.Process(FOREVER)) as process:
            pid = process.pid
            with pytest.raises(lc.ContainerError, match="started"):
                container.exec(process)
            assert process.pid == pid
            process.kill()
            process.wait(TIMEOUT)
