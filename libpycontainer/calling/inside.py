"""The interpreter that runs a caller's function in a container.

It is booted on the host, by the caller and as trusted as he is, with his import path and a
scrubbed environment. There it loads the function and what that needs. Then it is sealed and goes
the way of every init: cloned, confined, stripped of what is the host's. Only its last step differs,
:meth:`Job.call`: there is no execve, so what execve would do away with is done away with here.
"""

from __future__ import annotations

import _pickle
import gc
import linecache
import marshal
import os
import signal
import sys
import traceback

from libpycontainer import syscalls as sys_
from libpycontainer.calling import codec, frames
from libpycontainer.calling.frames import EXCEPTION, MAX_EXCEPTION, PICKLE, VALUE
from libpycontainer.init import main as init
from libpycontainer.init import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from libpycontainer.init.context import Context

LINE = 3
LONGEST_TEXT = 64 * 1024
LONGEST_ARGS = 256 * 1024
_NEVER_MORE_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

loading = False
"""Is the caller's program being imported? A call that it makes then would never come to an end."""


def main() -> NoReturn:
    """Load what is asked for, then serve the request for one process. Never returns."""
    line = sys_.Fd(init.SOCKET)
    job = _load(line, request=init.SOCKET + 1)
    socket = init.greet(line)
    job.seal()
    init.serve(socket)


def serve_many() -> NoReturn:
    """Load what is asked for, then serve every request in a clone. Never returns."""
    line = sys_.Fd(init.SOCKET)
    job = _load(line, request=init.PARENT + 1)
    job.is_one_of_many = True
    job.seal()
    # What is there already stays shared with the clones, as nothing of it is ever collected.
    gc.freeze()
    try:
        sys_.send(line.detach(), b"ready")
    except OSError:
        os._exit(0)
    init.serve_many()


def _load(line: sys_.Fd, request: int) -> Job:
    try:
        job = Job(_read_request(request), first_descriptor=request)
    except BaseException as error:
        _tell_failure(line, error)
    steps.TABLE["call"] = job.call
    steps.TABLE["prepare_environment"] = steps.prepare_environment
    return job


def _read_request(number: int) -> dict[str, Any]:
    with sys_.Fd(number) as memory:
        data = os.pread(memory.fileno(), os.fstat(memory.fileno()).st_size, 0)
    request: dict[str, Any] = marshal.loads(data)
    return request


