"""Paths of the root filesystem that lead elsewhere, or will in a moment."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    add_user_namespace,
    bind,
    create,
    exec_inside,
    read_inside,
    sh,
)
from tests.security.support import Racer, mounts_of, text_or_refusal, tree

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

attack = pytest.mark.attack


def shared_volume(one: Bundle, tmp_path: Path, target: Path) -> tuple[Path, Path]:
    """A volume at /volume that somebody else can change, and the two names in it that change."""
    volume = tmp_path / "volume"
    directory, link = volume / "dir", volume / "link"
    directory.mkdir(parents=True)
    link.symlink_to(target)
    for path in (volume, directory):
        path.chmod(0o777)
    bind(one.config, volume, "/volume")
    return directory, link


def create_in_a_race(factory: lc.Factory, one: Bundle, racer: Racer, times: int) -> list[list[str]]:
    """The mounts of every container that could be created while the racer was at work."""
    mounted, refusals = [], []
    with racer:
        for _ in range(times):
            try:
                with create(factory, one) as container:
                    mounted.append(mounts_of(container.pid))
            except lc.ContainerError as error:
                refusals.append(str(error))
    assert racer.turns > times
    assert [text for text in refusals if "mounts[" not in text] == []
    return mounted


@attack("CVE-2021-30465", "has a mount land on the host by swapping a directory for a link")
@pytest.mark.parametrize("climbing", [False, True])
def test_cve_2021_30465_mount_points_are_swapped(
    state_root: str, bundle: BundleMaker, tmp_path: Path, outside: Path, climbing: bool
) -> None:
    one = bundle(private_rootfs=True)
    target = Path("../" * 30 + str(outside)[1:]) if climbing else outside
    directory, link = shared_volume(one, tmp_path, target)
    (directory / "point").mkdir()
    for number in range(6):
        place = f"/volume/dir/point{number or ''}"
        one.config["mounts"].append(
            {"destination": place, "type": "tmpfs", "source": f"mark{number}"}
        )
    with lc.Factory(root=state_root, warm=True) as factory:
        racer = Racer(directory, link)
        created = create_in_a_race(factory, one, racer, 20)
    for mounts in created:
        # One that had landed outside of the root would have gone with the host's tree.
        for number in range(6):
            assert any(f" mark{number} " in line for line in mounts)
    assert created


@attack("CVE-2024-45310", "has empty files and directories made on the host")
@pytest.mark.parametrize("climbing", [False, True])
def test_cve_2024_45310_parents_are_swapped(
    state_root: str, bundle: BundleMaker, tmp_path: Path, outside: Path, climbing: bool
) -> None:
    one = bundle(private_rootfs=True)
    target = Path("../" * 30 + str(outside)[1:]) if climbing else outside
    directory, link = shared_volume(one, tmp_path, target)
    # Names of its own for each container, so that every one of them has something to make.
    made, refusals = 0, []
    usual = len(one.config["mounts"])
    with lc.Factory(root=state_root, warm=True) as factory, Racer(directory, link):
        for turn in range(20):
            del one.config["mounts"][usual:]
            for name in ("shallow", "deep/below/more"):
                bind(one.config, outside, f"/volume/dir/{name}-{turn}", "ro")
            bind(one.config, "/etc/passwd", f"/volume/dir/file-{turn}", "ro")
            try:
                create(factory, one).delete(force=True)
            except lc.ContainerError as error:
                refusals.append(str(error))
            else:
                made += 1
    assert made
    assert [text for text in refusals if "mounts[" not in text] == []


LOOK_AT_BOTH = """
for place in /proc /fake; do
    head -c 1 $place/kcore
    head -c 1 $place/version
    echo h >$place/sysrq-trigger && echo WRITTEN
    echo '|/bin/evil' >$place/sys/kernel/core_pattern && echo WRITTEN
    test -e $place/self/status && echo "the real one"
