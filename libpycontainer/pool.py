"""lc.Pool: a concurrent.futures.Executor whose workers are containers."""

from __future__ import annotations

import os
import threading
import weakref
from concurrent.futures import Executor, ThreadPoolExecutor

from libpycontainer import log
from libpycontainer.calling import packing
from libpycontainer.calling.interpreters import CallProcess, Seed
from libpycontainer.calling.session import Terms, refuse_while_loading
from libpycontainer.calls import Room, arranged, environment
from libpycontainer.errors import CallDiedError, ContainerError, ResultError, TimeoutExpired
from libpycontainer.factory import Factory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from typing import Any, TypeVar

    from libpycontainer.quantities import Duration, Size
    from libpycontainer.sandbox import Order
    from libpycontainer.streams import Stream

    Value = TypeVar("Value")


class Pool(Executor):
    """Calls functions in up to ``max_workers`` containers at a time, each of which is kept.

    It is an executor: ``submit``, ``map``, ``shutdown``, and a ``with`` block that waits for all.
    Every future ends as :func:`libpycontainer.call` would: with the value, with what the function
    raised, with :class:`TimeoutExpired` after ``timeout`` seconds of its time, or with
    :class:`CallDiedError`. A worker that died fails the future that it had, no other, and a new one
    takes its place. ``imports``, ``trust``, ``max_result``, the streams (but no pipes) and
    ``options``, which describe every worker's container, are call's as well.

    A worker serves many tasks, and what one of them leaves the next one finds: files in /tmp,
    changed modules, processes that go on, and the process itself, so that a hostile task can answer
    for those after it. With ``max_tasks_per_worker=1`` each task has a container of its own.

    ``initializer(*initargs)`` is called first in each worker; where it raises, the future that the
    worker was made for has the exception. Functions are sent as by :func:`libpycontainer.call`. A
    worker knows the modules of the functions that there were when it was made, and is replaced for
    a function of another module.

    May be used from several threads. It owns its containers, which end with :meth:`shutdown`, with
    the pool itself and with the program.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[Any] = (),
        max_tasks_per_worker: int | None = None,
        timeout: Duration | None = None,
        imports: Sequence[str] = (),
        trust: bool = False,
        max_result: Size = "64M",
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        factory: Factory | None = None,
        **options: Any,
    ) -> None:
        refuse_while_loading()
        for name, number in (
            ("max_workers", max_workers),
            ("max_tasks_per_worker", max_tasks_per_worker),
        ):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, not {number}")
        self._terms = Terms(
            timeout=timeout,
            imports=imports,
            trust=trust,
            max_result=max_result,
            max_output=0,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
        if any(stream == -1 for stream in self._terms.streams.values()):
            raise ValueError("a worker's streams serve many tasks: give files, DEVNULL or None")
        self._crew = Crew(
            self._terms,
            factory or Factory(),
            # What is wrong with the options is told now, and not by every future.
            arranged("worker", options),
            packing.pack(initializer, initargs, {}) if initializer is not None else None,
            max_tasks_per_worker,
        )
        self._lock = threading.Lock()
        self._unfinished = 0
        self._closing = False
        self._threads = ThreadPoolExecutor(
            max_workers or len(os.sched_getaffinity(0)), thread_name_prefix="libpycontainer-pool"
        )
        self._end = weakref.finalize(self, self._crew.end)

    # ---- the executor ----------------------------------------------------------------------

    def submit(self, fn: Callable[..., Value], /, *args: Any, **kwargs: Any) -> Future[Value]:
        """Have ``fn(*args, **kwargs)`` called in a container; returns its future.

        It is sent as it is when its turn comes; what cannot be sent is the future's exception.
        """
        future = self._threads.submit(self._run, fn, args, kwargs)
        with self._lock:
            self._unfinished += 1
        future.add_done_callback(self._done)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; with ``wait`` return when all are done and every container is gone.

        Without, the containers end with the last task.
        """
        with self._lock:
            self._closing = True
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        with self._lock:
            over = not self._unfinished
        if over:
            self._crew.end()

    def _done(self, _future: Future[Any]) -> None:
        with self._lock:
            self._unfinished -= 1
            over = self._closing and not self._unfinished
        if over:
            self._crew.end()

    def _run(self, function: Callable[..., Value], args: Any, kwargs: Any) -> Value:
        packed = packing.pack(function, args, kwargs)
        worker = self._crew.take(packed)
        try:
            return worker.serve(packed)  # type: ignore[no-any-return]
        except (CallDiedError, ResultError, TimeoutExpired):
            worker.broken = True
            raise
        except BaseException as error:
            # What the function has raised says nothing against its worker; an interrupt does.
            worker.broken = worker.broken or not isinstance(error, Exception)
            raise
        finally:
            self._crew.give_back(worker)


