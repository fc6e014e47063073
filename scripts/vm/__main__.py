"""A machine with full cgroup v2 and systemd, for what this host's kernel set-up cannot show.

    python -m scripts.vm test [PYTEST-ARGUMENT ...]   run tests in it
    python -m scripts.vm exec COMMAND [ARGUMENT ...]  run one command in it, as root
    python -m scripts.vm shell                        a root shell in it
    python -m scripts.vm build                        make what is not in the cache, no more

It is built from Debian packages when it is first used (as root; some minutes) and kept in
$XDG_CACHE_HOME/libpycontainer-vm, or where LPC_VM_CACHE says. The project goes in as it is now,
and what happens inside is forgotten when the machine ends. No hardware support is used.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from scripts.vm import guest, machine
from scripts.vm.cache import Cache

PYTEST = ("python3", "-m", "pytest", "-p", "no:cacheprovider", "-o", "timeout=600")
NO_RESULT = 3
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts.vm", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--timeout", type=float, default=3600, metavar="SECONDS")
    parser.add_argument("verb", choices=("test", "exec", "shell", "build"))
    parser.add_argument("words", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    for number in SIGNALS:
        signal.signal(number, _end)
    cache = Cache()
    try:
        parts = guest.guest(cache)
        if options.verb == "build":
            return 0
        with cache.run_directory() as directory:
            command = _command(options.verb, options.words)
            return machine.run(parts, directory, command, options.timeout)
    except (guest.BuildError, machine.MachineError) as error:
        print(f"vm: {error}", file=sys.stderr)
        return NO_RESULT


def _end(number: int, _frame: FrameType | None) -> None:
    """End by a signal, cleaning up; a second one does not come in between."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def _command(verb: str, words: Sequence[str]) -> str | None:
    if verb == "shell":
        return None
    if words and words[0] == "--":
        words = words[1:]
    return shlex.join([*PYTEST, *words] if verb == "test" else words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
