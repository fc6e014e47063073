"""The keywords of ``Spec.evolve`` that are about the process: each a function of its own.

It takes the configuration as it is and the value, and gives back another configuration.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from libpycontainer import kernel
from libpycontainer.errors import ArgumentError
from libpycontainer.spec import mounting
from libpycontainer.spec.base import changed
from libpycontainer.spec.building.sections import similar
from libpycontainer.spec.config import LinuxCapabilities, POSIXRlimit, Process, Spec, User

Change = Callable[[Spec, Any], Spec]
RLIM_INFINITY = 2**64 - 1


def changed_process(spec: Spec, **changes: Any) -> Spec:
    present = spec.process or Process(cwd="/")
    return changed(spec, process=changed(present, **changes))


def _args(spec: Spec, value: Any) -> Spec:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        example = '["sh", "-c", "echo hi"]'
        raise ArgumentError(
            f"args: expected a list of words such as {example}, not {value!r}",
            parameter="args",
            value=value,
        )
    if not value:
        raise ArgumentError("args: there is nothing to run", parameter="args", value=value)
    return changed_process(spec, args=[_word(each, "args") for each in value])


def _word(value: Any, name: str) -> str:
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or "\0" in text:
        raise ArgumentError(f"{name}: {value!r} is not a word", parameter=name, value=value)
    return text


def _env(spec: Spec, value: Any) -> Spec:
    return changed_process(spec, env=None if value is None else _variables(value, "env"))


def _add_env(spec: Spec, value: Any) -> Spec:
    present = (spec.process.env if spec.process else None) or ()
    merged = dict(each.partition("=")[::2] for each in present)
    merged.update(each.partition("=")[::2] for each in _variables(value, "add_env"))
    return changed_process(spec, env=[f"{name}={text}" for name, text in merged.items()])


def _variables(value: Any, name: str) -> list[str]:
    if isinstance(value, Mapping):
        for variable, text in value.items():
            if not isinstance(text, str):
                what = f"the value of {variable!r} is not text: {text!r}"
                raise ArgumentError(f"{name}: {what}", parameter=name, value=value)
        value = [f"{variable}={text}" for variable, text in value.items()]
    for each in mounting.words(value, name):
        if not each.partition("=")[0] or "=" not in each or "\0" in each:
            raise ArgumentError(f"{name}: {each!r} is not NAME=value", parameter=name, value=each)
    return list(value)


def _cwd(spec: Spec, value: Any) -> Spec:
    return changed_process(spec, cwd=mounting.absolute(value, "cwd"))


def _user(spec: Spec, value: Any) -> Spec:
    """Another user has groups of his own; the umask is the program's."""
    present = (spec.process.user if spec.process else None) or User()
    if value is None:
        return changed_process(spec, user=None)
    uid, gid = _ids(value)
    return changed_process(spec, user=User(uid=uid, gid=gid, umask=present.umask))


def _ids(value: Any) -> tuple[int, int]:
    if isinstance(value, str):
        uid, _, gid = value.partition(":")
        parts: Any = [
            int(each) if each.isascii() and each.isdigit() else None for each in (uid, gid or "0")
        ]
    else:
        parts = value if isinstance(value, tuple) else (value, 0)
    if len(parts) != 2 or not all(type(each) is int and 0 <= each < 2**32 - 1 for each in parts):
        raise ArgumentError(
            f"user: expected a uid, 'uid:gid' or (uid, gid) in numbers, not {value!r}",
            parameter="user",
            value=value,
            hint="Names belong to the container's /etc/passwd, which is not asked.",
        )
    return parts[0], parts[1]


def _of_user(name: str) -> Change:
    def change(spec: Spec, value: Any) -> Spec:
        present = (spec.process.user if spec.process else None) or User(uid=0, gid=0)
        return changed_process(spec, user=changed(present, **{name: value}))

    return change


def _of_process(name: str, *, flag: bool = False) -> Change:
    def change(spec: Spec, value: Any) -> Spec:
        return changed_process(spec, **{name: mounting.flag(value, name) if flag else value})

    return change


def held(spec: Spec) -> tuple[str, ...]:
    """The capabilities that the program can ever have."""
    sets = spec.process.capabilities if spec.process else None
    return tuple((sets.bounding if sets else None) or ())


def capabilities(spec: Spec, value: Any) -> Spec:
    names = [
        _named(each, "CAP_", kernel.CAPABILITIES, "capabilities")
        for each in mounting.words(() if value is None else value, "capabilities")
    ]
    user = spec.process.user if spec.process else None
    return changed_process(spec, capabilities=capability_sets(names, root=not (user and user.uid)))


def capability_sets(names: Iterable[str], *, root: bool) -> LinuxCapabilities:
    """Root has them without more; anybody else loses at execve what is not ambient.

    Inheritable ones that are not needed would come back with every program that has them in its
    file (CVE-2022-24769).
    """
    held = tuple(dict.fromkeys(names))
    sets = LinuxCapabilities(bounding=held, effective=held, permitted=held)
    return sets if root or not held else changed(sets, inheritable=held, ambient=held)


def _named(text: str, prefix: str, known: Sequence[str], where: str) -> str:
    name = text.upper()
    name = name if name.startswith(prefix) else prefix + name
    if name not in known:
        raise ArgumentError(
            f"{where}: there is no {text!r}{similar(name, known)}", parameter=where, value=text
        )
    return name


def _rlimits(spec: Spec, value: Any) -> Spec:
    if value is not None and not isinstance(value, Mapping):
        raise ArgumentError(
            f"rlimits: expected a mapping such as {{'NOFILE': 1024}}, not {value!r}",
            parameter="rlimits",
            value=value,
        )
    return changed_process(spec, rlimits=value and [_rlimit(*each) for each in value.items()])


def _rlimit(name: str, value: Any) -> POSIXRlimit:
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2 or not all(type(each) is int and -1 <= each < 2**64 for each in pair):
        raise ArgumentError(
            f"rlimits: {name}: expected a number (-1 for none) or (soft, hard), not {value!r}",
            parameter="rlimits",
            value=value,
        )
    soft, hard = (RLIM_INFINITY if each == -1 else each for each in pair)
    if soft > hard:
        raise ArgumentError(
            f"rlimits: {name}: {soft} is more than the hard limit {hard}",
            parameter="rlimits",
            value=value,
        )
    return POSIXRlimit(
        type=_named(name, "RLIMIT_", kernel.RLIMITS, "rlimits"), soft=soft, hard=hard
    )


CHANGES: dict[str, Change] = {
    "args": _args,
    "env": _env,
    "add_env": _add_env,
    "cwd": _cwd,
    "user": _user,
    "additional_gids": _of_user("additional_gids"),
    "umask": _of_user("umask"),
    "terminal": _of_process("terminal", flag=True),
    "no_new_privileges": _of_process("no_new_privileges", flag=True),
    "oom_score_adj": _of_process("oom_score_adj"),
    "capabilities": capabilities,
    "rlimits": _rlimits,
}
"""In the order in which they are made: capabilities depend on the user."""
