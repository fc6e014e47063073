"""From a plan to a running init: descriptors, the spawner, the request, the first words."""

from __future__ import annotations

import marshal
import os

from libpycontainer import conversation, interpreter, namespaces, reaping
from libpycontainer import syscalls as sys_
from libpycontainer.errors import ContainerError, InterpreterError, ProtocolError, StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from libpycontainer.cgroups.protocol import Manager
    from libpycontainer.host import Facts
    from libpycontainer.plan import Plan

KILL = 9


class Spawner:
    """A sealed interpreter that waits for one request.

    It boots while the caller still plans. Close it on every path: an unused one sees end-of-file
    and leaves, one that hangs is killed.
    """

    def __init__(self, interpreter_path: str) -> None:
        self.path = interpreter_path
        self.socket, theirs = sys_.socketpair()
        self._errors = sys_.memfd("spawner-stderr")
        with theirs, interpreter.seal(interpreter_path) as executable:
            null = sys_.Fd(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
            with null:
                fds = [null.fileno(), null.fileno(), self._errors.fileno(), theirs.fileno()]
                try:
                    self.pid, self.pidfd = sys_.spawn(
                        interpreter.command(interpreter_path),
                        interpreter.environment(),
                        fds,
                        executable=executable.fileno(),
                        block_signals=True,
                    )
                except OSError as error:
                    self.socket.close()
                    self._errors.close()
                    raise InterpreterError(
                        f"cannot start the interpreter {interpreter_path}: {error.strerror}",
                        path=interpreter_path,
                        errno=error.errno or 0,
                    ) from None

    def request(self, plan: Plan, fds: Mapping[str, sys_.Fd | int]) -> None:
        """Send the plan and its descriptors, which stay the caller's."""
        with sys_.sealed_memfd("plan", plan.serialise()) as memory:
            names = ["plan", *fds]
            numbers = [memory.fileno(), *(_number(fd) for fd in fds.values())]
            head = marshal.dumps(names, 2)
            try:
                for first in range(0, len(numbers), sys_.MAX_PACKET_FDS):
                    chunk = numbers[first : first + sys_.MAX_PACKET_FDS]
                    sys_.send(self.socket.fileno(), head if first == 0 else b"more", chunk)
            except (BrokenPipeError, ConnectionResetError):
                raise ProtocolError(self._died(), op="spawn") from None

    def diagnosis(self) -> str:
        """What the interpreter printed, if it got that far only: a missing library, say."""
        text = os.pread(self._errors.fileno(), 2000, 0).decode("utf-8", "replace").strip()
        return text.splitlines()[-1] if text else ""

    def _died(self) -> str:
        said = self.diagnosis()
        detail = f": {said}" if said else ""
        return f"the interpreter {self.path} died before it took the request{detail}"

    def reap(self) -> None:
        """Wait for the spawner's end, which follows its "started" at once."""
        try:
            reaping.reap(self.pidfd.fileno())
        except OSError:
            # Somebody else's waitpid(-1) took it, and the kernel is too old to tell: it is gone.
            pass

    def close(self) -> None:
        self.socket.close()
        if not self.pidfd.closed:
            try:
                sys_.send_signal(self.pidfd.fileno(), KILL)
            except ProcessLookupError:
                pass
            self.reap()
            self.pidfd.close()
        self._errors.close()


def _number(fd: sys_.Fd | int) -> int:
    return fd if isinstance(fd, int) else fd.fileno()


class Launch:
    """One init on its way: from the request to the end of its conversation.

    ``pid`` and ``pidfd`` are set by :meth:`clone`; the pidfd is this object's until it is taken
    with :meth:`take_pidfd`. :meth:`abort` ends whatever has been started.
    """

    def __init__(
        self, spawner: Spawner, order: tuple[str, ...], log: Callable[[str, str], None]
    ) -> None:
        self.spawner = spawner
        self.talk = conversation.Conversation(
            spawner.socket, order, log=log, diagnosis=spawner.diagnosis
        )
        self.pid = 0
        self.pidfd: sys_.Fd | None = None

    def clone(self, plan: Plan, fds: Mapping[str, sys_.Fd | int]) -> None:
        """Have init cloned. It waits for "continue" before its first step."""
        self.spawner.request(plan, fds)
        fields, received = self.talk.expect("started")
        pid = conversation.number(fields[0]) if len(fields) == 1 else 0
        if len(received) != 1 or pid == 0:
            for fd in received:
                fd.close()
            raise ProtocolError("the spawner's report is malformed", op="spawn")
        self.pid = pid
        self.pidfd = received[0]

    def proceed(self) -> None:
        """Let init take its first step, and see the spawner off."""
        self.talk.proceed()
        self.spawner.reap()

    def take_pidfd(self) -> sys_.Fd:
        assert self.pidfd is not None
        pidfd, self.pidfd = self.pidfd, None
        return pidfd

    def abort(self) -> None:
        if self.pidfd is not None:
            end(self.pidfd)
            self.pidfd.close()


def cgroup_fds(manager: Manager, fds: dict[str, sys_.Fd | int]) -> list[sys_.Fd]:
    """How init gets into its cgroups: cloned into the v2 one, by its own hand into the others.

    Returns the descriptors, also added to ``fds``, which the caller closes.
    """
    made: list[sys_.Fd] = []
    directory = manager.clone_fd()
    if directory is not None:
        fds["cgroup"] = owned = sys_.Fd(directory)
        made.append(owned)
    for index, number in enumerate(manager.join_fds(cloned=directory is not None)):
        fds[f"cgroup:{index}"] = owned = sys_.Fd(number)
        made.append(owned)
    return made


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


def start_waiting_init(directory: int, log: Callable[[str, str], None]) -> None:
    """Tell the init that waits on ``directory``'s start.sock to become its program.

    Raises what init reports (:class:`StepError`, :class:`ExecutableError`,
    :class:`HookError`), :class:`ProtocolError` when it dies on the way.
    """
    socket = connect_start_socket(directory)
    if socket is None:
        raise StepError("the container's init is not waiting to be started", op="start")
    with socket:
        try:
            sys_.send(socket.fileno(), b"start")
        except OSError:
            raise ProtocolError("the container's init died before it was started") from None
        talk = conversation.Conversation(socket, conversation.START, log=log)
        talk.expect("executing")
        talk.expect(conversation.END)


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
