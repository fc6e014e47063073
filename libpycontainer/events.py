"""What happens to a container while it lives: measurements, and the kernel's notices.

Sources: kernel admin-guide/cgroup-v1/memory (OOM control, memory pressure), admin-guide/cgroup-v2
(memory.events), accounting/psi (monitoring for pressure thresholds).
"""

from __future__ import annotations

import errno
import os
import select
import time

from libpycontainer import kernel, waiting
from libpycontainer import status as status_
from libpycontainer import syscalls as sys_
from libpycontainer.cgroups.files import pairs, read_optional, symbol
from libpycontainer.errors import CgroupError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from libpycontainer.cgroups.stats import Stats
    from libpycontainer.container import Container

LEVELS = ("low", "medium", "critical")
RESOURCES = ("cpu", "memory", "io")
KINDS = ("some", "full")
_MICROSECONDS = 1_000_000
# A group has no process whose end could be waited for: so often is it looked whether it is there.
_GROUP_LOOK = 1.0


class Event:
    """One thing that happened; ``id`` is the container's name, ``type`` a word for the kind."""

    __slots__ = ("id",)
    type = ""

    def __init__(self, id: str) -> None:
        self.id = id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.id!r}>"


class StatsEvent(Event):
    """A measurement, as :meth:`Container.stats` takes it."""

    __slots__ = ("stats",)
    type = "stats"

    def __init__(self, id: str, stats: Stats) -> None:
        super().__init__(id)
        self.stats = stats


class OOMEvent(Event):
    """The container ran out of memory.

    ``kills`` is how many of its processes have been killed for that so far. v1 gives notice
    before it kills, so there the one at hand need not be among them.
    """

    __slots__ = ("kills",)
    type = "oom"

    def __init__(self, id: str, kills: int) -> None:
        super().__init__(id)
        self.kills = kills


class MemoryPressureEvent(Event):
    """The kernel finds it hard to get memory back; ``level``: "low", "medium" or "critical"."""

    __slots__ = ("level",)
    type = "memory_pressure"

    def __init__(self, id: str, level: str) -> None:
        super().__init__(id)
        self.level = level


class Stall:
    """A share of time lost to waiting, to be told of when it is reached (PSI).

    In ``window`` seconds (0.5 to 10), ``some`` or all (``full``) of the processes had to wait for
    ``resource`` ("cpu", "memory", "io") during ``stalled`` seconds. The kernel tells of it once
    per window at most. Without CAP_SYS_RESOURCE windows are multiples of 2 seconds.
    """

    __slots__ = ("kind", "resource", "stalled", "window")

    def __init__(
        self, resource: str, stalled: float, window: float = 2.0, kind: str = "some"
    ) -> None:
        if resource not in RESOURCES or kind not in KINDS:
            raise ValueError(f"invalid stall {resource!r}, {kind!r}: see libpycontainer.Stall")
        if not 0 < stalled <= window:
            raise ValueError(f"invalid stall: {stalled!r} seconds of every {window!r}")
        self.resource = resource
        self.stalled = stalled
        self.window = window
        self.kind = kind

    @property
    def trigger(self) -> str:
        """What the pressure file is told; the kernel drops the last character."""
        return f"{self.kind} {self.stalled * _MICROSECONDS:.0f} {self.window * _MICROSECONDS:.0f}\n"

    def __repr__(self) -> str:
        return f"Stall({self.resource!r}, {self.stalled!r}, {self.window!r}, {self.kind!r})"


class StallEvent(Event):
    """A :class:`Stall` that was asked for was reached."""

    __slots__ = ("stall",)
    type = "stall"

    def __init__(self, id: str, stall: Stall) -> None:
        super().__init__(id)
        self.stall = stall


