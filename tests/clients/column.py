"""One client with one runtime, in a world of its own; called by ``python -m tests.clients``."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients import common, cri, ctr, docker, images, kubelet, podman, pods, world
from tests.clients.battery import Battery, Column, Outcome, together
from tests.clients.engine import Runtime


@dataclass(frozen=True)
class Kind:
    """A client: how it is started in a directory, with an image archive, and what it is asked."""

    make: Callable[[Runtime, Path, Path], Any]
    battery: Battery[Any]
    as_user: bool = False


CLIENTS = {
    "podman": Kind(podman.Podman, together(common.BATTERY, pods.BATTERY, pods.OF_ROOT)),
    "docker": Kind(docker.Docker, together(common.BATTERY, docker.BATTERY)),
    "containerd": Kind(ctr.Containerd, ctr.BATTERY),
    "cri": Kind(cri.Cri, kubelet.BATTERY),
    "rootless": Kind(
        podman.PodmanOfUser, together(common.BATTERY, pods.BATTERY, pods.OF_USER), as_user=True
    ),
}


@dataclass(frozen=True)
class Order:
    """What the program in the new world is to do."""

    client: str
    runtime: Runtime
    directory: Path
    """Does not exist yet; what is made and mounted in it is left to the one who ordered."""
    wanted: str

    def as_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Order:
        fields = json.loads(text)
        runtime = fields.pop("runtime")
        runtime["path"] = Path(runtime["path"])
        directory = Path(fields.pop("directory"))
        return cls(runtime=Runtime(**runtime), directory=directory, **fields)


def read(order: Order) -> tuple[str, Column]:
    """The client's title, and what came of each operation."""
    title, outcomes = json.loads((order.directory / "outcomes.json").read_text())
    return title, {name: Outcome(**fields) for name, fields in outcomes.items()}


def main() -> int:
    if os.getpid() != 1:
        print("column: only in a world of its own: python -m tests.clients", file=sys.stderr)
        return 1
    order = Order.from_json(sys.argv[1])
    kind = CLIENTS[order.client]
    order.directory.mkdir()
    world.furnish(order.directory, as_user_too=kind.as_user)
    status = world.be_first_process()
    if status is not None:
        return status
    client = kind.make(order.runtime, order.directory / "w", images.archive(order.directory.parent))
    try:
        outcomes = kind.battery.column(client, order.wanted, _reporter(order))
    finally:
        client.stop()
    found = {name: dataclasses.asdict(outcome) for name, outcome in outcomes.items()}
    (order.directory / "outcomes.json").write_text(json.dumps([client.title, found]))
    return 0


def _reporter(order: Order) -> Callable[[str], None]:
    return lambda text: print(f"[{order.client}, {order.runtime.name}] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
