"""What the runtime writes to /proc, and who else might be written to instead."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests import ways
from tests.privileged.support import FOREVER, TIMEOUT, add_user_namespace, bind, create, hook
from tests.security.support import tree

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

TTL = "net.ipv4.ip_default_ttl"
HOST_TTL = Path("/proc/sys/net/ipv4/ip_default_ttl")

attack = pytest.mark.attack


def planted_proc(one: Bundle, place: Path) -> None:
    """A directory that looks like a procfs to whoever only writes to it, and leads elsewhere."""
    for name in ("self/attr/apparmor", "sys/net/ipv4", "sys/kernel", "thread-self/attr", "1"):
        (place / name).mkdir(parents=True)
    for name in (
        "self/attr/exec",
        "self/attr/apparmor/exec",
        "self/oom_score_adj",
        "self/uid_map",
        "sys/kernel/core_pattern",
        "1/oom_score_adj",
    ):
        (place / name).write_text("")
    (place / "sys/net/ipv4/ip_default_ttl").symlink_to("../../../sysrq-trigger")
    (place / "sysrq-trigger").write_text("")


def ttl_of(pid: int) -> str:
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "cat", str(HOST_TTL)]
    if ways.WAY == "user":
        command[1:1] = [f"--user=/proc/{pid}/ns/user", "--preserve-credentials"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("kind", ["bind", "tmpfs", "proc/sys", "proc/self"])
@pytest.mark.parametrize(
    "in_user_namespace",
    [
        pytest.param(
            False,
            marks=attack("CVE-2019-16884", "has writes to /proc go into a volume's file"),
        ),
        pytest.param(
            True,
            marks=attack("CVE-2025-52881", "has writes to /proc go to another file of the kernel"),
        ),
    ],
)
def test_cve_2019_16884_and_2025_52881_proc_is_a_volume(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, kind: str, in_user_namespace: bool
) -> None:
    one = bundle(FOREVER)
    planted = tmp_path / "planted"
    planted_proc(one, planted)
    if in_user_namespace:
        add_user_namespace(one.config)
    for path in (tmp_path, *planted.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o777)
    one.process["oomScoreAdj"] = 321
    one.linux["sysctl"] = {TTL: "33"}
    one.linux.update(maskedPaths=[], readonlyPaths=[])
    if kind == "tmpfs":
        one.config["mounts"].append({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"})
    elif kind == "bind":
        bind(one.config, planted, "/proc")
    else:
        bind(one.config, planted / kind.removeprefix("proc/"), f"/{kind}")
    before, ttl = tree(planted), HOST_TTL.read_text()
    with create(factory, one) as container:
        container.start()
        # What was asked for was done by the kernel, not by whatever lies at the path.
        assert Path(f"/proc/{container.pid}/oom_score_adj").read_text() == "321\n"
        assert ttl_of(container.pid) == "33"
    assert tree(planted) == before
    assert HOST_TTL.read_text() == ttl


@attack("CVE-2025-52881", "has writes to /proc go to another file of the kernel")
@pytest.mark.parametrize("place", ["/proc", "/proc/sys", "/proc/sys/net/ipv4/ip_default_ttl"])
def test_cve_2025_52881_no_procfs_of_ones_own_can_be_made(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, place: str
) -> None:
    # In a user namespace with the host's processes only the container's /proc is there to use.
    one = bundle()
    planted = tmp_path / "planted"
    planted_proc(one, planted)
    add_user_namespace(one.config)
    one.linux["namespaces"] = [each for each in one.linux["namespaces"] if each["type"] != "pid"]
    one.config["mounts"] = [m for m in one.config["mounts"] if m["destination"] != "/proc"]
    one.linux.update(maskedPaths=[], readonlyPaths=[], sysctl={TTL: "33"})
    if place != "/proc":
        one.config["mounts"].append(
            {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}
        )
    source = planted / place.removeprefix("/proc").lstrip("/")
    bind(one.config, planted / "1/oom_score_adj" if source.is_symlink() else source, place)
    before, ttl = tree(planted), HOST_TTL.read_text()
    with pytest.raises(lc.StepError, match="sysctl"):
        create(factory, one)
    assert tree(planted) == before
    assert HOST_TTL.read_text() == ttl


@attack("CVE-2025-52881", "has writes to /proc go to another file of the kernel")
def test_cve_2025_52881_procfs_is_swapped_before_the_sysctls(
    factory: lc.Factory, bundle: BundleMaker, outside: Path
) -> None:
    one = bundle(FOREVER, private_rootfs=True)
    planted_proc(one, one.rootfs / "planted")
    rootfs = one.rootfs
    swap = f"mv {rootfs}/proc {rootfs}/was && mv {rootfs}/planted {rootfs}/proc"
    one.config["hooks"] = {"createRuntime": [hook(swap)]}
    one.linux["sysctl"] = {TTL: "33"}
    before = tree(rootfs / "planted")
    with create(factory, one) as container:
        container.start()
        assert ttl_of(container.pid) == "33"
    assert tree(rootfs / "proc") == before


@attack("CVE-2025-62596", "has exec's writes to /proc go into a file of the container's")
def test_cve_2025_62596_exec_writes_to_a_planted_proc(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    planted = tmp_path / "planted"
    one = bundle(FOREVER)
    planted_proc(one, planted)
    bind(one.config, planted, "/proc")
    one.linux.update(maskedPaths=[], readonlyPaths=[])
    before = tree(planted)
    with create(factory, one) as container:
        container.start()
        asked = lc.Process(FOREVER, oom_score_adj=345, stdin=lc.DEVNULL, stdout=lc.DEVNULL)
        with container.exec(asked) as process:
            assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "345\n"
            process.kill()
            process.wait(TIMEOUT)
    assert tree(planted) == before
