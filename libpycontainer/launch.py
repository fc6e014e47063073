"""From a plan to a running init: descriptors, the request, the first words."""

from __future__ import annotations

import os

from libpycontainer import conversation, namespaces, reaping, waiting
from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError, ProtocolError, StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from libpycontainer.cgroups.protocol import Manager
    from libpycontainer.host import Facts
    from libpycontainer.plan import Plan
    from libpycontainer.spawner import Spawner

KILL = 9


class Launch:
    """One init on its way: from the request to the end of its conversation in ``talk``.

    ``pid`` and ``pidfd`` are set by :meth:`clone`. :meth:`abort` ends whatever has been started,
    also after an exception at any point.
    """

    def __init__(
        self, spawner: Spawner, order: tuple[str, ...], log: Callable[[str, str], None]
    ) -> None:
        self.spawner = spawner
        self._order = order
        self._log = log
        self._first = sys_.Packet()
        self.pid = 0
        self.pidfd: sys_.Fd | None = None
        self.talk: conversation.Conversation

    def clone(self, plan: Plan, fds: Mapping[str, sys_.Fd | int]) -> None:
        """Have init cloned, where it was not before, and begin with its steps."""
        self.spawner.request(plan, fds)
        assert self.spawner.socket is not None
        self.talk = conversation.Conversation(
            self.spawner.socket, self._order, log=self._log, diagnosis=self.spawner.diagnosis
        )
        if self.spawner.is_init:
            # Known to both from here on: whoever closes it first ends the process, if it must be.
            self.pidfd = self.spawner.clone
        else:
            _fields, received = self.talk.expect("started", self._first)
            if len(received) != 1:
                for fd in received:
                    fd.close()
                raise ProtocolError("the spawner's report is malformed", op="spawn")
            self.pidfd = received[0]
        assert self.pidfd is not None
        self.pid = waiting.pid_of(self.pidfd)

    def copy_pidfd(self) -> sys_.Fd:
        """A pidfd for whoever is to hold init; this object keeps its own until :meth:`close`."""
        assert self.pidfd is not None
        return sys_.Fd(os.dup(self.pidfd.fileno()))

    def close(self) -> None:
        """The launch is complete: init is its holder's."""
        if self.pidfd is not None:
            self.pidfd.close()

    def abort(self) -> None:
        if self.pidfd is None and self.pid == 0:
            self._find_interrupted()
        if self.pidfd is not None:
            end(self.pidfd)
            self.pidfd.close()

    def _find_interrupted(self) -> None:
        """The report came, and with it a Ctrl-C: init is there, though nobody has noted it."""
        word, _, rest = self._first.beginning().partition(b"\0")
        pid = conversation.number(os.fsdecode(rest))
        if word == b"started" and pid:
            try:
                self.pidfd = sys_.Fd(os.pidfd_open(pid))
            except ProcessLookupError:
                pass
        elif self.spawner.socket is not None:
            self._hear_out(self.spawner.socket)

    def _hear_out(self, socket: sys_.Fd) -> None:
        """The request is out and unanswered: withdraw it, and wait for what came of it."""
        try:
            sys_.shutdown_writing(socket.fileno())
            while True:
                data, fds = sys_.receive(socket.fileno())
                if not data:
                    return
                for fd in fds:
                    # "started": an init that finds nobody who tells it to continue, and ends.
                    with fd:
                        end(fd)
        except OSError:
            # The other end is gone already.
            return


class Entrances:
    """How a process gets into its cgroups: cloned into the v2 one, by its own hand into the others.

    Close it when the process has been asked for.
    """

    def __init__(self) -> None:
        self.fds: dict[str, sys_.Fd] = {}

    def open_unified(self, manager: Manager) -> sys_.Fd | None:
        """The v2 group for the container's init, if it is to be cloned into it."""
        directory = manager.clone_fd()
        if directory is not None:
            self.fds["cgroup"] = sys_.Fd(directory)
        return self.fds.get("cgroup")

    def open_others(self, manager: Manager) -> None:
        """The groups that the container's init enters by itself."""
        self._note(manager.join_fds(cloned="cgroup" in self.fds))

    def open_beside(
        self, manager: Manager, init: int, below: str | Mapping[str, str] | None
    ) -> None:
        """Every group for one more process than ``init``, maybe ``below`` the container's."""
        if below is None:
            directory = manager.clone_fd(init)
            joined = manager.join_fds(init, cloned=directory is not None)
        else:
            from libpycontainer.cgroups import entering

            directory, joined = entering.open_below(manager, below, init)
        if directory is not None:
            self.fds["cgroup"] = sys_.Fd(directory)
        self._note(joined)

    def _note(self, joined: Sequence[int]) -> None:
        self.fds.update({f"cgroup:{index}": sys_.Fd(fd) for index, fd in enumerate(joined)})

    def close(self) -> None:
        for fd in self.fds.values():
            fd.close()


