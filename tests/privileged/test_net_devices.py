"""linux.netDevices: lent with their addresses, and back as they were whatever happened meanwhile.

Each test runs in a thread that sits in a network namespace of its own, so that the machine's is not
touched; what a test leaves in it ends with the thread.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer import kernel
from libpycontainer import syscalls as sys_
from tests.conftest import RUN_PREFIX
from tests.privileged.support import (
    FOREVER,
    REPOSITORY,
    TIMEOUT,
    Gate,
    Program,
    add_user_namespace,
    create,
    exec_inside,
    hook,
    read_inside,
    sh,
)

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

pytestmark = pytest.mark.privileged_caller("moves the host's network devices")
ADDRESSES = (
    ["10.71.0.2/24", "brd", "+", "label", "web0:a", "metric", "7"],
    ["10.71.0.3/24"],
    ["10.72.0.2", "peer", "10.72.0.9/32"],
    ["fd71::2/64", "nodad", "noprefixroute"],
)
MAC = "02:71:00:00:00:07"


def in_own_network(test: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                sys_.unshare(kernel.CLONE_NEWNET)
                test(*args, **options)
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if failures:
            raise failures[0]

    return run


def ip(*words: str, pid: int = 0) -> Any:
    """What ``ip`` says of this thread's network, or of that of a process."""
    enter = ["nsenter", f"--net=/proc/{pid}/ns/net"] if pid else []
    done = subprocess.run([*enter, "ip", "-j", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {words}: {done.stderr}"
    return json.loads(done.stdout) if done.stdout.strip() else []


def names(pid: int = 0) -> set[str]:
    return {link["ifname"] for link in ip("link", pid=pid)} - {"lo"}


def make_device(name: str = "web0") -> None:
    """A device with everything that has to survive, and its other end, on which nothing is done."""
    ip("link", "add", name, "type", "veth", "peer", "name", f"{name}-end")
    ip("link", "set", name, "mtu", "1400", "address", MAC)
    for words in ADDRESSES:
        ip("addr", "add", *[word.replace("web0", name) for word in words], "dev", name)
    ip("link", "set", name, "up")
    ip("link", "set", f"{name}-end", "up")


def looks(name: str = "web0", pid: int = 0) -> dict[str, Any]:
    """A device as people see it; link-local addresses are the kernel's own affair."""
    (link,) = ip("addr", "show", "dev", name, pid=pid)
    addresses = [
        {key: value for key, value in info.items() if key not in ("tentative", "protocol")}
        for info in link["addr_info"]
        if info["scope"] == "global"
    ]
    return {
        "mac": link["address"],
        "mtu": link["mtu"],
        "up": "UP" in link["flags"],
        "addresses": sorted(addresses, key=lambda info: str(info["local"])),
    }


def labels(look: dict[str, Any]) -> list[str]:
    return sorted(info.pop("label") for info in look["addresses"] if "label" in info)


def pins(mountinfo: Path = Path("/proc/self/mountinfo")) -> list[str]:
    lines = mountinfo.read_text().splitlines()
    # Whose names say that they are ours: an engine at work beside us pins namespaces of its own.
    return [line for line in lines if " - nsfs " in line and RUN_PREFIX in line]


def lending(bundle: BundleMaker, devices: dict[str, Any], args: Any = FOREVER) -> Bundle:
    return bundle(args, edit=lambda config: config["linux"].update(netDevices=devices))


def pid_of(container: lc.Container) -> int:
    assert container.pid
    return container.pid


@in_own_network
def test_device_moves_with_everything_and_comes_back(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    make_device()
    before = looks()
    with create(factory, lending(bundle, {"web0": {}})) as container:
        assert names() == {"web0-end"}
        assert looks(pid=pid_of(container)) == before
        container.start()
        assert looks(pid=pid_of(container)) == before
    assert looks() == before
    assert pins() == []


@in_own_network
def test_device_is_renamed_inside_and_has_its_old_name_afterwards(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    make_device()
    before = looks()
    # Names that the other side has are in nobody's way while it moves.
    ip("link", "add", "eth9", "type", "ifb")
    with create(factory, lending(bundle, {"web0": {"name": "eth9"}})) as container:
        inside = looks("eth9", pid=pid_of(container))
        assert labels(inside) == ["eth9", "eth9", "eth9:a"]
        assert names() == {"web0-end", "eth9"}
    after = looks()
    assert after == before
    labels(after)
    assert inside == after


@in_own_network
def test_program_inside_finds_its_device_up(factory: lc.Factory, bundle: BundleMaker) -> None:
    make_device()
    shown = read_inside(
        factory,
        lending(bundle, {"web0": {"name": "net1"}}, sh("ip addr show net1; ip route")),
    ).text
    assert "10.71.0.2/24 brd 10.71.0.255 scope global" in shown
    assert ",UP," in shown
    assert "10.71.0.0/24 dev net1" in shown


@in_own_network
def test_template_becomes_a_free_name(factory: lc.Factory, bundle: BundleMaker) -> None:
    make_device("web0")
    ip("link", "add", "ifx", "type", "ifb")
    devices = {"web0": {"name": "net%d"}, "ifx": {"name": "net%d"}}
    with create(factory, lending(bundle, devices)) as container:
        assert names(pid_of(container)) == {"net0", "net1"}
    assert names() == {"web0", "web0-end", "ifx"}


@in_own_network
def test_only_permanent_global_addresses_travel(factory: lc.Factory, bundle: BundleMaker) -> None:
    make_device()
    ip("addr", "add", "10.73.0.2/24", "dev", "web0", "valid_lft", "900", "preferred_lft", "900")
    ip("addr", "add", "10.74.0.2/24", "dev", "web0", "scope", "host")
    with create(factory, lending(bundle, {"web0": {}})) as container:
        (link,) = ip("addr", "show", "dev", "web0", pid=pid_of(container))
        inside = {info["local"] for info in link["addr_info"] if info["scope"] != "link"}
        assert inside == {"10.71.0.2", "10.71.0.3", "10.72.0.2", "fd71::2"}
    (link,) = ip("addr", "show", "dev", "web0")
    back = {info["local"] for info in link["addr_info"] if info["scope"] != "link"}
    assert back == {*inside, "10.74.0.2"}


@in_own_network
def test_device_that_was_down_comes_back_down_and_to_its_bridge(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "add", "web0", "type", "veth", "peer", "name", "end0")
    ip("link", "set", "web0", "master", "br0")
    with create(factory, lending(bundle, {"web0": {}})) as container:
        assert looks(pid=pid_of(container))["up"]
    (link,) = ip("link", "show", "dev", "web0")
    assert link["master"] == "br0"
    assert "UP" not in link["flags"]


@in_own_network
def test_user_namespace_gets_the_device(factory: lc.Factory, bundle: BundleMaker) -> None:
    make_device()
    before = looks()
    made = lending(bundle, {"web0": {}}, sh("ip link set web0 down && ip link set web0 mtu 1300"))
    add_user_namespace(made.config)
    assert read_inside(factory, made).code in (0, 2)
    assert looks() == before


@in_own_network
@pytest.mark.no_user_namespace("a sysfs of a namespace of the host's cannot be mounted")
def test_joined_namespace_gets_the_device(factory: lc.Factory, bundle: BundleMaker) -> None:
    make_device()
    before = looks()
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        made = lending(bundle, {"web0": {}})
        for namespace in made.linux["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = f"/proc/{other.pid}/ns/net"
        with create(factory, made):
            assert looks(pid=other.pid) == before
        assert names(other.pid) == set()
        other.kill()
    assert looks() == before


# ---- every end -----------------------------------------------------------------------------------


@in_own_network
def test_program_that_ended_leaves_its_devices_to_delete(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    make_device()
    before = looks()
    container = create(factory, lending(bundle, {"web0": {}}, ["true"]))
    container.start()
    assert container.wait(TIMEOUT) == 0
    assert names() == {"web0-end"}
    assert container.status == "stopped"
    container.delete()
    assert looks() == before
    assert pins() == []


@in_own_network
@pytest.mark.parametrize("started", [False, True])
def test_killed_init_loses_no_device(
    factory: lc.Factory, bundle: BundleMaker, started: bool
) -> None:
    make_device()
    before = looks()
    container = create(factory, lending(bundle, {"web0": {"name": "x"}}))
    if started:
        container.start()
    os.kill(pid_of(container), signal.SIGKILL)
    container.wait(TIMEOUT)
    container.delete()
    assert looks() == before


@in_own_network
def test_another_program_in_another_network_gives_back(
    factory: lc.Factory, bundle: BundleMaker, pyrunc: Pyrunc
) -> None:
    make_device()
    before = looks()
    container = create(factory, lending(bundle, {"web0": {}}))
    container.start()
    machine = f"/proc/{os.getpid()}/ns/net"
    command = ["nsenter", f"--net={machine}", *pyrunc.argv("delete", "--force", "one")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")
    assert looks() == before
    assert container.wait(TIMEOUT) == -signal.SIGKILL
    assert pins() == []
    with pytest.raises(lc.NotFoundError):
        container.delete()
    container.__exit__(None, None, None)


@in_own_network
def test_creator_that_died_half_way_loses_no_device(
    factory: lc.Factory, bundle: BundleMaker, state_root: str, tmp_path: Path
) -> None:
    make_device()
    before = looks()
    made = lending(bundle, {"web0": {"name": "x"}})
    with Gate(tmp_path) as gate:
        made.config["hooks"] = {"createRuntime": [hook(gate.script())]}
        made.save()
        with Program(state_root, made, "create()") as program:
            gate.reached()
            assert names() == {"web0-end"}
            program.kill()
    factory.load("one").delete(force=True)
    assert looks() == before
    assert pins() == []


@in_own_network
def test_library_works_in_a_program_with_a_running_loop(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    make_device()
    before = looks()

    async def program() -> None:
        with create(factory, lending(bundle, {"web0": {}})):
            assert names() == {"web0-end"}

    asyncio.run(program())
    assert looks() == before


# ---- what the container did with it --------------------------------------------------------------


@in_own_network
def test_changes_made_inside_end_with_the_container(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    make_device()
    ip("link", "add", "taken", "type", "ifb")
    before = looks()
    with create(factory, lending(bundle, {"web0": {}})) as container:
        pid = pid_of(container)
        ip("link", "set", "web0", "down", pid=pid)
        ip("addr", "flush", "dev", "web0", pid=pid)
        ip("link", "set", "web0", "name", "mine", "mtu", "1300", pid=pid)
        ip("link", "set", "mine", "address", "02:71:00:00:00:08", "promisc", "on", pid=pid)
        # The kernel moves no device whose other names are taken where it goes.
        ip("link", "property", "add", "dev", "mine", "altname", "taken", pid=pid)
        ip("link", "add", "web0", "type", "ifb", pid=pid)
    assert looks() == before
    assert names() == {"web0", "web0-end", "taken"}


@in_own_network
def test_name_that_was_taken_meanwhile_is_kept_clear_of(
    factory: lc.Factory, bundle: BundleMaker, caplog: pytest.LogCaptureFixture
) -> None:
    make_device()
    before = looks()
    with create(factory, lending(bundle, {"web0": {}})):
        ip("link", "add", "web0", "type", "ifb")
    (name,) = names() - {"web0", "web0-end"}
    assert name.startswith("dev")
    assert looks(name) == before
    assert "its name was taken meanwhile" in caplog.text


@in_own_network
def test_device_that_was_deleted_inside_does_not_keep_the_container(
    factory: lc.Factory, bundle: BundleMaker, caplog: pytest.LogCaptureFixture
) -> None:
    make_device()
    container = create(factory, lending(bundle, {"web0": {}}))
    ip("link", "del", "web0", pid=pid_of(container))
    container.delete(force=True)
    assert "$.linux.netDevices.web0: it is no longer in the container" in caplog.text
    assert pins() == []


# ---- all or nothing ------------------------------------------------------------------------------


def assert_refused(factory: lc.Factory, bundle: Bundle, words: str) -> None:
    before, present = looks(), names()
    with pytest.raises(lc.ContainerError, match=words):
        create(factory, bundle)
    assert looks() == before
    assert names() == present
    assert pins() == []
    assert factory.list() == []


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ({"web0": {}, "nope": {}}, r"^\$\.linux\.netDevices\.nope: the host has no such network"),
        ({"web0": {"name": "lo"}}, r"netDevices\.web0: the container has a network device lo al"),
        ({"web0": {"name": "x"}, "lo": {"name": "y"}}, r"netDevices\.lo: cannot move it into the"),
        ({"web0": {"name": "x" * 16}}, r"netDevices\.web0\.name: 'x+' cannot be the name"),
        ({"web0": {"name": "a/b"}}, r"netDevices\.web0\.name: 'a/b' cannot be the name"),
        ({"web0": {"name": "a b"}}, r"netDevices\.web0\.name: 'a b' cannot be the name"),
    ],
)
@in_own_network
def test_refusal_names_the_device_and_nothing_has_moved(
    factory: lc.Factory, bundle: BundleMaker, devices: dict[str, Any], words: str
) -> None:
    make_device()
    assert_refused(factory, lending(bundle, devices), words)


@in_own_network
def test_name_on_the_way_may_be_that_of_another_device(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    make_device()
    ip("link", "add", "ifx", "type", "ifb")
    with create(factory, lending(bundle, {"web0": {"name": "ifx"}, "ifx": {"name": "web0"}})) as it:
        assert looks("ifx", pid=pid_of(it))["mac"] == MAC
    assert looks()["mac"] == MAC


@in_own_network
@pytest.mark.no_user_namespace("a sysfs of a namespace of the host's cannot be mounted")
def test_host_namespace_gets_no_device(factory: lc.Factory, bundle: BundleMaker) -> None:
    make_device()
    made = lending(bundle, {"web0": {}})
    kept = [each for each in made.linux["namespaces"] if each["type"] != "network"]
    made.linux["namespaces"] = kept
    assert_refused(factory, made, r"\$\.linux\.netDevices: .* without a network namespace")
    here = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"
    made.linux["namespaces"] = [*kept, {"type": "network", "path": here}]
    assert_refused(factory, made, r"\$\.linux\.netDevices: .*host's own network namespace")


@in_own_network
def test_failing_hook_and_failing_step_give_back(factory: lc.Factory, bundle: BundleMaker) -> None:
    make_device()
    made = lending(bundle, {"web0": {"name": "x"}})
    made.config["hooks"] = {"createRuntime": [hook("ip link show web0 && exit 0; exit 3")]}
    assert_refused(factory, made, "createRuntime")
    made.config["hooks"] = {"createContainer": [{"path": "/bin/false"}]}
    assert_refused(factory, made, "createContainer")


@in_own_network
def test_pid_file_that_cannot_be_written_gives_back(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    make_device()
    before = looks()
    with pytest.raises(lc.ContainerError, match="pid file"):
        create(factory, lending(bundle, {"web0": {}}), pid_file=str(tmp_path / "no" / "pid"))
    assert looks() == before
    assert pins() == []


@in_own_network
def test_device_that_cannot_be_moved_back_stops_delete_but_not_with_force(
    factory: lc.Factory, bundle: BundleMaker, caplog: pytest.LogCaptureFixture
) -> None:
    make_device()
    container = create(factory, lending(bundle, {"web0": {}}, ["true"]))
    container.start()
    container.wait(TIMEOUT)
    pin = f"{factory.root}/one/netns.host"
    sys_.umount(pin, kernel.MNT_DETACH)
    with pytest.raises(lc.ContainerError, match="no network namespace is mounted on"):
        container.delete()
    assert container.status == "stopped"
    container.delete(force=True)
    assert "no network namespace is mounted on" in caplog.text
    assert pins() == []


# ---- what it costs, and whom ---------------------------------------------------------------------


@pytest.fixture
def shared_root(workspace: Path) -> Iterator[Path]:
    """A state root on a mount that shares its events, as /run is under systemd."""
    path = workspace / "shared"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "--make-shared", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)
    path.rmdir()


@in_own_network
def test_pins_leave_every_mount_namespace_that_they_reached(
    shared_root: Path, bundle: BundleMaker
) -> None:
    make_device()
    before = looks()
    sleep = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", "echo; exec sleep 999"]
    with (
        subprocess.Popen(sleep, stdout=subprocess.PIPE) as other,
        lc.Factory(root=shared_root) as factory,
    ):
        assert other.stdout is not None
        other.stdout.readline()
        seen = Path(f"/proc/{other.pid}/mountinfo")
        with create(factory, lending(bundle, {"web0": {}})):
            assert len(pins(seen)) == 2
        assert pins(seen) == []
        other.kill()
    assert looks() == before


@in_own_network
def test_exec_finds_the_device_too(factory: lc.Factory, bundle: BundleMaker) -> None:
    make_device()
    with create(factory, lending(bundle, {"web0": {}})) as container:
        container.start()
        assert "10.71.0.2/24" in exec_inside(container, ["ip", "addr", "show", "web0"]).text


def test_container_without_devices_loads_none_of_it(state_root: str, bundle: BundleMaker) -> None:
    source = """
with create() as container:
    container.start()
say([name for name in sys.modules if name.startswith("pyroute2") or name in (
    "libpycontainer.network", "libpycontainer.netlink", "libpycontainer.resctrl")])
"""
    with Program(state_root, bundle(FOREVER), source) as program:
        assert program.rest() == "[]"


def test_whoever_may_not_move_devices_is_told(state_root: str, bundle: BundleMaker) -> None:
    made = lending(bundle, {"web0": {}})
    source = "try: create()\nexcept lc.ContainerError as error: say(error)\n"
    command = ["capsh", "--drop=cap_net_admin", "--", "-c"]
    script = f'exec {sys.executable} -c "$0" {state_root} {made.path}'
    done = subprocess.run(
        [*command, script, Program.PRELUDE + source],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.stdout.strip() == (
        "$.linux.netDevices: moving network devices needs the capability CAP_NET_ADMIN"
    )
