"""The spawner and, in its clone, the container's init.

A fresh interpreter runs :func:`main` with a socket to the caller as its descriptor 3 and all
signals blocked, or :func:`serve_many`, which also has a pidfd of him as its descriptor 4. It
imports what it will ever need and seals itself before it takes a request, so nothing inside a
container can get code into it: there is no import path left to plant a module on, no traceback is
ever printed (CPython would open source files *by path inside the container* for it), and no failure
leaves but as a packet.
"""

from __future__ import annotations

import marshal
import os
import select
import sys

from libpycontainer import kernel
from libpycontainer import syscalls as sys_
from libpycontainer.init import steps
from libpycontainer.init.context import Context, StepFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

SOCKET = 3
PARENT = 4


def main() -> NoReturn:
    """Serve one request and become, in a clone, what it asks for. Never returns."""
    socket = greet(sys_.Fd(SOCKET))
    seal()
    serve(socket)


def serve_many() -> NoReturn:
    """Serve every request in a clone of its own, as long as somebody may ask. Never returns.

    This process itself reads no plan, so nothing that is wrong with one can reach the next.
    """
    line, parent = sys_.Fd(SOCKET), sys_.Fd(PARENT)
    seal()
    while True:
        flags, socket, *cgroup = await_request(line, parent)
        try:
            _pid, pidfd = clone_into(flags or kernel.CLONE_PARENT, cgroup)
        except OSError as error:
            answer(socket, b"error\0%d" % (error.errno or 0))
            continue
        if pidfd is None:
            line.close()
            parent.close()
            with sys_.Fd(os.pidfd_open(os.getpid())) as mine:
                socket = greet(socket, mine.fileno())
            serve(socket, is_init=flags != 0)
        with pidfd:
            answer(socket, b"cloned", pidfd.fileno())


def clone_into(flags: int, cgroup: list[sys_.Fd]) -> tuple[int, sys_.Fd | None]:
    """Clone this process, into the v2 cgroup where there is one, whose descriptor is closed."""
    try:
        return sys_.clone(flags, cgroup[0].fileno() if cgroup else -1)
    finally:
        for fd in cgroup:
            fd.close()


def await_request(line: sys_.Fd, parent: sys_.Fd) -> tuple[Any, ...]:
    """Flags to clone with (0: a courier), the line of the request, and a cgroup if there is one.

    Without anybody who could ask this process ends.

    A child that the caller forked may keep the other end open long after him.
    """
    poll = select.poll()
    poll.register(line.fileno(), select.POLLIN)
    poll.register(parent.fileno(), select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if line.fileno() not in ready or parent.fileno() in ready:
            os._exit(0)
        data, received = sys_.receive(line.fileno())
        if not data:
            os._exit(0)
        if received:
            return int(data.partition(b"\0")[2]), *received


def answer(socket: sys_.Fd, word: bytes, *fds: int) -> None:
    """Tell whoever made the request, who may be gone by now."""
    with socket:
        try:
            sys_.send(socket.fileno(), word, fds)
        except OSError:
            pass


def serve(socket: sys_.Fd, *, is_init: bool = False) -> NoReturn:
    """Serve the request that comes on ``socket``, as a courier or as init. Never returns."""
    context = Context(socket)
    try:
        clone_flags, enter, plan = receive_request(context)
        os.chdir("/")
        os.umask(0)
        context.total = len(enter) + len(plan)
        run(context, enter)
        if is_init or clone(context, clone_flags):
            run(context, plan, first=len(enter) + 1)
    except StepFailure as failure:
        context.report(failure)
    except BaseException as error:
        # Whatever it is, it must not reach the interpreter, which would print a traceback.
        context.report(StepFailure.wrap(error))
    os._exit(1)


def greet(first: sys_.Fd, *more: int) -> sys_.Fd:
    """Give the caller a line whose other end is nobody's but ours, in place of his own."""
    ours, theirs = sys_.socketpair()
    with theirs, first:
        try:
            sys_.send(first.fileno(), b"hello", [theirs.fileno(), *more])
        except OSError:
            # The caller needs no spawner any more.
            os._exit(0)
    return ours


def seal() -> None:
    """From here on no module can be found any more, by anybody."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    sys.excepthook = lambda *_: None
    sys.unraisablehook = lambda _: None


def receive_request(context: Context) -> tuple[int, list[Any], list[Any]]:
    """The plan, and the descriptors it names. They come in packets of at most 253."""
    names: list[str] = []
    fds: list[sys_.Fd] = []
    while not names or len(fds) < len(names):
        data, received = sys_.receive(context.socket.fileno())
        if not data:
            # The caller is gone, or changed its mind; nobody is there to be told.
            os._exit(0)
        if not names:
            names = marshal.loads(data)
        fds += received
    context.fds = dict(zip(names, fds, strict=True))
    with context.fds.pop("plan") as memory:
        size = os.fstat(memory.fileno()).st_size
        data = os.pread(memory.fileno(), size, 0)
    clone_flags, enter, plan = marshal.loads(data)
    return clone_flags, enter, plan


def run(context: Context, rows: list[tuple[str, str, dict[str, Any]]], first: int = 1) -> None:
    """Execute steps in order; a failing one raises :class:`StepFailure` that names it."""
    for context.step, (op, title, arguments) in enumerate(rows, first):
        context.title = title
        context.announce()
        try:
            steps.TABLE[op](context, **arguments)
        except StepFailure:
            raise
        except OSError as error:
            raise StepFailure.from_os_error(context, op, error) from None


def clone(context: Context, flags: int) -> bool:
    """Make init. True in init; the spawner reports it to the caller and is done."""
    context.step = 0
    context.title = "clone the container's init"
    introduction, done = (sys_.Fd(fd) for fd in os.pipe2(os.O_CLOEXEC))
    cgroup = [context.take("cgroup")] if "cgroup" in context.fds else []
    try:
        pid, pidfd = clone_into(flags, cgroup)
    except OSError as error:
        raise StepFailure.from_os_error(context, "clone3", error) from None
    if pidfd is None:
        done.close()
        context.introduction = introduction
        return True
    sys_.send(context.socket.fileno(), b"started\0%d" % pid, [pidfd.fileno()])
    # Its end closes the pipe.
    os._exit(0)
