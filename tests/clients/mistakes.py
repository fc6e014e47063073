"""What a client's user reads when the runtime refuses: one sentence that names the matter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.clients import remains
from tests.clients.battery import Battery
from tests.clients.engine import Engine, contains, needs_cgroups, same

BATTERY: Battery[Engine] = Battery()
operation = BATTERY.operation
LONGEST = 600
"""Characters of a message that can still be read, with the client's own words and long paths."""
NOISE = ("Traceback", "internal error", "Error(", '\\"level\\"', "\\n")


def readable(engine: Engine, message: str, *parts: str) -> str:
    """The message, if it is one and names the matter. The control's may be as it is."""
    if engine.runtime.name != "runc":
        contains(message, *parts)
        for noise in NOISE:
            same(noise in message, False)
        if len(message) > LONGEST:
            raise AssertionError(f"{len(message)} characters: {message}")
    return message


def refused(engine: Engine, flags: Sequence[str], *command: str) -> str:
    answer = engine.run(flags, *command, status=None)
    same(answer.status in (125, 126, 127), True)
    return answer.message


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
    return readable(engine, answer.message, "no-such-command")


@operation("mistake: exec in a missing directory", shown=True)
def missing_directory_of_exec(engine: Engine) -> str:
    name = engine.start([], "sleep", "100")
    answer = engine("exec", "-w", "/no/such/place", name, "true", status=None)
    same(answer.status != 0, True)
    return readable(engine, answer.message, "/no/such/place")


@operation("mistake: a file mounted on a directory", shown=True)
def bad_mount(engine: Engine) -> str:
    file = engine.scratch() / "file"
    file.touch()
    return readable(engine, refused(engine, ["-v", f"{file}:/etc"], "true"), "/etc")


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
        "NOFILE",
    )


@operation("mistake: a processor that the parent's group has not", shown=True)
def group_refuses(engine: Engine) -> str:
    """The kernel refuses what no client can know beforehand."""
    needs_cgroups(engine)
    hierarchy = Path("/sys/fs/cgroup/cpuset")
    parent = f"{remains.PARENT}/narrow"
    for path in (remains.PARENT, parent):
        group = Path(f"{hierarchy}{path}")
        group.mkdir(exist_ok=True)
        # A v1 cpuset is empty until it is written to.
        (group / "cpuset.mems").write_text((hierarchy / "cpuset.mems").read_text())
        (group / "cpuset.cpus").write_text((hierarchy / "cpuset.cpus").read_text())
    try:
        (group / "cpuset.cpus").write_text("0")
        flags = ["--cgroup-parent", parent, "--cpuset-cpus", "1"]
        return readable(engine, refused(engine, flags, "true"), "cpuset")
    finally:
        for top in remains.tops(parent):
            remains.remove_groups(top)


@operation("mistake: an update that the kernel refuses", shown=True)
def update_refused(engine: Engine) -> str:
    needs_cgroups(engine)
    name = engine.start([], "sleep", "100")
    answer = engine("update", "--cpuset-cpus", "4000", name, status=None)
    same(answer.status != 0, True)
    same(engine.status(name), "running")
    return readable(engine, answer.message, "4000" if "docker" in engine.title else "cpuset")


@operation("mistake: a namespace of a container that has ended", shown=True)
def ended(engine: Engine) -> str:
    name = engine.start([], "true")
    engine("wait", name)
    return readable(engine, refused(engine, ["--pid", f"container:{name}"], "true"))
