"""A process in a container that calls functions: how it is started, asked, heard and ended."""

from __future__ import annotations

import sys
import time

from libpycontainer import quantities, reaping
from libpycontainer.calling import answers, packing
from libpycontainer.calling.exchange import Exchange
from libpycontainer.calling.frames import CALL
from libpycontainer.calling.interpreters import CallProcess
from libpycontainer.errors import CallDiedError, CallError, ContainerError, TimeoutExpired
from libpycontainer.process import Process
from libpycontainer.streams import DEVNULL, PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from libpycontainer.container import Container
    from libpycontainer.quantities import Duration, Size

END_TIMEOUT = 5.0


class Terms:
    """What the caller grants a call: time, sizes, trust; and where its output goes.

    ``streams`` are :class:`Process`'s, ``sinks`` the caller's objects that are no files.
    """

    def __init__(
        self,
        *,
        timeout: Duration | None,
        trust: bool,
        imports: Sequence[str],
        max_result: Size,
        max_output: Size,
        capture_output: bool = False,
        **streams: Any,
    ) -> None:
        self.timeout = None if timeout is None else quantities.duration(timeout)
        self.trust = trust
        self.imports = [imports] if isinstance(imports, str) else list(imports)
        self.max_result = quantities.size(max_result, "max_result")
        self.max_output = quantities.size(max_output, "max_output")
        if capture_output:
            if streams["stdout"] is not None or streams["stderr"] is not None:
                raise ValueError("stdout and stderr may not be used with capture_output")
            streams["stdout"] = streams["stderr"] = PIPE
        if streams["stdin"] == PIPE:
            raise ValueError("nobody would write to stdin: give a file, or arguments")
        if streams["stdin"] is None:
            streams["stdin"] = DEVNULL
        self.sinks = {name: each for name, each in streams.items() if _is_sink(each)}
        self.streams = {**streams, **dict.fromkeys(self.sinks, PIPE)}

    def deadline(self) -> float | None:
        return None if self.timeout is None else time.monotonic() + self.timeout

    def request(self, calls: Sequence[bytes], **more: Any) -> dict[str, Any]:
        return packing.request(
            calls, imports=self.imports, trust=self.trust, max_result=self.max_result, **more
        )


def _is_sink(stream: object) -> bool:
    """An object to write to that has no descriptor: io.BytesIO, io.StringIO."""
    if not hasattr(stream, "write"):
        return False
    try:
        stream.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return True
    return False


