"""Only init/paths.py opens what a path of the container leads to; everybody else has a descriptor.

A look-up by the kernel's ordinary rules follows links to wherever somebody has pointed them, also
between a check and its use (CVE-2021-30465 and its kin). This reads the sources of init.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import libpycontainer

INIT = Path(libpycontainer.__file__).parent / "init"
HOME = "paths.py"
BY_PATH = {
    "access",
    "chmod",
    "chown",
    "lchown",
    "link",
    "listdir",
    "listxattr",
    "lstat",
    "mkdir",
    "makedirs",
    "mkfifo",
    "mknod",
    "open",
    "readlink",
    "remove",
    "rename",
    "rmdir",
    "scandir",
    "setxattr",
    "getxattr",
    "stat",
    "statvfs",
    "symlink",
    "truncate",
    "unlink",
    "utime",
}
EXCEPTIONS = {
    ("rootfs.py", "attach_root"): "the host's side of the root, before anything is entered",
    ("rootfs.py", "open_root"): "the host's side of the root of a container that shares its mounts",
    ("rootfs.py", "use_root"): '"/" itself, which setns has set',
    ("rootfs.py", "pivot_root"): '"/" itself, before it is switched',
    ("rootfs.py", "_host_views"): "a number: the descriptor of a file of a checked procfs",
    ("copyup.py", "_copy_directory"): "a number: the directory's descriptor",
    ("copyup.py", "_copy_attributes"): "a number: the copy's descriptor",
}


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Every call, with the function that it stands in."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Call):
                    yield function.name, node


def looks_up(call: ast.Call) -> bool:
    """Does this call take a path and no descriptor that it counts from?"""
    function = call.func
    if isinstance(function, ast.Name):
        named = function.id == "open"
    else:
        named = (
            isinstance(function, ast.Attribute)
            and isinstance(function.value, ast.Name)
            and function.value.id == "os"
            and function.attr in BY_PATH
        )
    return named and not any(keyword.arg == "dir_fd" for keyword in call.keywords)


def found() -> set[tuple[str, str]]:
    return {
        (path.name, function)
        for path in INIT.glob("*.py")
        if path.name != HOME
        for function, call in calls(ast.parse(path.read_text(encoding="utf-8")))
        if looks_up(call)
    }


def test_no_other_room_looks_up_paths_of_the_container() -> None:
    assert found() - EXCEPTIONS.keys() == set()


def test_every_exception_is_still_one() -> None:
    assert EXCEPTIONS.keys() - found() == set()


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("os.open(path, 0)", True),
        ("open(path)", True),
        ("os.stat(path, follow_symlinks=False)", True),
        ("os.open(name, 0, dir_fd=parent)", False),
        ("os.fstat(number)", False),
        ("paths.open_inside(context, path)", False),
    ],
)
def test_what_counts_as_a_look_up(line: str, wrong: bool) -> None:
    (call,) = [call for _, call in calls(ast.parse(f"def f():\n    {line}"))]
    assert looks_up(call) is wrong