class Events:
    """The iterator that :meth:`Container.events` returns; it ends when the container stops.

    Of a group it ends when that is deleted.
    Owns its descriptors until :meth:`close`, the end of its ``with`` block, or its exhaustion.
    For one thread at a time.
    """

    def __init__(
        self,
        container: Container,
        interval: float | None,
        *,
        oom: bool,
        memory_pressure: str | None,
        stalls: Sequence[Stall],
    ) -> None:
        if interval is not None and not interval > 0:
            raise ValueError(f"invalid interval {interval!r}: expected seconds, more than 0")
        self._container = container
        self._interval = interval
        self._next = time.monotonic() + (interval or 0)
        self._queue: list[Event] = []
        self._sources: dict[int, _Source] = {}
        self._init = None if container.is_group else _init_pidfd(container)
        self._look = _GROUP_LOOK if self._init is None else None
        self._poll = select.epoll()
        try:
            if self._init is not None:
                self._poll.register(self._init.fileno(), select.EPOLLIN)
            for source in _sources(container, oom, memory_pressure, stalls):
                self._watch(source)
        except BaseException:
            self.close()
            raise

    def _watch(self, source: _Source) -> None:
        for fd in source.fds:
            self._sources[fd.fileno()] = source
            self._poll.register(fd.fileno(), source.mask)

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = self.get()
        if event is None:
            raise StopIteration
        return event

    def get(self, timeout: float | None = None) -> Event | None:
        """The next event; ``None`` when there are no more.

        ``timeout`` is in seconds (0 looks once); raises :class:`TimeoutError` when it is over
        without an event.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._queue and not self._poll.closed:
            self._gather(deadline)
            late = deadline is not None and time.monotonic() > deadline
            if late and not self._queue and not self._poll.closed:
                raise TimeoutError(f"no event of container {self._container.id} in {timeout:g} s")
        return self._queue.pop(0) if self._queue else None

    def put_back(self, event: Event) -> None:
        """Let an event that was taken be the next one again."""
        self._queue.insert(0, event)

    def fileno(self) -> int:
        """Readable, for select and asyncio, when there may be something; it stays this object's.

        :meth:`due` tells when to look even if it is not. Raises ``ValueError`` once it is closed.
        """
        return self._poll.fileno()

    def due(self) -> float | None:
        """In how many seconds :meth:`get` should be called at the latest; ``None``: no matter."""
        if self._queue or self._poll.closed:
            return 0.0
        measurement = None if self._interval is None else self._next - time.monotonic()
        times = [each for each in (measurement, self._look) if each is not None]
        return max(0.0, min(times)) if times else None

    def _gather(self, deadline: float | None) -> None:
        """Wait until something happened, or a measurement is due, and queue what it was."""
        until = deadline
        if self._interval is not None:
            until = self._next if until is None else min(until, self._next)
        if self._look is not None:
            look = time.monotonic() + self._look
            until = look if until is None else min(until, look)
        wait = None if until is None else max(0.0, until - time.monotonic())
        ready = dict(self._poll.poll(wait))
        ended = self._has_ended(ready)
        # What led to the end may still be on its way: the kernel holds some notices back.
        asked = self._sources if ended else [fd for fd in ready if fd in self._sources]
        for source in dict.fromkeys(self._sources[fd] for fd in asked):
            what = 0
            for fd in source.fds:
                what |= ready.get(fd.fileno(), 0)
            self._queue += source.take(self._container.id, what)
            if source.gone:
                self._drop(source)
        if ended:
            self.close()
        elif self._interval is not None and time.monotonic() >= self._next:
            self._next = max(self._next + self._interval, time.monotonic())
            self._queue.append(StatsEvent(self._container.id, self._container.stats()))

    def _has_ended(self, ready: Mapping[int, int]) -> bool:
        if self._init is not None:
            return self._init.fileno() in ready
        return not any(os.path.isdir(path) for path in self._container.cgroup.paths().values())

    def _drop(self, source: _Source) -> None:
        for fd in source.fds:
            self._poll.unregister(fd.fileno())
            del self._sources[fd.fileno()]
            fd.close()

    def close(self) -> None:
        """Let go of what is watched. Events that were not taken yet are still to be had."""
        self._poll.close()
        for source in self._sources.values():
            for fd in source.fds:
                fd.close()
        self._sources = {}
        if self._init is not None:
            self._init.close()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


# ---- what is watched ---------------------------------------------------------------------------


class _Source:
    """Descriptors to wait for, and what it means when one of them is ready.

    ``gone`` becomes true when the group is, and nothing more can come of it.
    """

    mask = select.EPOLLIN

    def __init__(self, *fds: sys_.Fd) -> None:
        self.fds = fds
        self.gone = False

    def take(self, id: str, what: int) -> list[Event]:
        """What has happened since the last call; nothing, when it was called for nothing.

        ``what`` is what epoll says of the descriptors.
        """
        raise NotImplementedError


class _OOMv1(_Source):
    def __init__(self, directory: str) -> None:
        super().__init__(_notify(directory, "memory.oom_control"))
        self._control = directory + "/memory.oom_control"

    def take(self, id: str, what: int) -> list[Event]:
        if not _taken(self.fds[0]):
            return []
        text = read_optional(self._control)
        # The removal of the group is a notice as well.
        self.gone = text is None
        return [] if self.gone else [OOMEvent(id, pairs(text).get("oom_kill", 0))]


class _OOMv2(_Source):
    def __init__(self, directory: str) -> None:
        self._file = directory + "/memory.events"
        watch = sys_.inotify_init()
        try:
            sys_.inotify_add_watch(watch.fileno(), self._file, kernel.IN_MODIFY)
        except OSError as error:
            watch.close()
            raise _refused("watch", self._file, error) from error
        super().__init__(watch)
        self._kills = self._count() or 0

    def _count(self) -> int | None:
        text = read_optional(self._file)
        return None if text is None else pairs(text).get("oom_kill", 0)

    def take(self, id: str, what: int) -> list[Event]:
        # Counted, whatever the notice says: it comes up to 10 ms after the deed, and one for many.
        _taken(self.fds[0])
        count = self._count()
        self.gone = count is None
        if count is None or count == self._kills:
            return []
        self._kills = count
        return [OOMEvent(id, count)]


class _MemoryPressure(_Source):
    """A descriptor for each level: one that is reached makes those below it ready, too."""

    def __init__(self, directory: str, least: str) -> None:
        self._levels = LEVELS[LEVELS.index(least) :]
        self._control = directory + "/memory.pressure_level"
        fds: list[sys_.Fd] = []
        try:
            for level in self._levels:
                fds.append(_notify(directory, "memory.pressure_level", level))
        except BaseException:
            for fd in fds:
                fd.close()
            raise
        super().__init__(*fds)

    def take(self, id: str, what: int) -> list[Event]:
        reached = [level for level, fd in zip(self._levels, self.fds, strict=True) if _taken(fd)]
        self.gone = not os.path.exists(self._control)
        return [MemoryPressureEvent(id, reached[-1])] if reached and not self.gone else []


class _Pressure(_Source):
    mask = select.EPOLLPRI

    def __init__(self, directory: str, stall: Stall) -> None:
        path = f"{directory}/{stall.resource}.pressure"
        try:
            fd = sys_.Fd(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise UnsupportedError(
                    f"this kernel does not count stalls: there is no {path}", op="psi", path=path
                ) from None
            raise _refused("watch", path, error) from error
        try:
            os.write(fd.fileno(), stall.trigger.encode())
        except OSError as error:
            fd.close()
            hint = ""
            if error.errno == errno.EINVAL:
                hint = " (a window has 0.5 to 10 seconds, and without CAP_SYS_RESOURCE 2, 4, 6 ...)"
            raise _refused(f"watch for {stall!r} in", path, error, hint) from error
        super().__init__(fd)
        self._stall = stall

    def take(self, id: str, what: int) -> list[Event]:
        # The kernel forgets that it happened as soon as it has told so once.
        self.gone = bool(what & select.EPOLLERR)
        reached = what & select.EPOLLPRI and not self.gone
        return [StallEvent(id, self._stall)] if reached else []


def _sources(
    container: Container, oom: bool, memory_pressure: str | None, stalls: Sequence[Stall]
) -> Iterator[_Source]:
    """Each is its receiver's to close."""
    paths = container.cgroup.paths()
    old, unified = paths.get("memory"), paths.get("")
    if oom and old is not None:
        yield _OOMv1(old)
    elif oom and unified is not None and os.path.exists(unified + "/memory.events"):
        yield _OOMv2(unified)
    if memory_pressure is not None:
        if memory_pressure not in LEVELS:
            raise ValueError(f"invalid level {memory_pressure!r}: one of {', '.join(LEVELS)}")
        if old is None:
            raise UnsupportedError(
                "levels of memory pressure are cgroup v1's: ask for a Stall of memory instead",
                op="memory_pressure",
            )
        yield _MemoryPressure(old, memory_pressure)
    for stall in stalls:
        if unified is None:
            raise UnsupportedError(
                "stalls are counted in the unified cgroup hierarchy, where this container has no "
                "group",
                op="psi",
            )
        yield _Pressure(unified, stall)


