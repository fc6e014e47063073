"""config-linux.md, namespaces: new ones, joined ones, the caller's own; id mappings; clocks."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer.host import NAMESPACE_FILES
from tests.privileged.support import (
    FOREVER,
    add_user_namespace,
    create,
    exec_inside,
    read_inside,
    sh,
)

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

SHOW = sh("for name in pid net mnt ipc uts user cgroup time; do readlink /proc/self/ns/$name; done")


def namespaces_of(pid: int | str) -> dict[str, str]:
    """By the specification's types, what /proc says about a process."""
    return {type: os.readlink(f"/proc/{pid}/ns/{file}") for type, file in NAMESPACE_FILES.items()}


def shown(result: Any) -> dict[str, str]:
    return dict(zip(NAMESPACE_FILES, result.lines, strict=True))


def list_all(config: dict[str, Any]) -> None:
    """One new namespace of each type."""
    config["linux"]["namespaces"] = [
        {"type": type} for type in ("pid", "network", "mount", "ipc", "uts", "cgroup", "time")
    ]
    add_user_namespace(config)


def join(config: dict[str, Any], type: str, path: str) -> None:
    """Have ``config`` join ``path`` in place of whatever it says about that type."""
    namespaces = [each for each in config["linux"]["namespaces"] if each["type"] != type]
    config["linux"]["namespaces"] = [*namespaces, {"type": type, "path": path}]


@pytest.fixture
def neighbour(factory: lc.Factory, bundle: BundleMaker) -> Iterator[lc.Container]:
    """A running container with a new namespace of every type."""

    def edit(config: dict[str, Any]) -> None:
        list_all(config)
        config["hostname"] = "neighbour"
        config["linux"]["timeOffsets"] = {"monotonic": {"secs": 500}}

    with create(factory, bundle(FOREVER, edit=edit), "neighbour") as container:
        container.start()
        yield container


def test_every_listed_type_is_new(factory: lc.Factory, bundle: BundleMaker) -> None:
    found = shown(read_inside(factory, bundle(SHOW, edit=list_all)))
    own = namespaces_of("self")
    assert [type for type in found if found[type] == own[type]] == []


