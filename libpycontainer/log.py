"""What happens, for whoever listens: the program's logging, if it uses it, and the command's log.

Importing :mod:`logging` costs more than starting a container should, so it is only used by
programs that have imported it themselves. The logger is called "libpycontainer"; it has a handler
that does nothing, as a library's should, so that a program that has configured nothing hears
nothing. Warnings are what a runtime has to report and live with, "info" are the verbs.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

listeners: list[Callable[[str, str], None]] = []
"""Called with (level, message); what the command line adds itself to."""


def emit(level: str, message: str) -> None:
    """Report something that is not an error of the call at hand."""
    for listener in listeners:
        listener(level, message)
    logging = sys.modules.get("logging")
    if logging is not None:
        _logger(logging).log(LEVELS.get(level, 30), message)


def _logger(logging: Any) -> Any:
    logger = logging.getLogger("libpycontainer")
    if not logger.handlers:
        # Without any the module's last resort would print warnings on the program's stderr.
        logger.addHandler(logging.NullHandler())
    return logger


def tell(verb: str, id: str, detail: str = "") -> None:
    """Tell the program, not the command's log, what was done to which container."""
    logging = sys.modules.get("logging")
    if logging is not None:
        _logger(logging).info("container %s: %s%s", id, verb, detail and f" ({detail})")


def warn(message: str) -> None:
    emit("warning", message)