class Occupant:
    """A container's init on its way into the v2 group, see :meth:`Manager.create`.

    With ``clone`` it is to be cloned into that, with ``flags`` at once, by a warm spawner.
    """

    def __init__(
        self,
        spawner: Spawner,
        entrances: Entrances,
        manager: Manager,
        *,
        clone: bool,
        flags: int | None,
    ) -> None:
        self._spawner = spawner
        self._entrances = entrances
        self._manager = manager
        self._clone = clone
        self._flags = flags

    def begin(self) -> None:
        unified = self._entrances.open_unified(self._manager) if self._clone else None
        if self._flags is not None:
            self._spawner.start_init(self._flags, unified)

    def take_back(self) -> None:
        self._spawner.close()


def end(pidfd: sys_.Fd) -> None:
    """Kill a child and wait until it is gone."""
    try:
        sys_.send_signal(pidfd.fileno(), KILL)
    except ProcessLookupError:
        pass
    try:
        reaping.reap(pidfd.fileno())
    except OSError:
        pass


def gather_fds(plan: Plan, facts: Facts, fds: dict[str, sys_.Fd | int]) -> list[sys_.Fd]:
    """Make the namespaces and mount copies that a plan asks for, under their names in ``fds``.

    Returns those that were made here, which the caller closes after the request is sent.
    """
    made: list[sys_.Fd] = []
    try:
        opened = namespaces.open_namespaces(plan.namespaces, facts)
        made += opened.values()
        fds.update(opened)
        trees = namespaces.open_trees(plan.trees)
        made += trees
        fds.update({tree.fd: fd for tree, fd in zip(plan.trees, trees, strict=True)})
    except BaseException:
        for fd in made:
            fd.close()
        raise
    return made


def start_waiting_init(
    directory: int,
    log: Callable[[str, str], None],
    init: waiting.Identity,
    hand_over: Callable[[sys_.Fd, int], None] | None = None,
) -> None:
    """Tell the init that waits on ``directory``'s start.sock to become its program.

    ``init`` is that process, ``hand_over`` as for :func:`await_execution`. Raises what init
    reports (:class:`StepError`, :class:`ExecutableError`, :class:`HookError`),
    :class:`ProtocolError` when it dies on the way.
    """
    socket = connect_start_socket(directory)
    if socket is None:
        raise StepError("the container's init is not waiting to be started", op="start")
    with socket:
        try:
            sys_.send(socket.fileno(), b"start")
        except OSError:
            raise ProtocolError("the container's init died before it was started") from None
        order: tuple[str, ...] = conversation.START
        if hand_over is not None:
            order = conversation.with_listener(order)
        talk = conversation.Conversation(socket, order, log=log)
        talk.expect("executing")
        await_execution(talk, init, hand_over)


def await_execution(
    talk: conversation.Conversation,
    process: waiting.Identity,
    hand_over: Callable[[sys_.Fd, int], None] | None,
    *,
    executes: bool = True,
) -> None:
    """Hear out an "executing" process until its execve has happened.

    Of one that ``executes`` nothing, but goes on by itself, nobody can tell more than that it has
    closed the line. ``hand_over`` is given the listener of its seccomp filter, where it has one,
    and its pid; the process waits until then. Raises :class:`StepError` when no program was
    executed.
    """
    if hand_over is not None:
        _fields, received = talk.expect("listener")
        if len(received) != 1:
            for fd in received:
                fd.close()
            raise ProtocolError("init's report of its listener is malformed", op="seccomp")
        with received[0] as listener:
            hand_over(listener, process.pid)
        talk.proceed()
    talk.expect(conversation.END)
    if executes and not waiting.has_executed(process):
        raise StepError(
            "the program was not executed: init ended at its last step without a word, as it does "
            "where the seccomp filter refuses execve, or the report that execve failed",
            op="execve",
        )


def is_waiting(directory: int) -> bool:
    """Does an init listen on ``directory``'s start.sock? A connection that says nothing asks.

    It never blocks: a stopped init accepts none of them, until its queue is full.
    """
    try:
        socket = connect_start_socket(directory, nonblocking=True)
    except BlockingIOError:
        return True
    if socket is None:
        return False
    socket.close()
    return True


def connect_start_socket(directory: int, *, nonblocking: bool = False) -> sys_.Fd | None:
    """A connection to a waiting init, ``None`` where nobody listens (any more)."""
    try:
        # By descriptor: a unix socket's path must not exceed 107 bytes, a state root may.
        return sys_.connect(f"/proc/self/fd/{directory}/start.sock", nonblocking=nonblocking)
    except BlockingIOError:
        raise
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise ContainerError(
            f"cannot reach the container's init: {error.strerror}",
            op="connect",
            errno=error.errno or 0,
        ) from None


def write_pid_file(path: str, pid: int) -> None:
    """Write a pid file so that a reader sees it whole or not at all."""
    directory, name = os.path.split(os.path.abspath(path))
    fresh = os.path.join(directory, f".{name}.{os.getpid()}")
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, str(pid).encode())
        finally:
            os.close(fd)
        os.rename(fresh, path)
    except OSError as error:
        if os.path.exists(fresh):
            os.unlink(fresh)
        raise ContainerError(
            f"cannot write the pid file {path}: {error.strerror}",
            op="pid_file",
            path=path,
            errno=error.errno or 0,
        ) from None