def _tell_failure(line: sys_.Fd, error: BaseException) -> NoReturn:
    text = "".join(traceback.format_exception(error))[-LONGEST_TEXT // 2 :]
    fields = ("failed", type(error).__name__, str(error)[:4000], text)
    packet = "\0".join(field.replace("\0", "?") for field in fields)
    try:
        sys_.send(line.fileno(), packet.encode("utf-8", "backslashreplace")[:60000])
    except OSError:
        # Nobody is there to be told.
        pass
    os._exit(1)


# ---- on the host -----------------------------------------------------------------------------


class Job:
    """What this interpreter is for: calls, how their answers leave, and what imports may find."""

    def __init__(self, request: dict[str, Any], first_descriptor: int) -> None:
        self.serves: bool = request["serves"]
        self.trust: bool = request["trust"]
        self.imports_inside: bool = request["imports_inside"]
        self.max_result: int = request["max_result"]
        self.found_by: tuple[list[Any], ...] = ()
        self.is_one_of_many = False
        sys.path[:] = request["sys.path"]
        sys.argv[:] = [""]
        set_environment([*request["env"], *map("=".join, _NEVER_MORE_THREADS.items())])
        self.calls = self._load(request)
        self._check_threads()
        self.stopgaps = _descriptors(first_descriptor)

    def _load(self, request: dict[str, Any]) -> list[Any]:
        global loading
        loading = True
        # Looked up by name inside, and found nowhere there.
        import encodings.ascii
        import encodings.latin_1  # noqa: F401

        if request["main"] is not None:
            _run_main(*request["main"])
        for name in request["imports"]:
            __import__(name)
        for name in request["modules"]:
            try:
                __import__(name)
            except Exception:
                # Whoever calls a function of it will be told.
                continue
        calls = [_pickle.loads(pickled) for pickled in request["calls"]]
        for name in (*request["modules"], "__mp_main__"):
            remember_source(name)
        loading = False
        return calls

    def _check_threads(self) -> None:
        if len(os.listdir("/proc/self/task")) > 1:
            import threading

            names = ", ".join(each.name for each in threading.enumerate()[1:])
            raise RuntimeError(
                f"importing has started threads ({names or 'of a C library'}), and no container "
                "can be entered with more than one: start them in the function"
            )

    def seal(self) -> None:
        """Nothing can be imported any more, nor collected, until the container is entered."""
        self.found_by = tuple(list(each) for each in (sys.path, sys.meta_path, sys.path_hooks))
        _flush()
        init.seal()
        gc.disable()
        linecache.checkcache = lambda filename=None: None
        linecache.updatecache = lambda filename, module_globals=None: []

    # ---- in the container ------------------------------------------------------------------

    def call(self, context: Context, **arguments: Any) -> NoReturn:
        """The last step: be all that a program would be, but go on, and call. Never returns."""
        steps.execute(context, **arguments)
        assert arguments["nfds"] == LINE + 1
        env = context.env
        let_go(context, self.stopgaps)
        try:
            set_environment(env)
            self.unseal()
            self.answer_calls()
        except BaseException:
            # The line is broken or closed: nobody is there to be told.
            os._exit(1)
        os._exit(0)

    def unseal(self) -> None:
        """An ordinary Python again, whose imports find what they may."""
        # The last act has given every signal its default; Python still takes for ignored what the
        # caller ignores.
        for each in signal.valid_signals():
            if signal.getsignal(each) is signal.SIG_IGN:
                signal.signal(each, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.excepthook, sys.unraisablehook = sys.__excepthook__, sys.__unraisablehook__
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            setattr(sys, name, _open_stream(number, getattr(sys, f"__{name}__")))
        if self.is_one_of_many:
            _draw_new_numbers()
        paths, finders, hooks = self.found_by
        if self.imports_inside:
            sys.path[:], sys.meta_path[:], sys.path_hooks[:] = paths, finders, hooks
        else:
            sys.meta_path[:] = [*filter(_needs_no_file, finders), NothingToImport]
        gc.enable()

    def answer_calls(self) -> None:
        while self.calls:
            write_frame(*self.result_of(self.calls.pop(0)))
        while self.serves:
            pickled = read_call()
            if pickled is None:
                return
            write_frame(*self.result_of(pickled))

    def result_of(self, call: Any) -> tuple[bytes, bytes]:
        """What to answer to a call, or to the pickle of one."""
        try:
            function, args, kwargs = _pickle.loads(call) if isinstance(call, bytes) else call
            value = function(*args, **kwargs)
            _flush()
            if self.trust:
                return PICKLE, self.pickled(value)
            return VALUE, codec.dumps(value, limit=self.max_result)
        except BaseException as error:
            return EXCEPTION, self.described(error)

    def pickled(self, value: object) -> bytes:
        data = _pickle.dumps(value, 5)
        if len(data) > self.max_result:
            raise ValueError(f"the result takes more than {self.max_result} bytes (see max_result)")
        return data

    def described(self, error: BaseException) -> bytes:
        """An exception as plain data: its name, words, arguments and traceback."""
        kind = type(error)
        home = kind.__module__.replace("__mp_main__", "__main__")
        outer = "" if home == "builtins" else f"{home}."
        name = f"{outer}{kind.__qualname__}"[:1000]
        # The first frame is ours.
        own = error.__traceback__
        error.__traceback__ = own.tb_next if own is not None else None
        try:
            _flush()
            text = shortened("".join(traceback.format_exception(error)))
            words = shortened(str(error))
        except BaseException:
            text = words = "(it cannot be told: str() of the exception has failed)"
        return codec.dumps((name, words, text, _plain_args(error), self._pickled_error(error)))

    def _pickled_error(self, error: BaseException) -> bytes | None:
        if not self.trust:
            return None
        try:
            data = _pickle.dumps(error, 5)
            _pickle.loads(data)
        except Exception:
            return None
        return data if len(data) <= MAX_EXCEPTION // 2 else None


def _draw_new_numbers() -> None:
    """Clones must not all draw the same ones."""
    for name in ("random", "numpy.random"):
        module = sys.modules.get(name)
        if module is not None:
            module.seed()


class NothingToImport:
    """The last finder of a sealed interpreter: says what can be done about it."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ModuleNotFoundError(
            f"there is no {name!r} in a call: import it in the module of the function, before, or "
            "name it in imports=[...]",
            name=name,
        )


def _needs_no_file(finder: object) -> bool:
    return getattr(finder, "__name__", "") in ("BuiltinImporter", "FrozenImporter")


def _run_main(kind: str, value: str) -> None:
    """Run the caller's program under another name than ``__main__``, for what it defines."""
    if kind == "name":
        import runpy

        names = runpy.run_module(value, run_name="__mp_main__", alter_sys=True)
        module = type(sys)("__mp_main__")
        module.__dict__.update(names)
        sys.modules["__main__"] = sys.modules["__mp_main__"] = module
        return
    with open(value, "rb") as file:
        code = compile(file.read(), value, "exec")
    module = type(sys)("__mp_main__")
    module.__file__ = value
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    exec(code, module.__dict__)


def remember_source(module: str) -> None:
    """Have the lines of a module at hand: inside, its file's path means another one, or none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if isinstance(file, str) and file.endswith(".py"):
        linecache.getlines(file)


def set_environment(env: list[str]) -> None:
    os.environ.clear()
    for entry in env:
        name, _, value = entry.partition("=")
        if name:
            os.environ[name] = value


def _descriptors(first: int) -> list[int]:
    """What importing has left open: files and sockets of the host."""
    found = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    # The last of them listed the directory.
    return [fd for fd in found[:-1] if fd >= first]


def let_go(context: Context, stopgaps: list[int]) -> None:
    """Close every descriptor but the program's. From here on the caller hears the line only.

    Where a module has opened one while it was imported, an empty file takes its place: its number
    must not come to mean one that the function opens.
    """
    for fd in (
        *context.fds.values(),
        *context.kernel_trees.values(),
        context.root,
        context.null,
        context.socket,
        context.channel,
    ):
        if fd is not None and not fd.closed:
            fd.detach()
    context.fds.clear()
    sys_.close_from(LINE + 1)
    if stopgaps:
        with sys_.sealed_memfd("closed", b"") as nothing:
            for number in stopgaps:
                if number != nothing.fileno():
                    os.dup2(nothing.fileno(), number, False)
            if nothing.fileno() in stopgaps:
                nothing.detach()


def _open_stream(number: int, old: Any) -> Any:
    errors = "backslashreplace" if number == 2 else old.errors
    return open(
        number,
        "w" if number else "r",
        1 if number == 2 or (number and os.isatty(number)) else -1,
        encoding=old.encoding,
        errors=errors,
        closefd=False,
    )


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            # The function has closed or replaced it.
            continue


def _plain_args(error: BaseException) -> tuple[Any, ...] | None:
    """What to make an equal one of, where that can cross."""
    try:
        args = error.__reduce__()[1] if isinstance(error, OSError) else error.args
        codec.dumps(args, limit=LONGEST_ARGS)
    except Exception:
        return None
    return args  # type: ignore[return-value]


def shortened(text: str) -> str:
    half = LONGEST_TEXT // 2
    return text if len(text) <= LONGEST_TEXT else f"{text[:half]}\n[...]\n{text[-half:]}"


# ---- the line --------------------------------------------------------------------------------


def write_frame(kind: bytes, payload: bytes) -> None:
    for piece in (frames.head(kind, payload), payload):
        view = memoryview(piece)
        while view:
            view = view[os.write(LINE, view) :]


def read_call() -> bytes | None:
    """The next call, ``None`` when the caller has closed the line."""
    header = _read_exactly(frames.HEADER)
    return None if header is None else _read_exactly(frames.parse(header)[1])


def _read_exactly(size: int) -> bytes | None:
    found = bytearray()
    while len(found) < size:
        piece = os.read(LINE, min(size - len(found), 1 << 20))
        if not piece:
            return None
        found += piece
    return bytes(found)
