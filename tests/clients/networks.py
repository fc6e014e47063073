"""Networks, and several containers that need each other, with docker's command line."""

from __future__ import annotations

import os
import socket
import urllib.request

from tests.clients.battery import Battery
from tests.clients.engine import Engine, contains, same

BATTERY: Battery[Engine] = Battery()
operation = BATTERY.operation
SERVER = "echo page > /tmp/index.html; exec httpd -f -p 80 -h /tmp"


@operation("network: none")
def none(engine: Engine) -> None:
    same(engine.shell(["--network", "none"], "ls /sys/class/net").split(), ["lo"])


@operation("network: the host's")
def hosts(engine: Engine) -> None:
    out = engine.shell(["--network", "host"], "ls /sys/class/net; readlink /proc/self/ns/net")
    names = sorted(name for _, name in socket.if_nameindex())
    same(out.split(), [*names, os.readlink("/proc/self/ns/net")])


@operation("network: the default one")
def default(engine: Engine) -> str:
    # Addresses and their numbers are the client's choice.
    return engine.shell(
        [], "ls /sys/class/net; ip route | cut -d' ' -f1 | sort; cat /etc/hostname | wc -c"
    )


@operation("network: one container reaches the other")
def reach(engine: Engine) -> None:
    engine("network", "create", "between")
    server = engine.start(["--network", "between"], "sh", "-c", SERVER)
    address = engine.inspect(server, '{{(index .NetworkSettings.Networks "between").IPAddress}}')
    engine.wait_until(
        "the page comes",
        lambda: (
            "page\n"
            in engine.run(
                ["--network", "between"], "wget", "-qO-", f"http://{address}/", status=None
            ).out
        ),
    )


@operation("network: by name")
def by_name(engine: Engine) -> None:
    engine("network", "create", "named")
    server = engine.start(["--network", "named"], "sh", "-c", SERVER)
    engine.wait_until(
        "the page comes",
        lambda: (
            "page\n"
            in engine.run(
                ["--network", "named"], "wget", "-qO-", f"http://{server}/", status=None
            ).out
        ),
    )


@operation("network: a published port")
def published(engine: Engine) -> None:
    engine.start(["-p", "127.0.0.1:18080:80"], "sh", "-c", SERVER)

    def answers() -> bool:
        try:
            with urllib.request.urlopen("http://127.0.0.1:18080/", timeout=2) as page:
                return bool(page.read() == b"page\n")
        except OSError:
            return False

    engine.wait_until("the port answers", answers)


@operation("several containers at once, one needing the other")
def several(engine: Engine) -> None:
    """What a compose file would say: a store, two services on it, one in front of them."""
    engine("network", "create", "inner")
    engine("volume", "create", "store")
    shared = ["--network", "inner", "-v", "store:/store"]
    engine.shell(shared, "echo stored > /store/index.html")
    script = "exec httpd -f -p 80 -h /store"
    services = [engine.start([*shared, "--restart", "always"], "sh", "-c", script) for _ in "ab"]
    fetch = "; ".join(f"until wget -qO- http://{each}/; do sleep 0.2; done" for each in services)
    front = engine.start(["--network", "inner"], "sh", "-c", fetch)
    same(engine("wait", front).out, "0\n")
    same(engine("logs", front).out, "stored\nstored\n")
    listed = engine("ps", "--format", "{{.Names}} {{.Status}}").out
    contains(listed, *(f"{each} Up" for each in services))
    engine("stop", "-t", "1", *reversed(services))


@operation("network: connect and disconnect")
def connect(engine: Engine) -> None:
    engine("network", "create", "first")
    engine("network", "create", "second")
    name = engine.start(["--network", "first"], "sleep", "100")
    engine("network", "connect", "second", name)
    contains(engine("exec", name, "ls", "/sys/class/net").out, "eth0", "eth1")
    engine("network", "disconnect", "first", name)
    same("eth0" in engine("exec", name, "ls", "/sys/class/net").out, False)
