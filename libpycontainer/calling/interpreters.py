"""Interpreters of the caller's own kind, which load his functions before a container is entered.

One for each call, or one for a pool, whose workers are clones of it.
"""

from __future__ import annotations

import marshal
import os
import sys

from libpycontainer import interpreter, reaping
from libpycontainer import syscalls as sys_
from libpycontainer.calling import packing
from libpycontainer.errors import CallError, ProtocolError, RemoteTraceback
from libpycontainer.nursery import Nursery
from libpycontainer.process import Process
from libpycontainer.spawner import Interpreter, Spawner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from libpycontainer.factory import Factory


class CallProcess(Process):
    """A process that calls functions instead of executing a program; the line to it is ours.

    It is cloned from ``seed``, or from an interpreter of its own, which gets ``request``.
    """

    calls = True

    def __init__(
        self, name: str, request: dict[str, Any], seed: Seed | None = None, **options: Any
    ) -> None:
        self.name = name
        self._request = request
        self._seed = seed
        self.line, self._theirs = sys_.socketpair(sys_.SOCK_STREAM)
        super().__init__([name], pass_fds=[self._theirs.fileno()], **options)

    def spawner(self, factory: Factory) -> Spawner:
        if self._seed is not None:
            return Spawner(self._seed.path, self._seed)
        return CallSpawner(factory.interpreter(), self._request, self.name)

    def close(self) -> None:
        super().close()
        self.line.close()
        self._theirs.close()

    def release_theirs(self) -> None:
        """It has its end of the line: whoever else held that would hide its closing."""
        self._theirs.close()


class CallSpawner(Spawner):
    """An interpreter of the caller's own kind, which loads the functions before it is cloned."""

    def __init__(self, path: str, request: dict[str, Any], name: str) -> None:
        super().__init__(path)
        self._request = request
        self._name = name

    def start(self) -> None:
        assert self._own is not None
        execute(self._own, "main", self._request)

    def _greet(self) -> sys_.Fd:
        assert self._own is not None
        word, received = first_word(self._own)
        if received:
            return received[0]
        raise failure(word, self._name) if word else self._died()


class Seed(Nursery):
    """A loaded interpreter that workers are cloned from. It knows ``modules``, and may learn more.

    ``request`` makes the request for an interpreter that is to know certain modules.
    """

    def __init__(self, path: str, request: Callable[[frozenset[str]], dict[str, Any]]) -> None:
        super().__init__(path)
        self._request = request
        self._retired: list[Interpreter] = []
        self.modules: frozenset[str] = frozenset()

    def learn(self, modules: frozenset[str]) -> frozenset[str]:
        """Have later clones know these too; returns all that they will know."""
        with self._lock:
            if not modules <= self.modules:
                self.modules |= modules
                retired, self._interpreter = self._interpreter, None
                if retired is not None:
                    # It still serves whoever has asked already, and ends then.
                    assert retired.line is not None
                    retired.line.close()
                    self._retired.append(retired)
            return self.modules

    def _start(self, fresh: Interpreter, parent: sys_.Fd) -> None:
        execute(fresh, "serve_many", self._request(self.modules), parent)
        word, _none = first_word(fresh)
        if word != b"ready":
            text = f"the interpreter {self.path} died while it loaded: {fresh.diagnosis()}"
            raise failure(word, "the workers") if word else ProtocolError(text, op="spawn")

    def close(self) -> None:
        super().close()
        with self._lock:
            while self._retired:
                self._retired.pop().close()


def execute(own: Interpreter, entry: str, request: dict[str, Any], *more: sys_.Fd) -> None:
    """Start an interpreter with ``entry`` of calling/inside.py; the request comes last."""
    same = os.path.realpath(sys.executable or "/") == own.path
    # In a virtual environment Python finds it by the name that it is called by.
    program = sys.executable if same else own.path
    command = [program, *packing.flags(), "-c", interpreter.boot("calling.inside", entry)]
    with sys_.sealed_memfd("call", marshal.dumps(request)) as memory:
        own.execute(command, *more, memory)


def first_word(own: Interpreter) -> tuple[bytes, list[sys_.Fd]]:
    """What an interpreter says when it has loaded its request; nothing if it died before."""
    line = own.line
    assert line is not None
    reaping.wait_any([line.fileno(), own.child.fileno()], None)
    return sys_.receive(line.fileno()) if reaping.wait_readable(line.fileno(), 0) else (b"", [])


def failure(packet: bytes, name: str) -> CallError:
    """What loading has come to: our own interpreter tells it, on the host."""
    _word, kind, words, text = packet.decode("utf-8", "replace").split("\0", 3)
    said = f"{kind}: {words}" if words else kind
    error = CallError(f"cannot load {name}: {said}", type_name=kind, words=words)
    error.__cause__ = RemoteTraceback(text)
    return error
