"""The leak check sees what it is there to see."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests import leaks


@pytest.fixture
def scope(tmp_path: Path) -> leaks.Scope:
    return leaks.Scope("lpc-test-none", str(tmp_path))


def left_since(before: leaks.Snapshot, scope: leaks.Scope) -> list[str]:
    return [str(leak) for leak in before.leaks(leaks.Snapshot.take(scope))]


def test_nothing_done_leaves_nothing(scope: leaks.Scope) -> None:
    assert left_since(leaks.Snapshot.take(scope), scope) == []


def test_an_open_file_is_named_with_its_path(scope: leaks.Scope, tmp_path: Path) -> None:
    (tmp_path / "open").touch()
    before = leaks.Snapshot.take(scope)
    with open(tmp_path / "open") as file:
        left = left_since(before, scope)
        assert f"file descriptor: {file.fileno()} -> {tmp_path}/open" in left


def test_closing_a_file_of_the_caller_is_a_leak_too(scope: leaks.Scope, tmp_path: Path) -> None:
    with open(tmp_path / "closed", "w") as file:
        number = file.fileno()
        before = leaks.Snapshot.take(scope)
    assert left_since(before, scope)[0].startswith(f"file descriptor: gone: {number} ")


def test_a_child_and_then_its_zombie_are_seen(scope: leaks.Scope) -> None:
    before = leaks.Snapshot.take(scope)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, process_group=0) as child:
        running = [text for text in left_since(before, scope) if text.startswith("process: ")]
        assert len(running) == 1
        assert f"{child.pid} cat" in running[0]
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert f"process: Z {child.pid} [cat]" in left_since(before, scope)


def test_a_thread_is_named(scope: leaks.Scope) -> None:
    before = leaks.Snapshot.take(scope)
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="forgotten")
    thread.start()
    try:
        assert f"thread: {thread.native_id} forgotten" in left_since(before, scope)
    finally:
        end.set()
        thread.join()


def test_a_state_directory_is_seen(scope: leaks.Scope, tmp_path: Path) -> None:
    before = leaks.Snapshot.take(scope)
    (tmp_path / "web-1").mkdir()
    assert left_since(before, scope) == [f"state directory: {tmp_path}/web-1"]


def test_a_changed_signal_handler_is_seen(scope: leaks.Scope) -> None:
    before = leaks.Snapshot.take(scope)
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        left = left_since(before, scope)
    finally:
        signal.signal(signal.SIGCHLD, old)
    assert "state of the calling process: SIGCHLD handled by <Handlers.SIG_IGN: 1>" in left


def test_a_changed_working_directory_is_seen(
    scope: leaks.Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = leaks.Snapshot.take(scope)
    monkeypatch.chdir(tmp_path)
    assert f"state of the calling process: cwd {tmp_path}" in left_since(before, scope)


def test_clearing_ends_a_process_that_was_left(scope: leaks.Scope) -> None:
    before = leaks.Snapshot.take(scope)
    pid = os.posix_spawnp("sleep", ["sleep", "60"], os.environ)
    leaks.clear(before.leaks(leaks.Snapshot.take(scope)), scope)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


def test_mounts_in_a_tree_are_noticed_before_it_is_removed(tmp_path: Path) -> None:
    assert leaks.has_mounts("/proc")
    assert not leaks.has_mounts(tmp_path)
