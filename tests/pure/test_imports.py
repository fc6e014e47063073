"""Which module may import which, and what a cold command must not pay for."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import libpycontainer

PACKAGE = Path(libpycontainer.__file__).parent
REPOSITORY = PACKAGE.parent
HEAVY = {
    "argparse",
    "attr",
    "attrs",
    "cattr",
    "cattrs",
    "contextlib",
    "dataclasses",
    "inspect",
    "logging",
    "pathlib",
    "psutil",
    "pyroute2",
    "subprocess",
    "tempfile",
    "typing",
}
COLD = (
    "libpycontainer.factory",
    "libpycontainer.creation",
    "libpycontainer.container",
    "libpycontainer.joining",
    "libpycontainer.updating",
    "libpycontainer.events",
    "libpycontainer.sandbox",
    "libpycontainer.cli.main",
)
INIT_BUILTINS = {"os", "sys", "marshal", "select", "time", "errno"}
# The typed side: what only programs load that live longer than one container.
TYPED = {
    "libpycontainer.aio.container",
    "libpycontainer.aio.factory",
    "libpycontainer.aio.pending",
    "libpycontainer.aio.process",
    "libpycontainer.aio.sandbox",
    "libpycontainer.aio.threads",
    "libpycontainer.cgroups.protocol",
    "libpycontainer.cgroups.stats",
    "libpycontainer.spec.converter",
    "libpycontainer.spec.models",
}


class Import(NamedTuple):
    importer: str
    imported: str
    line: int
    at_top: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path
    return found


MODULES = modules()


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and (
        isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )


def statements(
    body: list[ast.stmt], at_top: bool = True
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import that can happen at run time, and whether loading the module does it."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, at_top
        elif isinstance(node, ast.If) and is_type_checking(node):
            yield from statements(node.orelse, at_top)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            children = [child for child in ast.walk(node) if child is not node]
            for child in children:
                if isinstance(child, ast.Import | ast.ImportFrom):
                    yield child, at_top and not inside and not _in_function(node, child)


def _in_function(top: ast.AST, wanted: ast.AST) -> bool:
    for node in ast.walk(top):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
            child is wanted for child in ast.walk(node)
        ):
            return True
    return False


def imports_of(name: str) -> list[Import]:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    found = []
    for node, at_top in statements(tree.body):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{name}:{node.lineno} is a relative import"
            module = node.module or ""
            names = [
                full if (full := f"{module}.{alias.name}") in MODULES else module
                for alias in node.names
            ]
        found += [Import(name, each, node.lineno, at_top) for each in dict.fromkeys(names)]
    return found


ALL = [each for name in MODULES for each in imports_of(name)]
INSIDE = [each for each in ALL if each.imported.partition(".")[0] == "libpycontainer"]


def rooms() -> dict[str, int]:
    """The rooms of the package's docstring and their floor: every one may look upwards only."""
    docstring = libpycontainer.__doc__
    assert docstring is not None
    table = docstring.partition("(upwards only):")[2].partition("Importing this")[0]
    floors = {}
    for floor, line in enumerate(line for line in table.splitlines() if line.strip()):
        # The names stand before two spaces or more; what they are for comes after.
        for word in re.split(r" {2,}", line.strip())[0].split():
            floors[word.removesuffix(".py").removesuffix("/")] = floor
    return floors


ROOMS = rooms()
# Imported by everybody, and importing nobody: no room of their own.
LOBBY = {"", "_shim", "_version", "__main__"}


