"""What a spawner has in memory when it waits for a request, and what it can still import: nothing.

It is started as the library starts it, but for its last word: instead of serving a request it
says what it has.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import pytest

from libpycontainer import interpreter
from libpycontainer import syscalls as sys_

OWN = {
    "libpycontainer",
    "libpycontainer._shim",
    "libpycontainer._shim.lib",
    "libpycontainer.descriptors",
    "libpycontainer.hooks",
    "libpycontainer.init",
    "libpycontainer.init.console",
    "libpycontainer.init.context",
    "libpycontainer.init.copyup",
    "libpycontainer.init.main",
    "libpycontainer.init.paths",
    "libpycontainer.init.rootfs",
    "libpycontainer.init.scheduling",
    "libpycontainer.init.steps",
    "libpycontainer.kernel",
    "libpycontainer.reaping",
    "libpycontainer.syscalls",
}
STANDARD = {
    "__future__",
    "__main__",
    "_abc",
    "_cffi_backend",
    "_codecs",
    "_collections_abc",
    "_frozen_importlib",
    "_frozen_importlib_external",
    "_imp",
    "_io",
    "_signal",
    "_stat",
    "_thread",
    "_warnings",
    "_weakref",
    "abc",
    "builtins",
    "codecs",
    "encodings",
    "encodings.aliases",
    "encodings.utf_8",
    "errno",
    "genericpath",
    "io",
    "marshal",
    "os",
    "os.path",
    "posix",
    "posixpath",
    "select",
    "stat",
    "sys",
    "time",
    "zipimport",
}

LOOK = """
from libpycontainer.init import main as m
m.seal()
import marshal
try:
    import this
    late = "imported"
except ImportError:
    late = "refused"
m.os.write(3, repr({
    "modules": sorted(m.sys.modules),
    "paths": [m.sys.path, m.sys.meta_path, m.sys.path_hooks, m.sys.path_importer_cache],
    "late": late,
    "threads": len(m.os.listdir("/proc/self/task")),
    "fds": sorted(m.os.listdir("/proc/self/fd")),
}).replace("'", '"').encode())
m.os._exit(0)
"""


def spawner_says(code: str) -> dict[str, Any]:
    """Start a spawner whose last word is ``code``; what it writes to its socket."""
    path = interpreter.find()
    command = interpreter.command(path)
    boot = command.index("-c") + 1
    head, _, _tail = command[boot].partition("from libpycontainer")
    command[boot] = head + "exec(sys.argv[1])"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, open(os.devnull, "r+b") as null, sys_.memfd("stderr") as errors:
        fds = [null.fileno(), null.fileno(), errors.fileno(), theirs.fileno()]
        argv, env = [*command, code], interpreter.environment()
        with interpreter.seal(path) as sealed:
            child = sys_.Child()
            sys_.spawn(argv, env, fds, executable=sealed.fileno(), block_signals=True, child=child)
        theirs.close()
        with child as pidfd:
            said = ours.recv(1 << 20)
            os.waitid(os.P_PIDFD, pidfd.fileno(), os.WEXITED)
        assert said, os.pread(errors.fileno(), 4000, 0).decode()
    answer: dict[str, Any] = json.loads(said)
    return answer


@pytest.fixture(scope="module")
def spawner() -> dict[str, Any]:
    return spawner_says(LOOK)


def test_every_module_of_a_spawner_is_on_the_list(spawner: dict[str, Any]) -> None:
    assert set(spawner["modules"]) - OWN - STANDARD == set()


def test_a_spawner_stays_lean(spawner: dict[str, Any]) -> None:
    modules = set(spawner["modules"])
    assert len(modules) <= 50
    assert modules >= {"libpycontainer.init.steps", "libpycontainer.syscalls", "marshal"}


def test_a_sealed_spawner_has_no_way_left_to_find_a_module(spawner: dict[str, Any]) -> None:
    assert spawner["paths"] == [[], [], [], {}]
    assert spawner["late"] == "refused"


def test_a_spawner_has_one_thread_and_its_four_descriptors(spawner: dict[str, Any]) -> None:
    # clone3 is only allowed with a single thread; the fifth one lists the directory.
    assert spawner["threads"] == 1
    assert spawner["fds"] == ["0", "1", "2", "3", "4"]


def test_a_spawner_that_is_not_needed_ends_by_itself() -> None:
    path = interpreter.find()
    ours, theirs = sys_.socketpair()
    with open(os.devnull, "r+b") as null, interpreter.seal(path) as sealed, theirs:
        fds = [null.fileno(), null.fileno(), null.fileno(), theirs.fileno()]
        child = sys_.Child()
        sys_.spawn(
            interpreter.command(path),
            interpreter.environment(),
            fds,
            executable=sealed.fileno(),
            child=child,
        )
    ours.close()
    with child as pidfd:
        ended = os.waitid(os.P_PIDFD, pidfd.fileno(), os.WEXITED)
    assert ended is not None
    assert (ended.si_code, ended.si_status) == (os.CLD_EXITED, 0)


def test_a_request_that_is_garbage_is_answered_with_an_error() -> None:
    path = interpreter.find()
    ours, theirs = sys_.socketpair()
    with ours, open(os.devnull, "r+b") as null:
        with interpreter.seal(path) as sealed, theirs:
            fds = [null.fileno(), null.fileno(), null.fileno(), theirs.fileno()]
            child = sys_.Child()
            sys_.spawn(
                interpreter.command(path),
                interpreter.environment(),
                fds,
                executable=sealed.fileno(),
                child=child,
            )
        with child as pidfd:
            _hello, (line,) = sys_.receive(ours.fileno())
            with line:
                sys_.send(line.fileno(), b"\xff not marshal")
                data, _fds = sys_.receive(line.fileno())
            os.waitid(os.P_PIDFD, pidfd.fileno(), os.WEXITED)
    assert data.split(b"\0")[0] == b"error"
