"""lc.call: one function of the caller's, one throw-away container."""

from __future__ import annotations

import os

from libpycontainer import sandbox
from libpycontainer.calling import packing
from libpycontainer.calling.interpreters import CallProcess
from libpycontainer.calling.session import Session, Terms, conclude, refuse_while_loading
from libpycontainer.container import Container
from libpycontainer.creation import Creation
from libpycontainer.factory import Factory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, TypeVar

    from libpycontainer.quantities import Duration, Size
    from libpycontainer.streams import Stream

    Value = TypeVar("Value")

_OF_PROGRAMS = frozenset(
    ["input", "stdin", "stdout", "stderr", "capture_output", "text", "encoding", "check", "timeout"]
)


def call(
    function: Callable[..., Value],
    /,
    *args: Any,
    kwargs: Mapping[str, Any] | None = None,
    timeout: Duration | None = None,
    imports: Sequence[str] = (),
    trust: bool = False,
    max_result: Size = "64M",
    max_output: Size = "64M",
    stdin: Stream = None,
    stdout: Any = None,
    stderr: Any = None,
    capture_output: bool = False,
    factory: Factory | None = None,
    **options: Any,
) -> Value:
    """Call a function in a container of its own; returns its value, or raises what it raised.

    The container is :func:`run`'s, and so are ``options``: ``rootfs``, ``memory``, ``cpus``,
    ``pids``, ``env``, ``cwd``, ``user``, ``network``, ``binds``, ``hostname``, ``capabilities``,
    ``seccomp``.
    No Python is needed in it: an interpreter on the host imports the function and what its module
    imports, and the modules that ``imports`` names; then it enters the container. Inside, more
    can be imported only where the root is the host's own.

    ``timeout`` is the function's time: then it is killed and :class:`TimeoutExpired` raised.
    ``stdin`` is empty unless given; ``stdout`` and ``stderr`` are the caller's, or as for
    :func:`run`, or an object such as ``io.BytesIO()``, which gets what was written when the
    function has ended. What is captured is at most ``max_output``.

    Nothing that comes back is trusted. The value must be plain data (None, bool, int, float,
    complex, str, bytes, bytearray, tuple, list, dict, set, frozenset), at most ``max_result`` of
    it in memory; with ``trust`` it may be whatever pickle can carry, at the risk that whatever runs
    inside then runs code here. Builtin exceptions are raised as themselves, others as
    :class:`CallError`; the cause is the traceback inside. Raises :class:`CallDiedError` where there
    was no answer (a signal, an exit, too little memory), :class:`ResultError` for one that is none,
    :class:`ArgumentError` for a function that cannot be sent, and whatever :func:`run` raises.
    Nothing is left behind in any case.
    """
    refuse_while_loading()
    terms = Terms(
        timeout=timeout,
        imports=imports,
        trust=trust,
        max_result=max_result,
        max_output=max_output,
        capture_output=capture_output,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
    )
    packed = packing.pack(function, args, kwargs or {})
    factory = factory or Factory()
    order = arranged(packed.name, options)
    modules = sorted(packed.modules)
    request = terms.request([packed.data], modules=modules, **environment(order))
    process = CallProcess(packed.name, request, **terms.streams)
    with Room(factory, order, process, terms) as room:
        return conclude(room.session)  # type: ignore[no-any-return]


def arranged(name: str, options: Mapping[str, Any]) -> sandbox.Order:
    """The container of a call. Raises ``TypeError`` for options that only a program has."""
    known = set(sandbox.arrange.__kwdefaults__ or ()) - _OF_PROGRAMS
    for option in options:
        if option not in known:
            raise TypeError(f"unexpected keyword argument {option!r}: expected {_listed(known)}")
    return sandbox.arrange([name], **options)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def environment(order: sandbox.Order) -> dict[str, Any]:
    """What a container's configuration means for the interpreter that comes to be in it."""
    return {
        "env": order.config["process"]["env"],
        # The host's own files, which nobody inside can write to.
        "imports_inside": bool(order.options["read_only_tree"]),
    }


class Room:
    """A container whose init is ``process``, which calls functions.

    Leaving its ``with`` block deletes it.
    """

    def __init__(
        self, factory: Factory, order: sandbox.Order, process: CallProcess, terms: Terms
    ) -> None:
        self.process = process
        rest = {key: value for key, value in order.options.items() if key not in terms.streams}
        try:
            creation = Creation(
                factory,
                f"call-{os.urandom(8).hex()}",
                order.config,
                no_pivot=False,
                new_keyring=True,
                streams={},
                process=self.process,
                start=True,
                **rest,
            )
            entry, record = creation.run()
            self.container = Container(factory, entry, record, self.process)
        except BaseException:
            self.process.close()
            raise
        try:
            self.session = Session(self.container, self.process, terms)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *exc: Any) -> None:
        try:
            self.container.__exit__(*exc)
        finally:
            self.process.close()
