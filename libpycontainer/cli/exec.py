"""``exec``: one more process in a running container."""

from __future__ import annotations

import os

from libpycontainer.cli import launch
from libpycontainer.cli.command import Command, CommandError, Invocation
from libpycontainer.cli.options import Flag
from libpycontainer.errors import StatusError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libpycontainer.cli.options import Options
    from libpycontainer.container import Container
    from libpycontainer.process import Process
    from libpycontainer.spec.models import Process as SpecProcess

_FAILURE = 255
_CAPABILITY_SETS = ("bounding", "effective", "permitted")


def action(invocation: Invocation) -> int:
    options = invocation.options
    # Before anything is opened here: what the caller left closed would soon be one of ours.
    launch.check_preserved(options.number("preserve-fds"))
    # It boots while we find out the rest.
    invocation.factory().prepare()
    container = invocation.container()
    described = _describe(invocation, container)
    detach = options.enabled("detach")
    launch.check_terminal(described, options.text("console-socket"), detach=detach)
    if detach:
        _start(invocation, container, described, {})
        return 0
    from libpycontainer.cli.foreground import Foreground

    with Foreground(invocation.log, terminal=bool(described.terminal)) as foreground:
        process = _start(invocation, container, described, foreground.streams())
        return foreground.wait(process)


def _describe(invocation: Invocation, container: Container) -> SpecProcess:
    """What is to be run, as OCI's ``process``: from ``--process``, or from the container's own."""
    from libpycontainer.spec import light

    options, command = invocation.options, list(invocation.arguments[1:])
    path = options.text("process")
    if not path and not command:
        raise CommandError("process args cannot be empty")
    if path:
        described: SpecProcess = light.load_as("Process", os.path.abspath(path))
    else:
        own = container.spec.process
        base = {"cwd": "/"} if own is None else light.dump(own)
        described = light.record("Process", overridden(base, options, command))
    _check(described)
    return described


def _check(described: SpecProcess) -> None:
    if not described.cwd:
        raise CommandError("Cwd property must not be empty")
    if not described.cwd.startswith("/"):
        raise CommandError("Cwd must be an absolute path")
    if not described.args:
        raise CommandError("args must not be empty")


def overridden(base: dict[str, Any], options: Options, command: list[str]) -> dict[str, Any]:
    """``base``, the document of the container's own process, as the flags would have it."""
    document = {**base, "args": command, "terminal": options.enabled("tty")}
    for flag, field in (
        ("cwd", "cwd"),
        ("apparmor", "apparmorProfile"),
        ("process-label", "selinuxLabel"),
    ):
        if options.text(flag):
            document[field] = options.text(flag)
    document["env"] = [*(base.get("env") or ()), *options.texts("env")]
    if options.given("no-new-privs"):
        document["noNewPrivileges"] = options.enabled("no-new-privs")
    if options.texts("cap"):
        document["capabilities"] = _with_capabilities(
            base.get("capabilities") or {}, options.texts("cap")
        )
    document["user"] = _user(base.get("user") or {}, options)
    return document


def _with_capabilities(held: dict[str, Any], added: list[str]) -> dict[str, Any]:
    """The sets with ``added`` in them.

    Not in the inheritable one: an ordinary program with file capabilities would then be given
    what its file does not say (CVE-2022-29162). Without it the ambient set cannot hold them.
    """
    sets = {name: list(held.get(name) or ()) for name in held}
    for name in _CAPABILITY_SETS:
        sets[name] = [*sets.get(name, ()), *added]
    if sets.get("inheritable"):
        sets["ambient"] = [*sets.get("ambient", ()), *added]
    return sets


def _user(base: dict[str, Any], options: Options) -> dict[str, Any]:
    user: dict[str, Any] = {"uid": 0, "gid": 0, **base}
    if options.text("user"):
        uid, colon, gid = options.text("user").partition(":")
        if colon:
            user["gid"] = _id(gid, "gid")
        user["uid"] = _id(uid, "uid")
    for gid_number in options.numbers("additional-gids"):
        if gid_number < 0:
            raise CommandError(f"additional-gids must be a positive number {gid_number}")
        user["additionalGids"] = [*user.get("additionalGids", ()), gid_number]
    return user


