"""How cffi builds the shim: ``libpycontainer._shim`` from shim.c, declared by shim.h."""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
SANITIZE = "LPC_SANITIZE"
"""Set in the environment, it makes a shim that only scripts/sanitize.py's interpreter can load."""
SANITIZERS = [
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fno-omit-frame-pointer",
    "-g",
]
STAGES = (
    "LPC_STAGE_FDS",
    "LPC_STAGE_RLIMITS",
    "LPC_STAGE_BOUNDING",
    "LPC_STAGE_CWD",
    "LPC_STAGE_GROUPS",
    "LPC_STAGE_IDS",
    "LPC_STAGE_CAPABILITIES",
    "LPC_STAGE_AMBIENT",
    "LPC_STAGE_NO_NEW_PRIVILEGES",
    "LPC_STAGE_SECCOMP",
    "LPC_STAGE_EXECVE",
)


def declarations() -> str:
    """shim.h without its preprocessor lines, and the stages' numbers."""
    header = (HERE / "shim.h").read_text(encoding="utf-8")
    plain = "\n".join(line for line in header.splitlines() if not line.startswith("#"))
    stages = "\n".join(f"#define {name} {number}" for number, name in enumerate(STAGES, 1))
    return f"{plain}\n{stages}\n"


def stage_macros() -> list[tuple[str, str]]:
    return [(name, str(number)) for number, name in enumerate(STAGES, 1)]


def sanitizers() -> list[str]:
    return SANITIZERS if os.environ.get(SANITIZE) else []


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "libpycontainer._shim",
    '#include "shim.h"',
    sources=["csrc/shim.c", "csrc/finish.c"],
    depends=["csrc/shim.h", "csrc/internal.h"],
    include_dirs=["csrc"],
    define_macros=stage_macros(),
    extra_compile_args=[
        "-std=gnu11",
        "-D_GNU_SOURCE",
        "-O2",
        "-fvisibility=hidden",
        "-Wall",
        "-Wextra",
        "-Werror",
        # cffi's own glue casts functions and leaves arguments unused; ours may not.
        "-Wno-cast-function-type",
        "-Wno-unused-parameter",
        *sanitizers(),
    ],
    extra_link_args=sanitizers(),
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
