"""A code judge: compiles a submission, runs it on each case, and says what came of it.

    python examples/judge.py SUBMISSION CASES

SUBMISSION is a .py or a .c file, CASES a directory with 1.in and 1.out, 2.in and 2.out ... The
verdicts are AC (accepted), WA (wrong answer), TLE, MLE and OLE (too much time, memory, output), RE
(it failed) and CE (it does not compile). A submission sees /usr and its own directory, and nothing
else of the machine. As root, or as a user to whom cgroups were delegated.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import libpycontainer as lc

SECONDS, MEMORY, OUTPUT = 1.0, "64M", 1 << 20
COMPILE = {".c": ["gcc", "-O2", "-o", "/box/main", "/box/main.c", "-lm"]}
RUN = {".c": ["/box/main"], ".py": ["python3", "/box/main.py"]}


def sandbox(place: Path, args: list[str], read_only: bool = True) -> lc.Spec:
    """One processor, a few tasks, no network, no rights; the host's programs, and ``place``/box."""
    for name in ("bin", "lib", "lib64"):
        if not (place / "root" / name).is_symlink():
            (place / "root").mkdir(exist_ok=True)
            (place / "root" / name).symlink_to(f"usr/{name}")
    return lc.Spec.default().evolve(
        args=args,
        env={"PATH": "/usr/bin"},
        rootfs=place / "root",
        add_mounts=[
            lc.Mount.bind("/usr"),
            lc.Mount.bind(place / "box", "/box", read_only=read_only),
        ],
        rlimits={"FSIZE": OUTPUT, "CORE": 0, "STACK": -1},
        memory=MEMORY,
        cpus=1,
        pids=16,
    )


def run_case(factory: lc.Factory, name: str, spec: lc.Spec, case: Path) -> str:
    with case.open("rb") as given, tempfile.TemporaryFile() as written:
        streams = {"stdin": given, "stdout": written, "stderr": lc.DEVNULL}
        with factory.run(name, spec, **streams) as container:
            try:
                code: int | None = container.wait(timeout=2 * SECONDS)
            except lc.TimeoutExpired:
                code = None
            stats = container.stats()
        if written.seek(0, 2) >= OUTPUT:
            return "OLE"
        if stats.memory and stats.memory.oom_kills:
            return "MLE"
        if code is None or (stats.cpu and stats.cpu.usage > SECONDS * 1e9):
            return "TLE"
        written.seek(0)
        right = written.read().split() == case.with_suffix(".out").read_bytes().split()
    return "RE" if code else "AC" if right else "WA"


def judge(submission: Path, cases: Path) -> Iterator[tuple[str, str]]:
    """The name and the verdict of each case; one of them is everything if it does not compile."""
    kind = submission.suffix
    with tempfile.TemporaryDirectory(prefix="judge-") as path, lc.Factory(warm=True) as factory:
        place = Path(path)
        (place / "box").mkdir()
        (place / "box" / f"main{kind}").write_bytes(submission.read_bytes())
        if kind in COMPILE:
            roomy = sandbox(place, COMPILE[kind], read_only=False).evolve(memory="512M", pids=64)
            with factory.run(f"{place.name}-compile", roomy, stdin=lc.DEVNULL) as compiler:
                if compiler.wait(timeout=20) != 0:
                    yield "compile", "CE"
                    return
        for case in sorted(cases.glob("*.in")):
            name, spec = f"{place.name}-{case.stem}", sandbox(place, RUN[kind])
            yield case.stem, run_case(factory, name, spec, case)


if __name__ == "__main__":
    for case, verdict in judge(Path(sys.argv[1]), Path(sys.argv[2])):
        print(case, verdict)