def _id(text: str, kind: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise CommandError(f"parsing {text} as int for {kind} failed: invalid syntax")
    return int(text)


def groups(values: list[str]) -> str | dict[str, str] | None:
    """What ``--cgroup`` asks for: a path for every hierarchy, or paths by controller.

    A value reads ``path``, which must be the only one, or ``controller[,controller...]:path``.
    """
    found: dict[str, str] = {}
    for value in values:
        names, colon, path = value.partition(":")
        if not colon:
            if len(values) > 1:
                raise CommandError(
                    f"invalid --cgroup argument: {value} (missing <controller>: prefix)"
                )
            return value
        for name in names.split(","):
            if not name:
                raise CommandError(
                    f"invalid --cgroup argument: {value} (empty <controller> prefix)"
                )
            if name in found:
                raise CommandError(
                    f"invalid --cgroup argument(s): controller {name} specified multiple times"
                )
            found[name] = path
    return found or None


def _start(
    invocation: Invocation,
    container: Container,
    described: SpecProcess,
    streams: dict[str, Any],
) -> Process:
    """Have the process run, and hand its pid and pidfd to those who asked for them."""
    from libpycontainer.launch import write_pid_file
    from libpycontainer.process import Process
    from libpycontainer.spec import light

    options = invocation.options
    process = Process.from_document(
        light.dump(described),
        cgroup=groups(options.texts("cgroup")),
        terminal=bool(described.terminal),
        console_socket=options.text("console-socket") or None,
        preserve_fds=options.number("preserve-fds"),
        **streams,
    )
    try:
        container.exec(process, ignore_paused=options.enabled("ignore-paused"))
    except StatusError as error:
        hint = " (use --ignore-paused to override)" if error.status == "paused" else ""
        raise CommandError(f"{error}{hint}") from None
    try:
        if options.text("pid-file"):
            write_pid_file(options.text("pid-file"), process.pid)
        if options.text("pidfd-socket"):
            launch.send_pidfd(options.text("pidfd-socket"), process.fileno(), "setns")
    except BaseException:
        process.kill()
        raise
    return process


COMMAND = Command(
    "exec",
    action,
    usage="execute new process inside the container",
    arguments="""<container-id> <command> [command options]  || -p process.json <container-id>

Where "<container-id>" is the name for the instance of the container and
"<command>" is the command to be executed in the container.
"<command>" can't be empty unless a "-p" flag provided.

EXAMPLE:
For example, if the container is configured to run the linux ps command the
following will output a list of processes running in the container:

       # pyrunc exec <container-id> ps""",
    flags=(
        launch.CONSOLE_SOCKET,
        launch.PIDFD_SOCKET,
        Flag("cwd", "current working directory in the container"),
        Flag("env", "set environment variables", short="e", kind="strings"),
        Flag("tty", "allocate a pseudo-TTY", short="t", kind="bool"),
        Flag("user", "UID (format: <uid>[:<gid>])", short="u"),
        Flag("additional-gids", "additional gids", short="g", kind="ints"),
        Flag("process", "path to the process.json", short="p"),
        launch.DETACH,
        launch.PID_FILE,
        Flag(
            "process-label", "set the asm process label for the process commonly used with selinux"
        ),
        Flag("apparmor", "set the apparmor profile for the process"),
        Flag("no-new-privs", "set the no new privileges value for the process", kind="bool"),
        Flag(
            "cap",
            "add a capability to the bounding set for the process",
            short="c",
            kind="strings",
        ),
        launch.PRESERVE_FDS,
        Flag(
            "cgroup",
            "run the process in an (existing) sub-cgroup(s). Format is [<controller>:]<cgroup>.",
            kind="strings",
        ),
        Flag("ignore-paused", "allow exec in a paused container", kind="bool"),
    ),
    least=1,
    prefix="exec failed: ",
    failure=_FAILURE,
    interspersed=False,
)