@pytest.mark.no_user_namespace("lists them without a user namespace")
def test_types_that_are_not_listed_are_the_callers(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"] = [{"type": "mount"}]
        del config["hostname"]

    found = shown(read_inside(factory, bundle(SHOW, edit=edit)))
    own = namespaces_of("self")
    assert [type for type in found if found[type] != own[type]] == ["mount"]


@pytest.mark.parametrize("type", ["network", "ipc", "uts", "cgroup", "time", "pid"])
@pytest.mark.no_user_namespace("they are those of another user namespace")
def test_a_namespace_of_another_container_is_joined(
    factory: lc.Factory, bundle: BundleMaker, type: str
) -> None:
    def plain(config: dict[str, Any]) -> None:
        list_all(config)
        config["linux"]["namespaces"].pop()
        del config["linux"]["uidMappings"], config["linux"]["gidMappings"]

    with create(factory, bundle(FOREVER, edit=plain), "first") as first:
        first.start()
        path = f"/proc/{first.pid}/ns/{NAMESPACE_FILES[type]}"

        def edit(config: dict[str, Any]) -> None:
            del config["hostname"]
            join(config, type, path)

        found = shown(read_inside(factory, bundle(SHOW, edit=edit), "second"))
        assert found[type] == namespaces_of(first.pid)[type]
        theirs = namespaces_of(first.pid)["mount"]
        assert found["mount"] not in (theirs, namespaces_of("self")["mount"])


@pytest.mark.privileged_caller("ids are mapped for root")
def test_the_user_and_pid_namespaces_of_another_container_are_joined(
    neighbour: lc.Container, factory: lc.Factory, bundle: BundleMaker
) -> None:
    def edit(config: dict[str, Any]) -> None:
        for type in ("user", "pid"):
            join(config, type, f"/proc/{neighbour.pid}/ns/{type}")

    script = (
        "for name in user pid; do readlink /proc/self/ns/$name; done;"
        "cat /proc/1/comm; id -u; cat /proc/self/uid_map"
    )
    result = read_inside(factory, bundle(sh(script), edit=edit), "second")
    theirs = namespaces_of(neighbour.pid)
    assert result.lines[:4] == [theirs["user"], theirs["pid"], "sleep", "0"]
    assert result.lines[4].split() == ["0", "300000", "65536"]
    assert neighbour.status == "running"


def test_every_namespace_of_another_container_but_its_mounts_is_joined(
    neighbour: lc.Container, factory: lc.Factory, bundle: BundleMaker
) -> None:
    def edit(config: dict[str, Any]) -> None:
        del config["hostname"]
        for type, file in NAMESPACE_FILES.items():
            if type != "mount":
                join(config, type, f"/proc/{neighbour.pid}/ns/{file}")

    one = bundle(sh(f"hostname; {SHOW[2]}"), edit=edit)
    result = read_inside(factory, one, "second")
    assert result.lines[0] == "neighbour"
    found = dict(zip(NAMESPACE_FILES, result.lines[1:], strict=True))
    theirs = namespaces_of(neighbour.pid)
    assert [type for type in found if found[type] != theirs[type]] == ["mount"]


@pytest.mark.privileged_caller("ids are mapped for root")
def test_mappings_that_a_joined_user_namespace_has_already_are_only_a_warning(
    neighbour: lc.Container,
    factory: lc.Factory,
    bundle: BundleMaker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def edit(config: dict[str, Any]) -> None:
        add_user_namespace(config, first=700_000)
        join(config, "user", f"/proc/{neighbour.pid}/ns/user")

    result = read_inside(factory, bundle(["cat", "/proc/self/uid_map"], edit=edit), "second")
    assert result.text.split() == ["0", "300000", "65536"]
    assert "$.linux.uidMappings" in caplog.text


@pytest.mark.no_user_namespace("it is that of another user namespace")
def test_a_mount_namespace_is_joined_and_keeps_its_mounts(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    command = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs kept /mnt; echo; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            inside = os.readlink(f"/proc/{holder.pid}/ns/mnt")
            one = bundle(["readlink", "/proc/self/ns/mnt"])
            join(one.config, "mount", f"/proc/{holder.pid}/ns/mnt")
            assert read_inside(factory, one).text.strip() == inside
        finally:
            holder.send_signal(signal.SIGKILL)


@pytest.mark.no_user_namespace("it is that of another user namespace")
def test_a_namespace_that_is_kept_by_a_bind_mount_is_joined(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    kept = tmp_path / "network"
    kept.touch()
    subprocess.run(["unshare", f"--net={kept}", "true"], check=True)
    try:
        one = bundle(["readlink", "/proc/self/ns/net"])
        join(one.config, "network", str(kept))
        assert read_inside(factory, one).text.strip() == f"net:[{os.stat(kept).st_ino}]"
    finally:
        subprocess.run(["umount", str(kept)], check=True)


def refused(factory: lc.Factory, one: Bundle) -> str:
    with pytest.raises(lc.errors.SpecError) as caught:
        create(factory, one)
    assert factory.list() == []
    return str(caught.value)


@pytest.mark.parametrize("type", NAMESPACE_FILES)
def test_a_path_of_another_type_is_refused(
    factory: lc.Factory, bundle: BundleMaker, type: str
) -> None:
    other = "uts" if type != "uts" else "ipc"
    one = bundle()
    path = f"/proc/self/ns/{other}"
    join(one.config, type, path)
    message = refused(factory, one)
    assert f"{path} is not a {type} namespace" in message
    assert f"$.linux.namespaces[type={type}].path" in message


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/etc/passwd", "is not a network namespace"),
        ("/dev/null", "is not a network namespace"),
        ("/proc/self/ns", "is not a network namespace"),
        ("/not/there", "No such file or directory"),
        ("proc/self/ns/net", "is not an absolute path"),
    ],
)
def test_a_path_that_is_no_namespace_is_refused(
    factory: lc.Factory, bundle: BundleMaker, path: str, words: str
) -> None:
    one = bundle()
    join(one.config, "network", path)
    assert words in refused(factory, one)


def test_a_fifo_in_place_of_a_namespace_does_not_hang(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    one = bundle()
    join(one.config, "uts", str(tmp_path / "fifo"))
    assert "is not a uts namespace" in refused(factory, one)


def test_a_type_that_is_given_twice_is_refused(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle()
    one.linux["namespaces"].append({"type": "pid"})
    assert "pid is given twice" in refused(factory, one)


# ---- id mappings -------------------------------------------------------------------------------


@pytest.mark.privileged_caller("maps ids that are not the user's")
def test_mappings_of_several_ranges(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    uids = [(0, 300_000, 1000), (1000, 400_000, 1), (2000, 500_000, 10)]
    gids = [(0, 310_000, 1000), (1000, 410_000, 1)]

    def edit(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        names = ("containerID", "hostID", "size")
        config["linux"]["uidMappings"] = [dict(zip(names, row, strict=True)) for row in uids]
        config["linux"]["gidMappings"] = [dict(zip(names, row, strict=True)) for row in gids]
        config["process"]["user"] = {"uid": 2003, "gid": 1000, "additionalGids": [7]}
        config["mounts"].append(
            {"destination": "/tmp", "source": str(tmp_path), "options": ["bind"]}
        )

    script = (
        "cat /proc/self/uid_map; echo; cat /proc/self/gid_map; echo;id -u; id -G; touch /tmp/mine"
    )
    result = read_inside(factory, bundle(sh(script), edit=edit))
    maps = [[int(word) for word in line.split()] for line in result.lines[:3]]
    assert maps == [list(row) for row in uids]
    maps = [[int(word) for word in line.split()] for line in result.lines[4:6]]
    assert maps == [list(row) for row in gids]
    assert result.lines[7:] == ["2003", "1000 7"]
    status = (tmp_path / "mine").stat()
    assert (status.st_uid, status.st_gid) == (500_003, 410_000)


def test_the_owners_of_the_root_filesystem_are_left_alone(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(["true"], private_rootfs=True, edit=add_user_namespace)
    one.config["root"]["readonly"] = False

    def owners() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.lstat().st_uid, path.lstat().st_gid)
            for path in [one.rootfs, *one.rootfs.rglob("*")]
        }

    before = owners()
    assert read_inside(factory, one).code == 0
    after = owners()
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize(
    ("user", "path"),
    [
        ({"uid": 70_000, "gid": 0}, "$.process.user.uid"),
        ({"uid": 0, "gid": 70_000}, "$.process.user.gid"),
        ({"uid": 0, "gid": 0, "additionalGids": [5, 70_000]}, "additionalGids[1]"),
    ],
)
def test_an_id_without_a_mapping_is_refused(
    factory: lc.Factory, bundle: BundleMaker, user: dict[str, Any], path: str
) -> None:
    one = bundle(edit=add_user_namespace)
    one.process["user"] = user
    assert path in refused(factory, one)


@pytest.mark.privileged_caller("newuidmap refuses them first")
def test_mappings_that_the_kernel_refuses_are_quoted(
    factory: lc.Factory, bundle: BundleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checks before it leave hardly any; so the last line of them is taken out here."""
    monkeypatch.setattr("libpycontainer.creation.check", lambda spec, facts: None)
    one = bundle(edit=add_user_namespace)
    one.linux["uidMappings"] = [{"containerID": 0, "hostID": 5, "size": 0}]
    with pytest.raises(
        lc.errors.ContainerError, match=r"cannot write '0 5 0' to /proc/\d+/uid_map"
    ):
        create(factory, one)


# ---- clocks ------------------------------------------------------------------------------------


def test_the_clocks_are_offset(factory: lc.Factory, bundle: BundleMaker) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "time"})
        config["linux"]["timeOffsets"] = {
            "boottime": {"secs": 7_000_000, "nanosecs": 250_000_000},
            "monotonic": {"secs": 100_000},
        }

    def uptime() -> float:
        return float(Path("/proc/uptime").read_text().split()[0])

    before = uptime()
    result = read_inside(
        factory, bundle(["cat", "/proc/self/timens_offsets", "/proc/uptime"], edit=edit)
    )
    rows = [line.split() for line in result.lines]
    assert rows[0] == ["monotonic", "100000", "0"]
    assert rows[1] == ["boottime", "7000000", "250000000"]
    assert before + 7_000_000 <= float(rows[2][0]) <= uptime() + 7_000_001


def test_a_clock_may_go_behind_the_hosts(factory: lc.Factory, bundle: BundleMaker) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "time"})
        config["linux"]["timeOffsets"] = {"boottime": {"secs": -5}, "monotonic": {"secs": -5}}

    result = read_inside(factory, bundle(["cat", "/proc/self/timens_offsets"], edit=edit))
    assert [line.split()[1] for line in result.lines] == ["-5", "-5"]


def test_the_clocks_belong_to_the_user_namespace(factory: lc.Factory, bundle: BundleMaker) -> None:
    def edit(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        config["linux"]["namespaces"].append({"type": "time"})
        config["linux"]["timeOffsets"] = {"monotonic": {"secs": 1}}

    with create(factory, bundle(FOREVER, edit=edit)) as container:
        container.start()
        result = exec_inside(container, ["cat", "/proc/self/timens_offsets"])
        assert result.lines[0].split() == ["monotonic", "1", "0"]


def test_clocks_that_the_kernel_refuses_are_quoted(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "time"})
        config["linux"]["timeOffsets"] = {"boottime": {"secs": -(2**40)}}

    with pytest.raises(lc.errors.ContainerError, match=r"cannot write '7 -1099511627776 0' to"):
        create(factory, bundle(edit=edit))
    assert factory.list() == []


def test_offsets_without_a_new_time_namespace_are_refused(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle()
    one.linux["timeOffsets"] = {"boottime": {"secs": 1}}
    assert "$.linux.timeOffsets" in refused(factory, one)
    join(one.config, "time", "/proc/self/ns/time")
    assert "cannot be set" in refused(factory, one)
