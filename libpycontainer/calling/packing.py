"""The caller's function as bytes, for an interpreter that the caller starts and trusts.

Functions and classes go by reference, as pickle has it: the other interpreter imports their
modules. The program's own module is run there under the name ``__mp_main__``, as multiprocessing
does it. What has no name to be found by (a lambda, a function in a function, one typed into a
prompt) goes by value where cloudpickle is installed.
"""

from __future__ import annotations

import _pickle
import io
import os
import sys

from libpycontainer.errors import ArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

PROTOCOL = 5
_MAIN = (b"__main__", b"__mp_main__")


def label(function: object) -> str:
    """A function's name for people: ``package.module.name``."""
    while hasattr(function, "func"):
        function = function.func  # a partial
    name = getattr(function, "__qualname__", None) or repr(function)
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}.{name}"


class Packed:
    """A call on its way: its ``name`` for people, the pickle, the modules that this refers to."""

    __slots__ = ("data", "modules", "name")

    def __init__(self, name: str, data: bytes, modules: Iterable[str]) -> None:
        self.name = name
        self.data = data
        self.modules = frozenset(modules) - {"builtins"}


class _Pickler(_pickle.Pickler):
    """Notes the modules of the functions and classes that it comes by."""

    modules: set[str]

    def reducer_override(self, value: Any) -> Any:
        if hasattr(value, "__qualname__"):
            module = getattr(value, "__module__", None)
            if isinstance(module, str):
                self.modules.add(module)
        return NotImplemented


def pack(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Packed:
    """The call as a pickle. Raises :class:`ArgumentError` for what cannot be sent."""
    if not callable(function):
        raise ArgumentError(f"{function!r} cannot be called", parameter="function", value=function)
    name, call = label(function), (function, tuple(args), dict(kwargs))
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, PROTOCOL)
    pickler.modules = set()
    try:
        pickler.dump(call)
    except Exception as error:
        return _by_value(name, call, f"{name} cannot be sent into a container: {error}", error)
    packed = Packed(name, buffer.getvalue(), pickler.modules)
    if refers_to_main(packed.data) and main_module() is None:
        reason = (
            f"{name} belongs to a program that is not a file (the prompt, python -c), so no other "
            "interpreter can import it"
        )
        return _by_value(name, call, reason, None)
    return packed


def _by_value(name: str, call: tuple[Any, ...], reason: str, cause: Exception | None) -> Packed:
    try:
        import cloudpickle  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise ArgumentError(
            reason,
            parameter="function",
            value=call[0],
            hint="Put it into a module; or install libpycontainer[call], which sends it by value.",
        ) from cause
    try:
        # Which it needs to be made of again.
        return Packed(name, cloudpickle.dumps(call, PROTOCOL), ["cloudpickle"])
    except Exception as error:
        text = f"{name} cannot be sent into a container: {error}"
        raise ArgumentError(text, parameter="function", value=call[0]) from error


def refers_to_main(data: bytes) -> bool:
    """Does a pickle name the program's own module? Where only a text says so, it does no harm."""
    return any(name in data for name in _MAIN)


def main_module() -> tuple[str, str] | None:
    """How another interpreter comes to the program's own module: by ``name`` or by ``path``."""
    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        # A package that is run as a program: its __main__ would do what it is for.
        return None if name.rpartition(".")[2] == "__main__" else ("name", name)
    path = getattr(main, "__file__", None)
    if path is None or not os.path.isfile(path):
        return None
    return "path", os.path.abspath(path)


def request(
    calls: Sequence[bytes],
    *,
    modules: Sequence[str] = (),
    imports: Sequence[str] = (),
    env: Sequence[str] = (),
    serves: bool = False,
    trust: bool = False,
    imports_inside: bool = False,
    max_result: int,
) -> dict[str, Any]:
    """All that the other interpreter must know, as marshal takes it.

    ``imports`` it must have; of ``modules`` it has what it can.
    """
    of_main = "__main__" in modules or any(map(refers_to_main, calls))
    return {
        "sys.path": [_absolute(entry) for entry in sys.path if isinstance(entry, str)],
        "main": main_module() if of_main else None,
        "imports": list(imports),
        "modules": [name for name in modules if name not in ("__main__", "__mp_main__")],
        "calls": list(calls),
        "env": list(env),
        "serves": serves,
        "trust": trust,
        "imports_inside": imports_inside,
        "max_result": max_result,
    }


def _absolute(entry: str) -> str:
    try:
        return os.path.abspath(entry)
    except FileNotFoundError:
        # The current directory is gone: nothing can be found there.
        return entry


def flags() -> list[str]:
    """The options of the running interpreter that decide what code means, and finds."""
    found = ["-P", "-X", f"utf8={int(sys.flags.utf8_mode)}"]
    for letter, given in (
        ("O", sys.flags.optimize),
        ("B", sys.flags.dont_write_bytecode),
        ("S", sys.flags.no_site),
        ("s", sys.flags.no_user_site),
        ("I", sys.flags.isolated),
    ):
        found += [f"-{letter}"] * int(given)
    if sys.flags.dev_mode:
        found += ["-X", "dev"]
    return found + [f"-W{option}" for option in sys.warnoptions]
