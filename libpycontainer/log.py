"""Warnings for whoever listens: the program's logging, if it uses it, and the command's log.

Importing :mod:`logging` costs more than starting a container should, so it is only used by
programs that have imported it themselves. The logger is called "libpycontainer".
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

listeners: list[Callable[[str, str], None]] = []
"""Called with (level, message); what the command line adds itself to."""


def emit(level: str, message: str) -> None:
    """Report something that is not an error of the call at hand."""
    for listener in listeners:
        listener(level, message)
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("libpycontainer").log(LEVELS.get(level, 30), message)


def warn(message: str) -> None:
    emit("warning", message)
