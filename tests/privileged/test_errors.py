"""Bad input: one clear sentence, an exception of its own type, and nothing left."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    bind,
    children,
    create,
    exec_inside,
    groups_left,
)

if TYPE_CHECKING:
    from tests.conftest import BundleMaker


@pytest.fixture(autouse=True)
def nothing_left(factory: lc.Factory) -> Iterator[None]:
    before = children()
    yield
    assert children() == before
    if os.path.isdir(factory.root):
        assert os.listdir(factory.root) == []


def test_missing_bundle(factory: lc.Factory, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "config.json"
    with pytest.raises(lc.ContainerError, match=str(path)):
        factory.create("one", str(path), bundle=tmp_path / "missing")


def test_broken_json(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle()
    (one.path / "config.json").write_text('{"ociVersion": "1.0.2", "process": {')
    with pytest.raises(lc.SpecError, match=r"config\.json.*(JSON|line 1)"):
        factory.create("one", str(one.path / "config.json"), bundle=one)


def test_wrong_type_deep_inside(factory: lc.Factory, bundle: BundleMaker) -> None:
    def damage(config: dict[str, Any]) -> None:
        config["linux"]["resources"]["memory"] = {"limit": "much"}
        config["process"]["rlimits"][0]["soft"] = "x"

    with pytest.raises(lc.SpecError) as caught:
        create(factory, bundle(edit=damage))
    text = str(caught.value)
    assert "$.linux.resources.memory.limit" in text
    assert "$.process.rlimits[0].soft" in text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_text(""), "is not a directory"),
        (lambda path: path.symlink_to(path), "does not exist|symbolic links"),
    ],
    ids=["missing", "file", "loop"],
)
def test_useless_rootfs(
    factory: lc.Factory, bundle: BundleMaker, make: Callable[[Path], object], words: str
) -> None:
    one = bundle(edit=lambda c: c.update(root={"path": "elsewhere"}))
    make(one.path / "elsewhere")
    with pytest.raises(lc.SpecError, match=rf"\$\.root\.path.*({words})"):
        create(factory, one)
    assert groups_left(one.linux["cgroupsPath"]) == []


@pytest.mark.parametrize(
    ("args", "words", "number"),
    [
        (["nothing"], "executable file not found", errno.ENOENT),
        (["/no/such"], "no such file", errno.ENOENT),
        (["/etc/passwd"], "permission denied", errno.EACCES),
        (["/etc"], "permission denied", errno.EACCES),
        (["./relative"], "no such file", errno.ENOENT),
    ],
)
def test_useless_command_fails_create(
    factory: lc.Factory, bundle: BundleMaker, args: list[str], words: str, number: int
) -> None:
    one = bundle(args)
    with pytest.raises(lc.ExecutableError, match=words) as caught:
        create(factory, one)
    assert args[0] in str(caught.value)
    assert caught.value.errno == number
    assert groups_left(one.linux["cgroupsPath"]) == []


def test_script_without_its_interpreter_fails_start(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(["/script"], private_rootfs=True)
    (one.rootfs / "script").write_text("#!/no/such/interpreter\n")
    (one.rootfs / "script").chmod(0o755)
    with create(factory, one) as container:
        with pytest.raises(lc.ExecutableError, match=r"/script.*interpreter") as caught:
            container.start()
        assert caught.value.errno == errno.ENOENT
        assert container.status == "stopped"


def test_file_that_is_no_program_fails_start(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["/junk"], private_rootfs=True)
    (one.rootfs / "junk").write_text("neither ELF nor script")
    (one.rootfs / "junk").chmod(0o755)
    with create(factory, one) as container:
        with pytest.raises(lc.ExecutableError, match="exec format") as caught:
            container.start()
        assert caught.value.errno == errno.ENOEXEC


@pytest.mark.parametrize(
    "user", [{"uid": "app", "gid": 0}, {"uid": -1, "gid": 0}, {"uid": 1 << 32, "gid": 0}]
)
def test_bad_user(factory: lc.Factory, bundle: BundleMaker, user: dict[str, Any]) -> None:
    with pytest.raises(lc.SpecError, match=r"\$\.process\.user\.uid"):
        create(factory, bundle(edit=lambda c: c["process"].update(user=user)))


def test_existing_id(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        with pytest.raises(lc.AlreadyExistsError, match="one"):
            create(factory, bundle(FOREVER))
        assert container.status == "running"


@pytest.mark.parametrize(
    "id", ["", ".", "..", "a//b", "../x", "a b", "a\0b", "ä", "x" * 256, "a\n"]
)
def test_invalid_id(factory: lc.Factory, bundle: BundleMaker, id: str) -> None:
    with pytest.raises(lc.InvalidIDError):
        create(factory, bundle(), id)
    with pytest.raises(lc.InvalidIDError):
        factory.load(id)


def test_unknown_id(factory: lc.Factory) -> None:
    with pytest.raises(lc.NotFoundError, match="unknown"):
        factory.load("unknown")


def test_state_root_with_a_file_in_the_way(bundle: BundleMaker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file/below"):
        factory = lc.Factory(root=root)
        with pytest.raises(lc.ContainerError, match=str(root)):
            create(factory, bundle())
        with pytest.raises(lc.ContainerError):
            factory.load("one")
        with pytest.raises(lc.ContainerError, match=str(root)):
            factory.list()


@pytest.mark.privileged_caller("mounts on the host")
def test_state_root_on_a_read_only_mount(bundle: BundleMaker, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(tmp_path)], check=True)
    try:
        factory = lc.Factory(root=tmp_path / "root")
        with pytest.raises(lc.ContainerError, match="Read-only file system") as caught:
            create(factory, bundle())
        assert caught.value.errno == errno.EROFS
        assert factory.list() == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_unreadable_record_can_still_be_cleared(factory: lc.Factory, bundle: BundleMaker) -> None:
    # What a power cut leaves of a file that was just written.
    (Path(factory.root) / "broken").mkdir(parents=True)
    (Path(factory.root) / "broken/state.json").write_text("")
    with create(factory, bundle(FOREVER)) as container:
        assert {"one", "broken"} >= {found.id for found in factory.list()} >= {"one"}
        assert container.status == "created"
    factory.load("broken").delete(force=True)


def test_name_without_a_record_is_typed_errors_only(factory: lc.Factory) -> None:
    (Path(factory.root) / "empty").mkdir(parents=True)
    container = factory.load("empty")
    uses: list[Callable[[], object]] = [
        container.state,
        container.processes,
        container.stats,
        container.wait,
        container.start,
        container.pause,
        lambda: container.signal(15),
        lambda: container.signal(15, all=True),
        lambda: container.exec(lc.Process(["true"])),
        lambda: container.spec,
    ]
    for use in uses:
        try:
            use()
        except lc.ContainerError:
            continue
    container.delete(force=True)


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ({"destination": "/tmp", "type": "nonsensefs", "source": "x"}, "mount nonsensefs on /tmp"),
        (
            {"destination": "/tmp", "type": "tmpfs", "source": "x", "options": ["nonsense=1"]},
            "mount tmpfs on /tmp.*nonsense",
        ),
        pytest.param(
            {"destination": "/tmp", "source": "/no/such", "options": ["bind"]},
            "bind /no/such on /tmp.*No such file",
            marks=pytest.mark.no_user_namespace("sources are opened before the first step"),
        ),
        (
            {"destination": "/new/one", "type": "tmpfs", "source": "x", "options": ["size=bad"]},
            "mount tmpfs on /new/one",
        ),
    ],
    ids=["type", "option", "source", "value"],
)
def test_bad_mount_names_its_step(
    factory: lc.Factory, bundle: BundleMaker, mount: dict[str, Any], words: str
) -> None:
    one = bundle(private_rootfs=True, edit=lambda c: c["mounts"].append(mount))
    with pytest.raises(lc.StepError, match=rf"step \d+/\d+: mounts\[7\]: {words}") as caught:
        create(factory, one)
    assert 0 < caught.value.step <= caught.value.total
    assert caught.value.errno != 0
    assert groups_left(one.linux["cgroupsPath"]) == []


def test_bind_mount_of_a_directory_on_a_file(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    one = bundle(edit=lambda c: bind(c, tmp_path, "/etc/passwd"))
    with pytest.raises(lc.StepError, match="/etc/passwd"):
        create(factory, one)


def test_mount_point_that_cannot_be_made(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(edit=lambda c: bind(c, "/usr", "/etc/passwd/below"))
    with pytest.raises(lc.StepError, match=r"/etc/passwd/below.*Not a directory"):
        create(factory, one)


def test_working_directory_that_is_a_file(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(edit=lambda c: c["process"].update(cwd="/etc/passwd"))
    with pytest.raises(lc.StepError, match="/etc/passwd"), create(factory, one) as container:
        container.start()


def test_cgroup_in_use_is_refused_and_left_alone(factory: lc.Factory, bundle: BundleMaker) -> None:
    # The one that sits in it must not be taken for what a failed creation has to clean up.
    first, second = bundle(FOREVER), bundle(FOREVER)
    second.linux["cgroupsPath"] = first.linux["cgroupsPath"]
    with create(factory, first) as container:
        container.start()
        with pytest.raises(lc.CgroupError, match=r"not empty|in use"):
            create(factory, second, "two")
        assert container.status == "running"
        assert container.processes() == [container.pid]
        assert exec_inside(container, ["true"]).code == 0
        assert [found.id for found in factory.list()] == ["one"]


def test_limit_that_the_kernel_refuses(factory: lc.Factory, bundle: BundleMaker) -> None:
    def limit(config: dict[str, Any]) -> None:
        config["linux"]["resources"]["cpu"] = {"cpus": "4000-5000"}

    one = bundle(edit=limit)
    with pytest.raises(lc.CgroupError, match=r"\$\.linux\.resources\.cpu\.cpus"):
        create(factory, one)
    assert groups_left(one.linux["cgroupsPath"]) == []


def test_memory_limit_too_small_to_start_with(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(edit=lambda c: c["linux"]["resources"].update(memory={"limit": 4096}))
    with pytest.raises(lc.ContainerError, match="memory"):
        create(factory, one)
    assert groups_left(one.linux["cgroupsPath"]) == []


def test_namespace_path_of_another_type(factory: lc.Factory, bundle: BundleMaker) -> None:
    def join(config: dict[str, Any]) -> None:
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] == "ipc":
                namespace["path"] = "/proc/self/ns/uts"

    with pytest.raises(lc.SpecError, match="ipc"):
        create(factory, bundle(edit=join))


@pytest.mark.parametrize("path", ["/etc/passwd", "/no/such", "/dev/tty", "fifo"])
def test_namespace_path_that_is_none(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, path: str
) -> None:
    os.mkfifo(tmp_path / "fifo")

    def join(config: dict[str, Any]) -> None:
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = str(tmp_path / path) if path == "fifo" else path

    with pytest.raises(lc.SpecError, match="network"):
        create(factory, bundle(edit=join))


def test_unknown_sysctl(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(edit=lambda c: c["linux"].update(sysctl={"net.no_such": "1"}))
    with pytest.raises(lc.ContainerError, match=r"no_such|sysctl"):
        create(factory, one)


@pytest.mark.parametrize(
    "path",
    ["/no/such", "/etc/passwd", "/bin/true"],
)
def test_useless_interpreter(state_root: str, bundle: BundleMaker, path: str) -> None:
    with pytest.raises(lc.ContainerError, match=path):
        create(lc.Factory(root=state_root, interpreter=path), bundle())


def test_every_problem_is_told_at_once(factory: lc.Factory, bundle: BundleMaker) -> None:
    def damage(config: dict[str, Any]) -> None:
        config["process"]["cwd"] = "relative"
        config["process"]["args"] = []
        config["hostname"] = "x"
        config["linux"]["namespaces"] = [{"type": "mount"}]

    with pytest.raises(lc.SpecError) as caught:
        create(factory, bundle(edit=damage))
    paths = {problem.path for problem in caught.value.problems}
    assert {"$.process.cwd", "$.process.args", "$.hostname"} <= paths


def test_document_that_is_no_document(factory: lc.Factory) -> None:
    for document in ({}, {"ociVersion": "1.0.2"}, "[]", "null", {"args": Path("/")}, 5, None):
        with pytest.raises(lc.ContainerError):
            factory.create("one", document)
