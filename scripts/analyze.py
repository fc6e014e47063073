"""Hold the shim against gcc's static analyser and every warning that says something about it.

Usage: analyze.py. Silent but for one line when there is nothing to say; a planted mistake is looked
for first, so a compiler that does not analyse is noticed.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parent.parent
COMPILER = os.environ.get("CC", "gcc")
WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Wcast-align",
    "-Wcast-qual",
    "-Wconversion",
    "-Wduplicated-branches",
    "-Wduplicated-cond",
    "-Wformat=2",
    "-Wlogical-op",
    "-Wmissing-prototypes",
    "-Wnull-dereference",
    "-Wpointer-arith",
    "-Wshadow",
    "-Wsign-conversion",
    "-Wstrict-prototypes",
    "-Wundef",
    "-Wwrite-strings",
)
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-fvisibility=hidden", "-fanalyzer", "-Werror", *WARNINGS)
# What is inlined decides what the analyser sees in one piece.
LEVELS = ("-O0", "-O2")
MISTAKE = "#include <stdlib.h>\nvoid twice(char *a); void twice(char *a) { free(a); free(a); }\n"


def main() -> int:
    planted = compile_("-O0", "-x", "c", "-", source=MISTAKE)
    if "double-free" not in planted:
        print(f"analyze: {COMPILER} does not find a planted mistake:\n{planted}", file=sys.stderr)
        return 1
    sources = sorted((PROJECT / "csrc").glob("*.c"))
    found = [
        compile_(level, *stages(), f"-I{PROJECT / 'csrc'}", str(source))
        for level in LEVELS
        for source in sources
    ]
    if any(found):
        print("".join(found), file=sys.stderr)
        return 1
    print(f"analyze: {len(sources)} files, nothing to say")
    return 0


def compile_(*words: str, source: str = "") -> str:
    """What the compiler says about a file; "" for nothing."""
    command = [COMPILER, *FLAGS, *words, "-c", "-o", os.devnull]
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    return done.stderr or ("" if done.returncode == 0 else f"{COMPILER} failed\n")


def stages() -> Iterator[str]:
    """The macros that the build defines."""
    path = PROJECT / "csrc/build_shim.py"
    spec = importlib.util.spec_from_file_location("build_shim", path)
    assert spec is not None
    assert spec.loader is not None
    build_shim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build_shim)
    for name, number in build_shim.stage_macros():
        yield f"-D{name}={number}"


if __name__ == "__main__":
    sys.exit(main())
