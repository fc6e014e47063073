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

    It boots while the caller still plans. :meth:`close` it on every path, from before
    :meth:`start`: an unused one sees end-of-file and leaves, one that hangs is killed.

    The conversation is not held on the line that it is started with, but on one that it makes
    itself: a copy of *our* other end could live on in a child that some thread of this program
    forks meanwhile, and then nobody's death would be heard.
    """

    def __init__(self, interpreter_path: str) -> None:
        self.path = interpreter_path
        self._child = sys_.Child()
        self._line: sys_.Fd | None = None
        self._errors = sys_.memfd("spawner-stderr")
        self.socket: sys_.Fd | None = None
        """The conversation's line, from :meth:`request` on."""

    def start(self) -> None:
        """Execute the interpreter. Raises :class:`InterpreterError`."""
        self._line, theirs = sys_.socketpair()
        null = sys_.Fd(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
        with theirs, null, interpreter.seal(self.path) as executable:
            fds = [null.fileno(), null.fileno(), self._errors.fileno(), theirs.fileno()]
            try:
                sys_.spawn(
                    interpreter.command(self.path),
                    interpreter.environment(),
                    fds,
                    executable=executable.fileno(),
                    block_signals=True,
                    child=self._child,
                )
            except OSError as error:
                raise InterpreterError(
                    f"cannot start the interpreter {self.path}: {error.strerror}",
                    path=self.path,
                    errno=error.errno or 0,
                ) from None

    def request(self, plan: Plan, fds: Mapping[str, sys_.Fd | int]) -> None:
        """Send the plan and its descriptors, which stay the caller's."""
        self.socket = self._greet()
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

    def _greet(self) -> sys_.Fd:
        """Wait until it has booted, or died; take the line that it made."""
        assert self._line is not None
        ended = reaping.wait_any([self._line.fileno(), self._child.fileno()], None)
        if self._line.fileno() in ended:
            _hello, received = sys_.receive(self._line.fileno())
            if received:
                return received[0]
        raise ProtocolError(self._died(), op="spawn")

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
        if self._child.started:
            try:
                reaping.reap(self._child.fileno())
            except OSError:
                # Somebody's waitpid(-1) took it, and the kernel is too old to tell: it is gone.
                pass

    def close(self) -> None:
        for fd in (self.socket, self._line):
            if fd is not None:
                fd.close()
        if self._child.started:
            try:
                sys_.send_signal(self._child.fileno(), KILL)
            except ProcessLookupError:
                pass
            self.reap()
            self._child.close()
        self._errors.close()


def _number(fd: sys_.Fd | int) -> int:
    return fd if isinstance(fd, int) else fd.fileno()


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
        """Have init cloned. It waits for "continue" before its first step."""
        self.spawner.request(plan, fds)
        assert self.spawner.socket is not None
        self.talk = conversation.Conversation(
            self.spawner.socket, self._order, log=self._log, diagnosis=self.spawner.diagnosis
        )
        fields, received = self.talk.expect("started", self._first)
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


def exec_cgroup_fds(manager: Manager, init: int, fds: dict[str, sys_.Fd | int]) -> list[sys_.Fd]:
    """:func:`cgroup_fds` for one more process, which may not enter a v2 group that was divided.

    A group with controllers enabled below it holds no processes itself (man 7 cgroups, "no
    internal processes"), so the process goes where init went.
    """
    made = cgroup_fds(manager, fds)
    group = manager.paths().get("")
    if group is not None and manager.mode == "v2" and _is_divided(group):
        from libpycontainer.cgroups import hierarchies

        path = hierarchies.unified_path(init)
        if path is not None:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            fds["cgroup"] = owned = sys_.Fd(os.open(path, flags))
            made.append(owned)
    return made


def _is_divided(group: str) -> bool:
    try:
        with open(os.path.join(group, "cgroup.subtree_control"), "rb") as file:
            return bool(file.read().strip())
    except OSError:
        return False


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
