"""Writes docs/errors.md from the classes of libpycontainer.errors and who says to raise them.

    python -m scripts.errors

The examples below are what the errors really say: tests/privileged/test_error_page.py provokes each
of them and compares, and tests/pure/test_documentation.py holds the page to this.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import libpycontainer as lc
from libpycontainer import errors

PAGE = Path(__file__).resolve().parents[1] / "docs" / "errors.md"

EXAMPLES = {
    "SpecError": "$.process.cwd: required field missing; "
    "$.hostname: invalid value, expected string",
    "ArgumentError": "capabilities: there is no 'NET_ADMN'; did you mean 'CAP_NET_ADMIN'?",
    "InvalidIDError": "invalid container id 'web 1': only letters, digits and the characters _+-. "
    "may be used, and / between the names of a path",
    "NotFoundError": "container does not exist: web-1",
    "AlreadyExistsError": "container with given ID already exists: web-1",
    "BusyError": "container web-1 is busy: another call has held it for 10 s",
    "StatusError": "cannot start container web-1: it is running already",
    "StepError": "step 20/50: mounts[8]: mount tmpfs on /tmp (nosuid,nodev,mode=1777,bogus=1): "
    "Invalid argument: tmpfs: Unknown parameter 'bogus'",
    "ExecutableError": 'exec: "serve": executable file not found in $PATH',
    "HookError": "hook createRuntime[0] /usr/bin/false: exit status 1",
    "CgroupError": "$.linux.resources.cpu.cpus: cannot set cpu cpus 1023 in "
    "/sys/fs/cgroup/cpuset/web-1/cpuset.cpus: ERANGE",
    "UnsupportedError": "$.linux.resources.memory.limit: cannot set memory limit "
    "67108864: no cgroup was delegated to this user",
    "InterpreterError": "the interpreter /no/python is not an executable file",
    "ProtocolError": "the container's init died before it was ready",
    "TimeoutExpired": "['sleep', '60'] timed out after 0.1 s",
    "CallError": "example.Broken: the disk is on fire",
    "CallDiedError": "the process that was to call example.die ended without an answer: it exited "
    "with code 3",
    "ResultError": "builtins.print has written more than is kept (see max_output)",
    "CalledProcessError": "command ['false'] returned non-zero exit status 1",
}
"""What each class says; init's step numbers and the like differ from host to host."""

OWNERS = ("Factory", "Container", "Process", "Spec", "Mount", "LinuxSeccomp", "Pool")
FUNCTIONS = ("run", "call", "features")

HEAD = """\
# Errors

<!-- Written by "python -m scripts.errors" from libpycontainer/errors.py: change that instead. -->

Whatever the library raises on purpose is a `ContainerError`. Decide on the class and the fields;
the sentence is for people and says what was to be done, with what, and why that could not be. What
can be done about it is in `hint`; where it is special to the case, a traceback shows it as well.

```python
import libpycontainer as lc

try:
    lc.run(["serve"], memory="64M", timeout="10s", check=True)
except lc.ExecutableError as error:
    print("no such program:", error, "-", error.hint)
except lc.TimeoutExpired as error:
    print("too slow; so far it had said", error.stdout)
except lc.ContainerError as error:
    print(type(error).__name__, error.op, error.path, error.errno)
```

Mistakes that any Python function would answer with a `TypeError` (a keyword that there is none) are
`TypeError` here too. `OSError` comes from files that are the caller's own, such as those given to
`Spec.load`.

Warnings, which are no errors, go to `logging.getLogger("libpycontainer")`: see
[](building.md#logging-and-progress).
"""


def classes() -> list[type[errors.ContainerError]]:
    """The exceptions in the order in which they are written, without the base."""
    found = [
        value
        for value in vars(errors).values()
        if isinstance(value, type)
        and issubclass(value, errors.ContainerError)
        and value is not errors.ContainerError
    ]
    return found


def fields(cls: type[errors.ContainerError]) -> list[str]:
    """The attributes that the class itself sets on every instance."""
    if "__init__" not in vars(cls):
        return []
    source = inspect.cleandoc("\n" + inspect.getsource(vars(cls)["__init__"]))
    found = [
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    ]
    return list(dict.fromkeys(found))


def raisers() -> dict[str, list[str]]:
    """Who says in its documentation to raise what, by the name of the class."""
    found: dict[str, list[str]] = {}
    for name, target in _documented():
        text = inspect.getdoc(target) or ""
        for error in dict.fromkeys(re.findall(r":class:`~?([\w.]+)`", text)):
            found.setdefault(error.rpartition(".")[2], []).append(name)
    return found


def _documented() -> list[tuple[str, Any]]:
    names: list[tuple[str, Any]] = [
        (f"lc.{name}", getattr(lc, name)) for name in FUNCTIONS if name in lc.__all__
    ]
    for owner in OWNERS:
        if owner not in lc.__all__:
            continue
        cls = getattr(lc, owner)
        names += [
            (f"{owner}.{name}", inspect.unwrap(getattr(cls, name)))
            for name, value in vars(cls).items()
            if not name.startswith("_") and (callable(value) or isinstance(value, classmethod))
        ]
    return names


def markdown(text: str) -> str:
    """A docstring's reStructuredText as Markdown: references and literals are all code."""
    text = re.sub(r":\w+:`~?([\w.]+)`", lambda found: f"`{found[1].rpartition('.')[2]}`", text)
    return text.replace("``", "`")


def section(cls: type[errors.ContainerError], who: list[str]) -> str:
    """One class: when, its fields, what it says, and what to do."""
    parents = [base.__name__ for base in cls.__bases__]
    lines = [f"## {cls.__name__}", "", markdown(inspect.getdoc(cls) or ""), ""]
    rows = [("kind of", ", ".join(f"`{name}`" for name in parents))]
    if own := fields(cls):
        rows.append(("fields", ", ".join(f"`{name}`" for name in own)))
    if who:
        rows.append(("raised by", ", ".join(f"`{name}`" for name in who)))
    if example := EXAMPLES.get(cls.__name__, ""):
        rows.append(("says, for example", f"`{example}`"))
    rows.append(("what to do", markdown(cls.hint)))
    lines += ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows), ""]
    return "\n".join(lines)


def page() -> str:
    """The text of docs/errors.md."""
    who = raisers()
    base = errors.ContainerError
    first = section(base, who.get(base.__name__, []))
    rest = [section(cls, who.get(cls.__name__, [])) for cls in classes()]
    return "\n".join([HEAD, first, *rest])


def main() -> None:
    importlib.import_module("libpycontainer")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
