"""The null device and the terminal: what is bound over files of the kernel's."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests import ways
from tests.privileged.support import TIMEOUT, bind, create, sh
from tests.security.support import Racer, text_or_refusal, tree

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

attack = pytest.mark.attack


def without_dev(one: Bundle) -> None:
    """No tmpfs on /dev: the root's own files lie there."""
    mounts = one.config["mounts"]
    one.config["mounts"] = [m for m in mounts if not m["destination"].startswith("/dev")]


def put(path: Path, kind: str, target: str = "") -> None:
    """Replace a path by a file, a link, nothing, or a device that is not the null device."""
    path.parent.mkdir(exist_ok=True)
    if path.is_symlink() or path.exists():
        path.unlink()
    if kind == "file":
        path.write_text("planted\n")
    elif kind == "link":
        path.symlink_to(target)
    elif kind == "zero":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        path.chmod(0o666)


@pytest.mark.parametrize(
    "kind",
    [
        "file",
        "link",
        "missing",
        pytest.param("zero", marks=pytest.mark.privileged_caller("makes a device")),
    ],
)
@pytest.mark.parametrize(
    "how",
    [
        pytest.param("root", marks=attack("CVE-2025-31133", "has a link uncover a masked file")),
        pytest.param("bound", marks=attack("CVE-2025-31133", "has a link uncover a masked file")),
        pytest.param("file", marks=attack("CVE-2025-62161", "has a file uncover a masked one")),
    ],
)
def test_cve_2025_31133_null_device_is_something_else(
    factory: lc.Factory,
    bundle: BundleMaker,
    tmp_path: Path,
    outside: Path,
    kind: str,
    how: str,
) -> None:
    script = "head -c 20 /proc/cpuinfo; echo x >/proc/sys/kernel/core_pattern; cat /etc/passwd"
    one = bundle(sh(script), private_rootfs=True)
    one.linux["maskedPaths"] = ["/proc/cpuinfo", "/etc/passwd", "/proc/sys/kernel/core_pattern"]
    one.linux["readonlyPaths"] = []
    target = "/proc/sys/kernel/core_pattern"
    if how == "file":
        if kind in ("link", "missing"):
            pytest.skip("nothing that can be bound")
        put(tmp_path / "null", kind)
        bind(one.config, tmp_path / "null", "/dev/null")
    else:
        without_dev(one)
        put(one.rootfs / "dev/null", kind, target)
        if how == "bound":
            bind(one.config, one.rootfs / "dev", "/dev")
    text = text_or_refusal(factory, one, stderr=lc.DEVNULL)
    # Made by the runtime; or in a user namespace the host's, bound over what lies there.
    bound_over = ways.WAY != "root" and kind != "link"
    if (how == "file" and bound_over) or (how == "root" and (bound_over or kind == "missing")):
        assert text == ""
    else:
        assert text.startswith("refused: ")
        assert "dev/null" in text


@attack("CVE-2025-31133", "has a link uncover a masked file")
@pytest.mark.privileged_caller("makes a device")
def test_cve_2025_31133_null_device_is_swapped(
    state_root: str, bundle: BundleMaker, outside: Path
) -> None:
    one = bundle(sh("head -c 20 /proc/cpuinfo; cat /etc/passwd"), private_rootfs=True)
    one.linux["maskedPaths"] = ["/proc/cpuinfo", "/etc/passwd"]
    without_dev(one)
    device, link = one.rootfs / "dev/null", one.rootfs / "dev/link"
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    link.symlink_to("/proc/sys/kernel/core_pattern")
    bind(one.config, one.rootfs / "dev", "/dev")
    racer, seen = Racer(device, link), []
    with lc.Factory(root=state_root, warm=True) as factory, racer:
        for _ in range(20):
            seen.append(text_or_refusal(factory, one))
    assert racer.turns > 20
    assert all(text == "" or text.startswith("refused: ") for text in seen)
    assert "" in seen


@pytest.mark.parametrize(
    "climbing",
    [
        pytest.param(False, marks=attack("CVE-2026-41579", "has files of a host's directory gone")),
        pytest.param(True, marks=attack("CVE-2026-47766", "has files of a host's directory gone")),
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
def test_cve_2026_41579_and_47766_dev_is_a_link(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, climbing: bool, terminal: bool
) -> None:
    """runc and crun: "ptmx" was removed where the link led, and links were made there."""
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o777)
    victim.chmod(0o777)
    (victim / "ptmx").write_text("the host's\n")
    one = bundle(["true"], private_rootfs=True)
    one.process["terminal"] = terminal
    one.config["root"]["readonly"] = False
    without_dev(one)
    (one.rootfs / "dev").rmdir()
    (one.rootfs / "dev").symlink_to("../" * 30 + str(victim)[1:] if climbing else victim)
    before = tree(victim)
    try:
        create(factory, one).delete(force=True)
    except lc.ContainerError:
        pass
    assert tree(victim) == before
    # Inside there is such a path now: what the link says, taken from the container's root.
    made = one.rootfs / str(victim).lstrip("/")
    assert (made / "ptmx").is_symlink()


@attack("CVE-2025-52565", "has the terminal be bound over a file of the kernel's")
@pytest.mark.parametrize(
    "target", ["/proc/sys/kernel/core_pattern", "/proc/version", "/etc/passwd"]
)
@pytest.mark.parametrize("name", ["console", "pts/0", "pts/ptmx", "pts"])
def test_cve_2025_52565_terminals_names_are_links(
    factory: lc.Factory, bundle: BundleMaker, outside: Path, name: str, target: str
) -> None:
    script = """
exec 2>&1
stat -L -c '%t:%T' /dev/console
head -c 4 /proc/cpuinfo
head -c 4 /proc/version
echo '|/bin/evil' >/proc/sys/kernel/core_pattern
echo end
"""
    one = bundle(sh(script), private_rootfs=True)
    one.process["terminal"] = True
    one.linux["maskedPaths"] = ["/proc/cpuinfo", "/proc/version"]
    kept = {"/proc", "/sys"} | ({"/dev/pts"} if name == "console" else set())
    one.config["mounts"] = [m for m in one.config["mounts"] if m["destination"] in kept]
    place = one.rootfs / "dev" / name
    if name == "pts":
        place.symlink_to("/proc/sys")
    else:
        put(place, "link", target)
    before = tree(one.rootfs / "etc")
    if name == "console":
        text = terminal_output(factory, one)
        # Where the link leads is the terminal now, for the container alone; masked if it was.
        assert text.startswith("1:3" if "version" in target else "88:0")
        expected = "|/bin/evil" if "core" in target else "Read-only file system"
        assert text.splitlines()[1].endswith(expected)
    else:
        with pytest.raises(lc.StepError, match="terminal"):
            terminal_output(factory, one)
    assert tree(one.rootfs / "etc") == before


def terminal_output(factory: lc.Factory, one: Bundle) -> str:
    """What a container writes to its terminal, up to the word "end"."""
    with create(factory, one) as container:
        container.start()
        process = container.process
        assert process is not None
        assert process.console is not None
        text = ""
        while "end" not in text:
            text += os.read(process.console, 4096).decode()
        assert container.wait(TIMEOUT) == 0
        return text