class Crew:
    """A pool's workers: those that have nothing to do, and the interpreter to clone more from."""

    def __init__(
        self,
        terms: Terms,
        factory: Factory,
        order: Order,
        initializer: packing.Packed | None,
        max_tasks: int | None,
    ) -> None:
        self.terms = terms
        self.factory = factory
        self.order = order
        self.initializer = initializer
        self._max_tasks = max_tasks
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self.seed = Seed(factory.interpreter(), self._request)
        if initializer is not None:
            self.seed.learn(initializer.modules)

    def _request(self, modules: frozenset[str]) -> dict[str, Any]:
        more = environment(self.order)
        return self.terms.request((), serves=True, modules=sorted(modules), **more)

    def take(self, packed: packing.Packed) -> Worker:
        """One that knows the modules of the task: an idle one, or else a new one."""
        while (worker := self._pop()) is not None:
            if packed.modules <= worker.modules and worker.session.fit:
                return worker
            self._discard(worker)
        return Worker(self, self.seed.learn(packed.modules))

    def give_back(self, worker: Worker) -> None:
        """Keep it for another task, or end it."""
        used_up = self._max_tasks is not None and worker.tasks >= self._max_tasks
        if worker.broken or used_up:
            self._discard(worker)
            return
        with self._lock:
            self._idle.append(worker)

    def _discard(self, worker: Worker) -> None:
        """End it; no task's value depends on whether that succeeds."""
        try:
            worker.end()
        except ContainerError as error:
            log.warn(f"a worker of a pool was not deleted: {error}")

    def _pop(self) -> Worker | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def end(self) -> None:
        """End all that has nothing to do. The first error is raised when everything is done.

        A child that the program has forked leaves it alone: it is not its own.
        """
        if os.getpid() != self._owner:
            return
        failed: ContainerError | None = None
        while (worker := self._pop()) is not None:
            try:
                worker.end()
            except ContainerError as error:
                failed = failed or error
        self.seed.close()
        if failed is not None:
            raise failed


class Worker:
    """One container that serves one task after the other."""

    def __init__(self, crew: Crew, modules: frozenset[str]) -> None:
        self.modules = modules
        self.tasks = 0
        self.broken = False
        self._initializer = crew.initializer
        process = CallProcess("worker", {}, crew.seed, **crew.terms.streams)
        self._room = Room(crew.factory, crew.order, process, crew.terms)
        self.session = self._room.session

    def serve(self, packed: packing.Packed) -> Any:
        """The task's value; raises as :meth:`Session.value` does."""
        first, self._initializer = self._initializer, None
        if first is not None:
            try:
                self._ask(first)
            except BaseException:
                self.broken = True
                raise
        self.tasks += 1
        return self._ask(packed)

    def _ask(self, packed: packing.Packed) -> Any:
        self.session.rename(packed.name)
        self.session.ask(packed.data)
        return self.session.value()

    def end(self) -> None:
        """Delete its container."""
        try:
            self.session.end()
        finally:
            self._room.__exit__(None, None, None)
