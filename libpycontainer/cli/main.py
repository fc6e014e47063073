"""``pyrunc``: reads the global options, finds the verb, gives an error its words and its code."""

from __future__ import annotations

import os
import sys

from libpycontainer.cli.command import FAILURE, Command, CommandError, Invocation, state_root
from libpycontainer.cli.log import Log
from libpycontainer.cli.options import Flag, Options, UsageError, parse
from libpycontainer.cli.output import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

VERBS = (
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "features",
    "kill",
    "list",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "update",
)
"""Each is a module beside this one, whose ``COMMAND`` says the rest."""

_HELP = Flag("help", "show help", short="h", kind="bool")
_GLOBALS = (
    Flag("debug", "enable debug logging", kind="bool"),
    Flag("log", "set the log file to write logs to (default is '/dev/stderr')"),
    Flag("log-format", "set the log format ('text' or 'json')", default="text"),
    Flag(
        "root",
        "root directory for storage of container state (this should be located in tmpfs)"
        " (default is /run/libpycontainer, or $XDG_RUNTIME_DIR/libpycontainer without privilege)",
    ),
    Flag("criu", "(obsoleted; do not use)", hidden=True),
    Flag(
        "systemd-cgroup",
        "have systemd make the cgroups, expects cgroupsPath to be of form 'slice:prefix:name'",
        kind="bool",
    ),
    Flag(
        "rootless",
        "ignore cgroup permission errors ('true', 'false', or 'auto')",
        default="auto",
    ),
    Flag(
        "generate-completion",
        "print what makes a shell complete the command line ('bash', 'fish' or 'zsh')",
    ),
    _HELP,
    Flag("version", "print the version", short="v", kind="bool"),
)
# What urfave/cli, runc's parser, exits with when there is no such command.
_NO_SUCH_COMMAND = 3
_INTERRUPTED = 128 + 2


def entry() -> NoReturn:
    """Run the command line of this process and end it; the console script calls this.

    The interpreter is not taken down in order: that costs more than many a verb, and everything
    that matters has been written and closed by then.
    """
    _open_standard_streams()
    try:
        code = main(sys.argv[1:])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else FAILURE
    os._exit(code)


def main(argv: Sequence[str]) -> int:
    """Run one command line, without the program's name, and return the exit code."""
    log = Log()
    try:
        return _main(argv, log)
    except (CommandError, OSError) as error:
        return _report(log, error)
    finally:
        log.close()


def _main(argv: Sequence[str], log: Log) -> int:
    try:
        options, words = parse(_GLOBALS, argv, interspersed=False)
    except UsageError as error:
        put(f"Incorrect Usage. {error}\n\n")
        return _refuse(log, str(error), None)
    if options.enabled("help"):
        return _help(None)
    if options.enabled("version"):
        from libpycontainer.cli.usage import version

        put(version())
        return 0
    if options.given("generate-completion"):
        from libpycontainer.cli.completion import script

        commands = [_command(verb) for verb in VERBS]
        put(script(options.text("generate-completion"), commands, _GLOBALS))
        return 0
    log.configure(
        path=options.text("log"), form=options.text("log-format"), debug=options.enabled("debug")
    )
    if options.given("criu"):
        log.warning("--criu is ignored: the criu that is used is the one in $PATH")
    state_root(options)
    if not words:
        return _help(None)
    return _dispatch(words[0], words[1:], options, log)


def _dispatch(verb: str, words: Sequence[str], globals_: Options, log: Log) -> int:
    if verb in ("help", "h"):
        if not words:
            return _help(None)
        if words[0] in VERBS:
            return _help(_command(words[0]))
        verb = words[0]
    if verb not in VERBS:
        log.error(f"No help topic for '{verb}'")
        return _NO_SUCH_COMMAND
    command = _command(verb)
    try:
        options, arguments = parse(
            (*command.flags, _HELP), words, interspersed=command.interspersed
        )
    except UsageError as error:
        put(f"Incorrect Usage: {error}\n\n")
        return _refuse(log, str(error), command)
    if options.enabled("help"):
        return _help(command)
    problem = command.count_problem(len(arguments))
    if problem is not None:
        put("Incorrect Usage.\n\n")
        return _refuse(log, problem, command)
    return _run(Invocation(command, options, arguments, globals_=globals_, log=log))


def _run(invocation: Invocation) -> int:
    """Do the verb's work. On an interrupt the library has taken back what it had begun."""
    from libpycontainer.log import listeners

    command = invocation.command
    listeners.append(invocation.log.report)
    try:
        return command.action(invocation)
    except KeyboardInterrupt as error:
        return _report(invocation.log, error, command.prefix, _INTERRUPTED)
    except Exception as error:
        return _report(invocation.log, error, command.prefix, command.failure)
    finally:
        invocation.close()
        listeners.remove(invocation.log.report)


def _report(log: Log, error: BaseException, prefix: str = "", code: int = FAILURE) -> int:
    from libpycontainer.cli import messages

    if log.debugging:
        for line in messages.traceback_lines(error):
            log.debug(line)
    for line in messages.remarks(error):
        log.warning(line)
    log.error(prefix + messages.sentence(error))
    return code


def _command(verb: str) -> Command:
    module = __import__(f"libpycontainer.cli.{verb}", fromlist=("COMMAND",))
    command = module.COMMAND
    assert isinstance(command, Command)
    return command


def _help(command: Command | None) -> int:
    from libpycontainer.cli.usage import command_help, program_help

    if command is None:
        put(program_help((_command(verb) for verb in VERBS), _GLOBALS))
    else:
        put(command_help(command))
    return 0


def _refuse(log: Log, message: str, command: Command | None) -> int:
    """Answer a wrong command line: the usage, then what was wrong with it."""
    _help(command)
    log.error(message)
    return FAILURE


def _open_standard_streams() -> None:
    """Put /dev/null where a standard stream is closed.

    The next file to be opened would take the place, and be written to or given to a container.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