done
"""


@attack("CVE-2019-19921", "has /proc mounted elsewhere, and what should be masked left open")
def test_cve_2019_19921_proc_is_swapped(
    state_root: str, bundle: BundleMaker, outside: Path
) -> None:
    one = bundle(sh(LOOK_AT_BOTH), private_rootfs=True)
    one.linux["maskedPaths"] = ["/proc/kcore", "/proc/version"]
    for name in ("proc", "fake"):
        (one.rootfs / name / "sys/kernel").mkdir(parents=True)
        for file in ("kcore", "version", "sysrq-trigger", "sys/kernel/core_pattern"):
            (one.rootfs / name / file).write_text("")
    racer, seen = Racer(one.rootfs / "proc", one.rootfs / "fake"), ""
    with lc.Factory(root=state_root, warm=True) as factory, racer:
        for _ in range(12):
            seen += text_or_refusal(factory, one, stderr=lc.DEVNULL)
    assert racer.turns > 12
    assert "the real one\n" in seen
    assert set(seen.split("the real one\n")) == {""}


def replace_by_link(one: Bundle, name: str, target: str) -> None:
    path = one.rootfs / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.symlink_to(target)


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("spelled", ["/{}", "//{}/", "/etc/../{}", "/./{}/."])
@pytest.mark.parametrize(
    "target",
    [
        pytest.param("elsewhere", marks=attack("CVE-2023-27561", "has /proc mounted elsewhere")),
        pytest.param("/volume", marks=attack("CVE-2023-28642", "has /proc be a volume's link")),
        pytest.param("../../tmp", marks=attack("CVE-2025-54867", "has /proc mounted elsewhere")),
    ],
)
def test_cve_2023_27561_and_kin_kernel_trees_are_links(
    factory: lc.Factory,
    bundle: BundleMaker,
    outside: Path,
    name: str,
    spelled: str,
    target: str,
) -> None:
    one = bundle(private_rootfs=True)
    (one.rootfs / "elsewhere").mkdir()
    replace_by_link(one, name, target)
    bind(one.config, outside, "/volume", "ro")
    one.config["mounts"].insert(0, one.config["mounts"].pop())
    for mount in one.config["mounts"]:
        if mount["destination"] == f"/{name}":
            mount["destination"] = spelled.format(name)
    with pytest.raises(lc.StepError, match=name):
        create(factory, one)
    assert tree(one.rootfs / "elsewhere") == tree(one.rootfs / "tmp") == {}


@attack("CVE-2019-18837", "has a link of the root be a mount's target on the host")
@pytest.mark.parametrize("climbing", [False, True])
@pytest.mark.parametrize("in_user_namespace", [False, True])
def test_cve_2019_18837_mount_targets_are_links(
    factory: lc.Factory,
    bundle: BundleMaker,
    outside: Path,
    climbing: bool,
    in_user_namespace: bool,
) -> None:
    one = bundle(sh("cat /link/made/file; ls -d /link/made/point"), private_rootfs=True)
    if in_user_namespace:
        add_user_namespace(one.config)
        for path in (one.rootfs, *one.rootfs.iterdir()):
            if not path.is_symlink():
                path.chmod(0o777)
    target = Path("../" * 30 + str(outside)[1:]) if climbing else outside
    (one.rootfs / "link").symlink_to(target)
    (one.rootfs / "etc/resolv.conf").symlink_to(target / "resolv.conf")
    (one.rootfs / "etc/hosts").symlink_to(target / "secret")
    mounts = one.config["mounts"]
    mounts.append({"destination": "/link/made/point", "type": "tmpfs", "source": "tmpfs"})
    for place in ("/link/made/file", "/etc/resolv.conf", "/etc/hosts"):
        bind(one.config, "/etc/passwd", place)
    result = read_inside(factory, one)
    assert result.text.startswith("root:")
    assert result.lines[-1] == "/link/made/point"


PLACES_OF_RUNTIME_FILES = (
    ".krun_config.json",
    ".dockerenv",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
    "home/config.json",
    "run/.containerenv",
    "run/secrets",
)


@attack("CVE-2025-24965", "has a file of the runtime's written through a link of the root")
def test_cve_2025_24965_runtime_writes_nothing_into_the_root(
    factory: lc.Factory, bundle: BundleMaker, outside: Path
) -> None:
    one = bundle(FOREVER, private_rootfs=True, edit=lambda c: c["root"].update(readonly=False))
    for name in PLACES_OF_RUNTIME_FILES:
        (one.rootfs / name).symlink_to(outside / "secret")
    before = tree(one.rootfs)
    with create(factory, one) as container:
        container.start()
        exec_inside(container, ["true"])
    assert tree(one.rootfs) == before
