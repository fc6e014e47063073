"""What ``checkpoint`` and ``restore`` share: CRIU's flags, and what their values may be.

Neither is carried out yet. Their command lines are read and checked all the same, so that a
caller learns of a mistake in it first, and of the missing checkpoint support only then.
"""

from __future__ import annotations

from libpycontainer.cli.command import CommandError
from libpycontainer.cli.options import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from libpycontainer.cli.options import Options

WORK_PATH = Flag("work-path", "path for saving work files and logs")
TCP_ESTABLISHED = Flag("tcp-established", "allow open tcp connections", kind="bool")
EXT_UNIX_SK = Flag("ext-unix-sk", "allow external unix sockets", kind="bool")
SHELL_JOB = Flag("shell-job", "allow shell jobs", kind="bool")
LAZY_PAGES = Flag("lazy-pages", "use userfaultfd to lazily restore memory pages", kind="bool")
FILE_LOCKS = Flag("file-locks", "handle file locks, for safety", kind="bool")
MANAGE_CGROUPS_MODE = Flag(
    "manage-cgroups-mode", "cgroups mode: soft, full, strict or ignore (default: soft)"
)
EMPTY_NS = Flag("empty-ns", "create a namespace, but don't restore its properties", kind="strings")
AUTO_DEDUP = Flag("auto-dedup", "enable auto deduplication of memory images", kind="bool")

_MODES = ("", "soft", "full", "strict", "ignore")
# CRIU can leave others out as well; runc offers this one.
_NAMESPACES = ("network",)
_PORTS = range(1, 1 << 16)


def check(options: Options) -> None:
    """Refuse values that CRIU could not be given. Raises :class:`CommandError`."""
    if options.text("manage-cgroups-mode") not in _MODES:
        raise CommandError(
            f"invalid manage-cgroups-mode value {options.text('manage-cgroups-mode')!r}: it is"
            " one of soft, full, strict and ignore"
        )
    for namespace in options.texts("empty-ns"):
        if namespace not in _NAMESPACES:
            raise CommandError(f"namespace {namespace!r} is not supported by --empty-ns")


def check_page_server(text: str) -> None:
    """Refuse what is no ``ADDRESS:PORT``, in which an IPv6 address stands in brackets."""
    address, colon, port = text.rpartition(":")
    bracketed = address.startswith("[") and address.endswith("]")
    if not colon or not address.strip("[]") or (":" in address and not bracketed):
        raise CommandError("use --page-server ADDRESS:PORT to specify the page server")
    if not (port.isascii() and port.isdigit() and int(port) in _PORTS):
        raise CommandError(f"invalid port number {port!r} of the --page-server")


def refuse(verb: str, id: str) -> NoReturn:
    raise CommandError(
        f"cannot {verb} container {id}: this needs CRIU >= 4, which this version of pyrunc does"
        " not make use of"
    )
