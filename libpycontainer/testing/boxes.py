"""Throw-away containers for tests: running, and gone when the test is over."""

from __future__ import annotations

import os

from libpycontainer import quantities
from libpycontainer.errors import ContainerError, TimeoutExpired
from libpycontainer.factory import Factory
from libpycontainer.process import Process
from libpycontainer.sandbox import CompletedProcess
from libpycontainer.streams import DEVNULL, PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from libpycontainer.container import Container
    from libpycontainer.quantities import Duration
    from libpycontainer.spec.models import Spec

ASLEEP = ("sleep", "2147483647")
"""What a container does that is there to be looked into: some sixty years of nothing."""


class Box:
    """A container of a test. ``container`` is the library's own handle, with all of its verbs."""

    def __init__(self, container: Container) -> None:
        self.container = container

    @property
    def id(self) -> str:
        return self.container.id

    @property
    def pid(self) -> int:
        """Its init's pid, as the test sees it."""
        return self.container.pid

    @property
    def status(self) -> str:
        return self.container.status

    def exec(self, process: Process) -> Process:
        """:meth:`Container.exec`."""
        return self.container.exec(process)

    def run(
        self,
        args: Sequence[str],
        *,
        input: str | None = None,
        timeout: Duration | None = 60,
        check: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: int | str | tuple[int, int] | None = None,
    ) -> CompletedProcess:
        """Run one more program inside, to its end; its output is captured as text.

        Raises :class:`TimeoutExpired`, after it was killed, and with ``check``
        :class:`CalledProcessError`.
        """
        given = None if input is None else input.encode()
        seconds = None if timeout is None else quantities.duration(timeout)
        wanted = Process(
            args,
            env=env,
            cwd=cwd,
            user=user,
            stdin=DEVNULL if input is None else PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        with self.container.exec(wanted) as process:
            try:
                out, err = process.communicate(given, seconds)
            except TimeoutExpired:
                process.kill()
                process.wait()
                raise
            code = process.wait()
        done = CompletedProcess(
            list(args), code, *(text and text.decode("utf-8", "replace") for text in (out, err))
        )
        # As subprocess has it: empty, not absent.
        done.stdout, done.stderr = done.stdout or "", done.stderr or ""
        if check:
            done.check_returncode()
        return done

    def __repr__(self) -> str:
        return f"<Box {self.container!r}>"


class BoxFactory:
    """Makes :class:`Box` objects and deletes all of them when the test is over.

    ``factory`` is the library's own, under its usual state root.
    """

    def __init__(self) -> None:
        self.factory = Factory()
        self._made: list[Container] = []

    def __call__(
        self, spec: Spec | None = None, *, name: str = "", start: bool = True, **changes: Any
    ) -> Box:
        """A running container of ``spec``, changed as :meth:`Spec.evolve` would by ``changes``.

        Without ``spec`` it is :meth:`Spec.default`, asleep, and without a ``rootfs`` it shows the
        host's files, all of them read-only. ``name`` is the beginning of its name; with ``start``
        false its program waits. Raises what :meth:`Factory.create` raises.
        """
        wanted, host_view = _resolve(spec, changes)
        id = f"{name or 'pytest'}-{os.getpid()}-{os.urandom(4).hex()}"
        quiet: dict[str, Any] = {"stdin": DEVNULL, "stdout": DEVNULL, "stderr": DEVNULL}
        made = self.factory.create(id, wanted, read_only_tree=host_view, **quiet)
        self._made.append(made)
        if start:
            made.start()
        return Box(made)

    def close(self) -> None:
        """Delete them all, the last one first. Raises the first error, after all were tried."""
        failure = None
        while self._made:
            try:
                self._made.pop().__exit__(None, None, None)
            except ContainerError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def __enter__(self) -> BoxFactory:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _resolve(spec: Spec | None, changes: dict[str, Any]) -> tuple[Spec, bool]:
    """The configuration, and whether it shows the host's own tree."""
    from libpycontainer.seccomp import library
    from libpycontainer.spec.models import Spec

    if spec is not None:
        spec = spec.evolve(**changes)
        return spec, spec.root is not None and os.path.realpath(spec.root.path) == "/"
    base = Spec.default().evolve(args=ASLEEP)
    if not library.installed():
        base = base.evolve(seccomp=None)
    host_view = "rootfs" not in changes
    if host_view:
        base = base.evolve(rootfs="/", read_only=False)
    return base.evolve(**changes), host_view
