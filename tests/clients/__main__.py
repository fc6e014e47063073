"""Drive podman, containerd and docker on runc and on pyrunc, and compare: ``tox -e clients``.

As root on Debian. Each operation is carried out with Debian's runc first, which says whether it can
be done on this machine at all, then with pyrunc. The exit status is 1 when something works with
runc and not with pyrunc.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.clients import cleaning, column, images, remains, table, world
from tests.clients.battery import Column, Row
from tests.clients.engine import Runtime

LOCK = "/run/lock/libpycontainer-clients"


class NoColumnError(Exception):
    """A client could not be started with a runtime, or its column was not finished."""


def main() -> int:
    arguments = _arguments()
    if os.geteuid() != 0:
        print("clients: needs root", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with _alone():
        world.install_what_is_missing()
        remains.remove_groups_of_older_runs()
        with _directory() as directory:
            worse = _compare(arguments, directory)
    print(f"{worse} worse than with runc" if worse else "nothing is worse than with runc")
    return 1 if worse else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tox -e clients --", description=__doc__)
    parser.add_argument(
        "--client", action="append", choices=[*column.CLIENTS], help="only this one; repeatable"
    )
    parser.add_argument(
        "-k", "--only", dest="wanted", default="", help="a pattern that an operation's title has"
    )
    parser.add_argument("--pyrunc", default=f"{sys.prefix}/bin/pyrunc", help="the console script")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file as well")
    return parser.parse_args()


@contextmanager
def _alone() -> Iterator[None]:
    """One battery at a time: podman's group for pods has one name for all."""
    Path(LOCK).parent.mkdir(exist_ok=True)
    with open(LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("clients: waiting for another battery to end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _directory() -> Iterator[Path]:
    """Where everything happens; made and removed out here, where none of its mounts are."""
    # The path of a socket has 107 bytes, and an ordinary user must reach what lies here.
    directory = Path(tempfile.mkdtemp(prefix="lpc-clients-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        cleaning.remove(directory)


def _compare(arguments: argparse.Namespace, directory: Path) -> int:
    worse = 0
    documents = []
    images.make(directory)
    runtimes = _runtimes(directory, arguments.pyrunc)
    for client in arguments.client or column.CLIENTS:
        try:
            title, rows = _compare_one(client, runtimes, directory, arguments.wanted)
        except NoColumnError as error:
            print(f"clients: {error}", flush=True)
            worse += 1
            continue
        print(table.as_text(title, rows, runtimes), flush=True)
        documents.append(table.as_markdown(title, rows, runtimes))
        worse += sum(bool(row.difference) for row in rows)
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(documents))
    return worse


def _compare_one(
    client: str, runtimes: Sequence[Runtime], directory: Path, wanted: str
) -> tuple[str, list[Row]]:
    columns: list[Column] = []
    title = client
    for runtime in runtimes:
        order = column.Order(client, runtime, directory / f"{client}-{runtime.name}", wanted)
        status = world.run([sys.executable, "-m", "tests.clients.column", order.as_json()])
        if status != 0:
            raise NoColumnError(f"{client} with {runtime.name} ended with {status}, see above")
        title, outcomes = column.read(order)
        columns.append(outcomes)
    return title, column.CLIENTS[client].battery.rows(*columns)


def _runtimes(directory: Path, pyrunc: str) -> list[Runtime]:
    ours = world.write_wrapper(directory / "pyrunc", os.path.abspath(pyrunc))
    found = {"runc": Path(world.program("runc")), "pyrunc": ours}
    return [Runtime(name, path, _version(path)) for name, path in found.items()]


def _version(path: Path) -> str:
    called = subprocess.run([path, "--version"], check=True, capture_output=True, text=True)
    return called.stdout.splitlines()[0].split()[-1]


if __name__ == "__main__":
    sys.exit(main())
