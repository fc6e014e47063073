"""What a client's user reads when the runtime refuses: one sentence that names the matter."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.clients import remains
from tests.clients.battery import Battery
from tests.clients.engine import Answer, Engine, contains, same

BATTERY: Battery[Engine] = Battery()
operation = BATTERY.operation
LONGEST = 400
"""Characters of a message that can still be read as one sentence."""


def readable(engine: Engine, answer: Answer, *parts: str) -> str:
    """The message, if it is one and names the matter. The control's may be as it is."""
    if engine.runtime.name == "runc":
        return answer.message
    contains(answer.message, *parts)
    for noise in ("Traceback", "Error(", '\\"level\\"', "\\n"):
        same(noise in answer.message, False)
    if len(answer.message) > LONGEST:
        raise AssertionError(f"{len(answer.message)} characters: {answer.message}")
    return answer.message


def refused(engine: Engine, flags: Sequence[str], *command: str) -> Answer:
    answer = engine.run(flags, *command, status=None)
    same(answer.status in (125, 126, 127), True)
    return answer


@operation("mistake: no such command", shown=True)
def missing_command(engine: Engine) -> str:
    return readable(engine, refused(engine, [], "no-such-command"), "no-such-command")


@operation("mistake: not executable", shown=True)
def not_executable(engine: Engine) -> str:
    return readable(engine, refused(engine, [], "/etc/passwd"), "/etc/passwd", "permission denied")


@operation("mistake: no such command for exec", shown=True)
def missing_command_of_exec(engine: Engine) -> str:
    name = engine.start([], "sleep", "100")
    answer = engine("exec", name, "no-such-command", status=None)
    return readable(engine, answer, "no-such-command")


@operation("mistake: exec in a missing directory", shown=True)
def missing_directory_of_exec(engine: Engine) -> str:
    name = engine.start([], "sleep", "100")
    answer = engine("exec", "-w", "/no/such/place", name, "true", status=None)
    same(answer.status != 0, True)
    return readable(engine, answer, "/no/such/place")


@operation("mistake: a file mounted on a directory", shown=True)
def bad_mount(engine: Engine) -> str:
    with tempfile.NamedTemporaryFile() as file:
        os.chmod(file.name, 0o644)
        return readable(engine, refused(engine, ["-v", f"{file.name}:/etc"], "true"), "/etc")


@operation("mistake: an unknown option of a mount", shown=True)
def bad_option(engine: Engine) -> str:
    return readable(engine, refused(engine, ["--tmpfs", "/some:size=many"], "true"), "/some")


@operation("mistake: a missing device", shown=True)
def missing_device(engine: Engine) -> str:
    return readable(engine, refused(engine, ["--device", "/dev/none"], "true"), "/dev/none")


@operation("mistake: an unknown sysctl", shown=True)
def bad_sysctl(engine: Engine) -> str:
    flags = ["--sysctl", "net.ipv4.no_such_thing=1"]
    return readable(engine, refused(engine, flags, "true"), "no_such_thing")


@operation("mistake: a limit above the hard one", shown=True)
def bad_ulimit(engine: Engine) -> str:
    return readable(
        engine,
        refused(engine, ["--ulimit", "nofile=99999999:99999999", "--ulimit", "nproc=9:9"], "true"),
    )


@operation("mistake: a processor that the parent's group has not", shown=True)
def group_refuses(engine: Engine) -> str:
    """The kernel refuses what no client can know beforehand."""
    parent = f"{remains.PARENT}/narrow"
    group = Path(f"/sys/fs/cgroup/cpuset{parent}")
    group.mkdir(exist_ok=True)
    try:
        (group / "cpuset.mems").write_text("0")
        (group / "cpuset.cpus").write_text("0")
        flags = ["--cgroup-parent", parent, "--cpuset-cpus", "1"]
        return readable(engine, refused(engine, flags, "true"), "cpuset")
    finally:
        _remove(parent)


@operation("mistake: an update that the kernel refuses", shown=True)
def update_refused(engine: Engine) -> str:
    name = engine.start([], "sleep", "100")
    answer = engine("update", "--cpuset-cpus", "4000", name, status=None)
    same(answer.status != 0, True)
    same(engine.status(name), "running")
    return readable(engine, answer, "4000" if "docker" in engine.title else "cpuset")


@operation("mistake: a namespace of a container that has ended", shown=True)
def ended(engine: Engine) -> str:
    name = engine.start([], "true")
    engine("wait", name)
    return readable(engine, refused(engine, ["--pid", f"container:{name}"], "true"))


def _remove(parent: str) -> None:
    for group in remains.groups_below(parent):
        try:
            group.rmdir()
        except OSError:
            # What is still in it is told as left behind.
            continue
