"""Drive podman, containerd and docker on runc and on pyrunc, and compare: ``tox -e clients``.

As root on Debian. Each operation is carried out with Debian's runc first, which says whether it can
be done on this machine at all, then with pyrunc. The exit status is 1 when something works with
runc and not with pyrunc.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts import as_user
from tests.clients import common, ctr, docker, podman, pods, world
from tests.clients.battery import Battery, Column, Row
from tests.clients.engine import Runtime
from tests.clients.report import as_markdown, as_text


def together(*batteries: Battery[Any]) -> Battery[Any]:
    return Battery(each for battery in batteries for each in battery.operations)


CLIENTS: dict[str, tuple[Callable[[Runtime, Path, Path], Any], Battery[Any]]] = {
    "podman": (podman.Podman, together(common.BATTERY, pods.BATTERY, pods.OF_ROOT)),
    "docker": (docker.Docker, together(common.BATTERY, docker.BATTERY)),
    "containerd": (ctr.Containerd, ctr.BATTERY),
    "podman-user": (podman.PodmanOfUser, together(common.BATTERY, pods.BATTERY, pods.OF_USER)),
}


def main() -> int:
    arguments = _arguments()
    if os.geteuid() != 0:
        print("clients: needs root", file=sys.stderr)
        return 1
    if world.MARK not in os.environ:
        world.install_what_is_missing()
        return world.enter([sys.executable, "-m", "tests.clients", *sys.argv[1:]])
    world.furnish()
    status = world.be_first_process()
    return _compare(arguments) if status is None else status


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tox -e clients --", description=__doc__)
    parser.add_argument("clients", nargs="*", help=f"of {', '.join(CLIENTS)}; by default all")
    parser.add_argument("-k", dest="wanted", default="", help="operations with this in their name")
    parser.add_argument("--pyrunc", default=f"{sys.prefix}/bin/pyrunc", help="the console script")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file as well")
    arguments = parser.parse_args()
    if unknown := {*arguments.clients} - {*CLIENTS}:
        parser.error(f"no such client: {', '.join(sorted(unknown))}")
    return arguments


def _compare(arguments: argparse.Namespace) -> int:
    worse = 0
    documents = []
    with _directory() as directory:
        archive = world.make_image(directory)
        as_user.introduce(directory)
        runtimes = _runtimes(directory, arguments.pyrunc)
        for name in arguments.clients or CLIENTS:
            if name == "podman-user":
                as_user.show([sys.prefix, sys.base_prefix, str(as_user.PROJECT)], directory)
            title, rows = _compare_one(name, runtimes, directory, archive, arguments.wanted)
            print(as_text(title, rows, runtimes), flush=True)
            documents.append(as_markdown(title, rows, runtimes))
            worse += sum(bool(row.difference) for row in rows)
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(documents))
    print(f"{worse} worse than with runc" if worse else "nothing is worse than with runc")
    return 1 if worse else 0


def _compare_one(
    name: str, runtimes: Sequence[Runtime], directory: Path, archive: Path, wanted: str
) -> tuple[str, list[Row]]:
    make, battery = CLIENTS[name]
    columns: list[Column] = []
    title = name
    for runtime in runtimes:
        client = make(runtime, directory / f"{name}-{runtime.name}", archive)
        title = client.title
        try:
            columns.append(battery.column(client, wanted, _reporter(name, runtime)))
        finally:
            client.stop()
    return title, battery.rows(*columns)


def _reporter(name: str, runtime: Runtime) -> Callable[[str], None]:
    return lambda text: print(f"[{name}, {runtime.name}] {text}", flush=True)


def _runtimes(directory: Path, pyrunc: str) -> list[Runtime]:
    ours = world.write_wrapper(directory / "pyrunc", os.path.abspath(pyrunc))
    found = {"runc": Path(world.program("runc")), "pyrunc": ours}
    return [Runtime(name, path, _version(path)) for name, path in found.items()]


def _version(path: Path) -> str:
    called = subprocess.run([path, "--version"], check=True, capture_output=True, text=True)
    return called.stdout.splitlines()[0].split()[-1]


@contextmanager
def _directory() -> Iterator[Path]:
    # The path of a socket has 107 bytes, and an ordinary user must reach what lies here.
    directory = Path(tempfile.mkdtemp(prefix="lpc-clients-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