def room_of(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def test_every_module_has_a_room() -> None:
    homeless = {name for name in MODULES if room_of(name) not in ROOMS.keys() | LOBBY}
    assert homeless == set()
    assert {room for room in ROOMS if not (PACKAGE / room).is_dir()} == {
        room for room in ROOMS if (PACKAGE / f"{room}.py").is_file()
    }


def test_imports_run_upwards_only() -> None:
    wrong = []
    for each in INSIDE:
        mine, its = room_of(each.importer), room_of(each.imported)
        if mine in LOBBY or its in LOBBY or mine == its:
            continue
        # Rooms on one floor may look at each other; what they know must not go round in circles.
        # A module without a room is the first test's finding.
        if ROOMS.get(its, 0) > ROOMS.get(mine, len(ROOMS)):
            wrong.append(str(each))
    assert wrong == []


def test_no_two_modules_load_each_other() -> None:
    """Imports inside functions may look back at their caller; those at the top may not."""
    edges: dict[str, set[str]] = {name: set() for name in MODULES}
    for each in INSIDE:
        if each.at_top and each.imported in edges and each.imported != each.importer:
            edges[each.importer].add(each.imported)
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in edges[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())
    assert done == set(MODULES)


def loaded_by_init() -> set[str]:
    found = {"libpycontainer.init.main"}
    while True:
        more = {each.imported for each in INSIDE if each.at_top and each.importer in found}
        more = {name for name in more if name in MODULES} - found
        if not more:
            return found
        found |= more


def test_init_imports_nothing_but_the_kernel_calls_and_modules_built_in() -> None:
    rooms = ("kernel", "descriptors", "syscalls", "hooks", "reaping")
    shared = {f"libpycontainer.{room}" for room in rooms}
    wrong = []
    for each in ALL:
        if room_of(each.importer) != "init" and each.importer not in shared:
            continue
        inside = room_of(each.imported) == "init" or each.imported in shared
        shim = each.imported.startswith("libpycontainer._shim")
        package = each.imported == "libpycontainer"
        built_in = each.imported in INIT_BUILTINS | {"__future__"}
        if not (inside or shim or package or built_in):
            wrong.append(str(each))
    assert wrong == []


def test_nothing_that_init_has_loaded_imports_later() -> None:
    # The sealed init finds no module any more but those that it has, so such a function would fail
    # inside a container.
    # The package itself is loaded too, but its names are looked up by the caller's side alone.
    names = loaded_by_init() - {"libpycontainer"}
    assert names >= {"libpycontainer.syscalls", "libpycontainer.hooks", "libpycontainer.init.steps"}
    late = [
        str(each)
        for name in names
        for each in imports_of(name)
        if not each.at_top and each.imported not in names
    ]
    assert late == []


def test_only_the_typed_side_names_a_heavy_module() -> None:
    wrong = []
    for each in ALL:
        if each.imported.partition(".")[0] in HEAVY and each.at_top:
            wrong.append(each)
    allowed = {each.importer for each in wrong if room_of(each.importer) == "spec"} | TYPED
    assert [str(each) for each in wrong if each.importer not in allowed] == []


def fresh(code: str) -> set[str]:
    """What a new interpreter has loaded after ``code`` that it had not before."""
    look = f"import sys; before = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path += {sys.path!r}\n{look}"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", COLD)
def test_a_module_of_the_start_path_loads_nothing_heavy(module: str) -> None:
    loaded = fresh(f"import {module}")
    assert module in loaded
    assert {name for name in loaded if name.partition(".")[0] in HEAVY} == set()


def test_the_start_path_as_a_whole_loads_nothing_heavy() -> None:
    code = "\n".join(f"import {module}" for module in COLD)
    code += """
from libpycontainer import host, validate
from libpycontainer.plan import Request, build
from libpycontainer.spec import default, light
spec = light.load(default.config())
facts = host.facts()
list(validate.check(spec, facts))
build(spec, facts, Request("x", bundle="/", rootfs="/"))
"""
    loaded = fresh(code)
    assert "libpycontainer.plan.build" in loaded
    assert {name for name in loaded if name.partition(".")[0] in HEAVY} == set()


def test_the_package_alone_loads_nothing() -> None:
    own = {name for name in fresh("import libpycontainer") if name.startswith("libpycontainer")}
    assert own == {"libpycontainer"}


def test_every_public_name_can_be_loaded_and_is_listed() -> None:
    for name in libpycontainer.__all__:
        assert getattr(libpycontainer, name) is not None
    assert set(libpycontainer.__all__) <= set(dir(libpycontainer))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = libpycontainer.no_such_name