class Session:
    """A started :class:`CallProcess` in its container, to be asked, heard and ended.

    ``killed_before`` is how many processes the container had lost to its memory limit before.
    """

    def __init__(
        self,
        container: Container,
        process: CallProcess,
        terms: Terms,
        killed_before: int | None = 0,
    ) -> None:
        self.container = container
        self.process = process
        self.terms = terms
        process.release_theirs()
        self._exchange = Exchange(
            process,
            process.line,
            name=process.name,
            max_result=terms.max_result,
            max_output=terms.max_output,
            trust=terms.trust,
        )
        self._killed_before = killed_before

    @property
    def fit(self) -> bool:
        """Can it take another call? It lives, and has said nothing that was not asked for."""
        try:
            silent = self._exchange.silent
        except CallError:
            return False
        return silent and not reaping.wait_readable(self.process.fileno(), 0)

    def rename(self, name: str) -> None:
        """What errors call the function from now on."""
        self.process.name = self._exchange.name = name

    def ask(self, pickled: bytes) -> None:
        """Send one more call. Raises as :meth:`value`."""
        try:
            self._exchange.send(CALL, pickled, self.terms.deadline())
        except TimeoutError:
            raise self._expired() from None
        except CallError as error:
            raise self._explained(error) from None

    def value(self) -> Any:
        """The value of the next call; raises what it raised, or what became of it.

        That is :class:`TimeoutExpired`, :class:`CallDiedError` or :class:`ResultError`; then the
        process is dead.
        """
        try:
            kind, payload = self._exchange.answer(self.terms.deadline())
        except TimeoutError:
            raise self._expired() from None
        except CallError as error:
            raise self._explained(error) from None
        return answers.value_of(
            kind,
            payload,
            trust=self.terms.trust,
            max_result=self.terms.max_result,
            name=self.process.name,
        )

    def end(self) -> int | None:
        """Kill it, and take what it has written; its exit code, where it is known."""
        self.process.kill()
        try:
            code = self.process.wait(END_TIMEOUT)
        except (ContainerError, OSError):
            code = None
        self._exchange.drain()
        return code

    def deliver(self) -> None:
        """Give what was written to the caller's own objects."""
        for name, sink in self.terms.sinks.items():
            data = self._exchange.captured(name) or b""
            try:
                sink.write(data)
            except TypeError:
                sink.write(data.decode("utf-8", "replace"))

    def add_output(self, error: CallError) -> None:
        error.stdout = self._exchange.captured("stdout")
        error.stderr = self._exchange.captured("stderr")

    def _expired(self) -> TimeoutExpired:
        self.end()
        timeout = self.terms.timeout or 0.0
        return TimeoutExpired(
            f"{self.process.name} timed out after {timeout:g} s",
            timeout=timeout,
            output=self._exchange.captured("stdout"),
            stderr=self._exchange.captured("stderr"),
        )

    def _explained(self, error: CallError) -> CallError:
        """With how the process ended, where that is why there is no answer."""
        ended = reaping.wait_readable(self.process.fileno(), 0)
        code = self.end()
        if not isinstance(error, CallDiedError):
            return error
        if not ended:
            return CallDiedError(f"{error.message}: it closed its line, and was killed")
        more = oom_kills(self.container)
        out_of_memory = more is not None and more > (self._killed_before or 0)
        text = f"{error.message}: {_how(code)}"
        if out_of_memory:
            text += " (the container was out of memory)"
        return CallDiedError(text, returncode=code, out_of_memory=out_of_memory)


def _how(code: int | None) -> str:
    if code is None:
        return "nobody knows how"
    if code >= 0:
        return f"it exited with code {code}"
    import signal

    try:
        return f"it was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was killed by signal {-code}"


def oom_kills(container: Container) -> int | None:
    """How many processes the kernel has killed for the container's memory limit."""
    try:
        directories = set(container.cgroup.paths().values())
    except ContainerError:
        return None
    counts = [
        int(line.split()[1])
        for directory in directories
        for file in ("memory.oom_control", "memory.events")
        for line in _lines(f"{directory}/{file}")
        if line.startswith("oom_kill ")
    ]
    return max(counts, default=None)


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().splitlines()
    except OSError:
        return []


def call_inside(container: Container, call: packing.Packed, terms: Terms, **options: Any) -> Any:
    """One call in a container that runs. See :meth:`Container.call`."""
    described = Process([call.name], **options)
    base = container.spec.process
    env = described.describe(base).env if base is not None else ()
    request = terms.request([call.data], modules=sorted(call.modules), env=list(env or ()))
    process = CallProcess(call.name, request, **options, **terms.streams)
    with process:
        killed_before = oom_kills(container)
        container.exec(process)
        return conclude(Session(container, process, terms, killed_before))


def conclude(session: Session) -> Any:
    """Hear the one answer of a session, and end it."""
    try:
        try:
            value = session.value()
        finally:
            session.end()
            session.deliver()
    except CallError as error:
        session.add_output(error)
        raise
    return value


def refuse_while_loading() -> None:
    """Calls that are made while the program is imported for a call would go on for ever."""
    inside = sys.modules.get("libpycontainer.calling.inside")
    if inside is not None and inside.loading:
        raise RuntimeError(
            "a call is made while this module is imported for one: put what the program does "
            "under 'if __name__ == \"__main__\":'"
        )
