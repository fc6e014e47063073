"""Run the tests against the real kernel with a shim that AddressSanitizer and UBSan watch.

Usage: sanitize.py DIRECTORY [pytest's words]. As root, with gcc and Python's headers and library.

Everything is made in DIRECTORY: a copy of the project with an instrumented shim, and an interpreter
that carries the sanitizers' runtime (sanitized_python.c), so that a container's init, which has no
environment, has it as well. A report from any process fails the run, whether a test notices or not;
that reports arrive is proved first, from the places that are hard to report from.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).parent.parent
COPIED = ("benchmarks", "csrc", "docs", "examples", "libpycontainer", "scripts", "tests")
NOT_COPIED = shutil.ignore_patterns("_shim*", "__pycache__", "*.o")
FLAGS = ("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-fsanitize=address,undefined")

# They count descriptors and system calls, and the sanitizers have some of their own.
LEFT_OUT = (
    "tests/privileged/test_warm.py::test_it_holds_nothing_and_is_nobodys_to_look_into",
    "tests/privileged/test_costs.py",
)

OVERRUN = """
import socket
from libpycontainer._shim import ffi, lib
one, other = socket.socketpair()
def overrun():
    lib.lpc_send(one.fileno(), ffi.new("char[8]"), 64, ffi.NULL, 0, 0)
"""
IN_A_PRISON = """
import os, tempfile
from libpycontainer import syscalls as sys_
empty = tempfile.mkdtemp()
sys_.unshare(sys_.CLONE_NEWNS)
os.chdir(empty)
os.rmdir(empty)
os.chroot(".")
sys_.prctl(sys_.PR_SET_DUMPABLE, 0)
os.closerange(0, 3)
overrun()
"""
IN_INIT = """
import libpycontainer as lc
from libpycontainer import host
facts = host.facts()
facts.last_cap = 64
host.facts = lambda: facts
lc.run(["true"])
"""
PROOFS = {
    "a buffer overrun": (
        OVERRUN + "overrun()",
        "AddressSanitizer: heap-buffer-overflow",
    ),
    "the same, where nothing can be opened": (
        OVERRUN + IN_A_PRISON,
        "AddressSanitizer: heap-buffer-overflow",
    ),
    "a shift by 64 in a container's init": (IN_INIT, "shift exponent 64 is too large"),
}


def main() -> int:
    if os.geteuid() != 0:
        print("sanitize: needs root", file=sys.stderr)
        return 1
    directory = Path(sys.argv[1]).resolve()
    shutil.rmtree(directory, ignore_errors=True)
    tree, reports = directory / "project", directory / "reports"
    copy_project(tree)
    # Processes of every user write to it.
    reports.touch()
    reports.chmod(0o666)
    build_shim(directory / "build", tree)
    python = make_environment(build_interpreter(directory, reports), directory / "venv", tree)
    for what, (script, expected) in PROOFS.items():
        prove(what, script, expected, python, reports)
    left_out = [f"--deselect={test}" for test in LEFT_OUT]
    tests = [python, "-m", "pytest", "-p", "no:cacheprovider", *left_out, *sys.argv[2:]]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    code = subprocess.run(tests, cwd=tree, env=environment).returncode
    found = reports.read_text(errors="replace")
    if found:
        print(f"sanitize: reports:\n{found}")
    return code or bool(found)


def copy_project(tree: Path) -> None:
    for name in COPIED:
        shutil.copytree(PROJECT / name, tree / name, ignore=NOT_COPIED)
    for file in PROJECT.iterdir():
        if file.is_file():
            shutil.copy2(file, tree)


def build_shim(build: Path, tree: Path) -> None:
    """In a directory without a pyproject.toml, which is for those who build the whole project."""
    shutil.copytree(PROJECT / "csrc", build / "csrc", ignore=NOT_COPIED)
    command = [sys.executable, "csrc/build_shim.py"]
    run(command, cwd=build, env={**os.environ, "LPC_SANITIZE": "1"})
    (shim,) = build.glob("libpycontainer/_shim*.so")
    shutil.copy2(shim, tree / "libpycontainer")


def build_interpreter(directory: Path, reports: Path) -> str:
    """A Python of the running version; its name makes it the one that inits are made from."""
    names = ("CC", "INCLUDEPY", "LIBDIR", "LDVERSION", "LIBS", "SYSLIBS")
    cc, headers, libraries, version, *more = (
        str(sysconfig.get_config_var(name) or "") for name in names
    )
    path = directory / "bin" / f"python{sysconfig.get_python_version()}"
    path.parent.mkdir()
    where = f'-DREPORTS="{reports}"'
    link = [f"-L{libraries}", f"-Wl,-rpath,{libraries}", f"-lpython{version}"]
    link += " ".join(more).split()
    source = PROJECT / "scripts/sanitized_python.c"
    run([*cc.split(), *FLAGS, where, f"-I{headers}", source, "-o", path, *link])
    return str(path)


def make_environment(interpreter: str, venv: Path, tree: Path) -> str:
    """One that has the packages of this one and the copied project, with or without variables."""
    run([interpreter, "-m", "venv", "--without-pip", "--symlinks", venv])
    paths = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "project.pth").write_text("\n".join([str(tree), *paths, ""]))
    return str(venv / "bin/python")


def prove(what: str, script: str, expected: str, python: str, reports: Path) -> None:
    """Make a mistake on purpose; its report must come, or the run is worth nothing."""
    command = [python, "-P", "-c", script]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60).stderr
    if expected not in reports.read_text(errors="replace"):
        raise SystemExit(f"sanitize: {what} was not reported, but:\n{said}")
    os.truncate(reports, 0)
    print(f"sanitize: {what} was reported", flush=True)


def run(command: Sequence[str | Path], **options: object) -> None:
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise SystemExit(f"sanitize: {command[0]} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