def _init_pidfd(container: Container) -> sys_.Fd:
    status_.check("events", container.status, container.id)
    record = container._record
    pidfd = waiting.open_pidfd(record["pid"], record["startTime"])
    if pidfd is None:
        status_.check("events", status_.STOPPED, container.id)
    assert pidfd is not None
    return pidfd


def _notify(directory: str, file: str, argument: str = "") -> sys_.Fd:
    """An eventfd that v1 signals as ``file`` says; it stops when that is closed."""
    event = sys_.Fd(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
    try:
        control = os.open(f"{directory}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
        try:
            target = os.open(f"{directory}/{file}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                words = f"{event.fileno()} {target} {argument}"
                os.write(control, words.encode())
            finally:
                os.close(target)
        finally:
            os.close(control)
    except OSError as error:
        event.close()
        raise _refused("watch", f"{directory}/{file}", error) from error
    return event


def _taken(fd: sys_.Fd) -> bool:
    """Read what a non-blocking descriptor has; whether it had anything."""
    try:
        return bool(os.read(fd.fileno(), 65536))
    except BlockingIOError:
        return False


def _refused(what: str, path: str, error: OSError, hint: str = "") -> CgroupError:
    number = error.errno or 0
    return CgroupError(
        f"cannot {what} {path}: {symbol(number)}{hint}", op="events", path=path, errno=number
    )
