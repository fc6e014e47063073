"""A root filesystem that fights back, and every other trap that somebody fell into."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    add_user_namespace,
    bind,
    create,
    exec_inside,
    hook,
    read_inside,
    sh,
    writable_tmp,
)

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

MODULES = ("warnings", "encodings/__init__", "os", "re", "traceback", "linecache", "sitecustomize")


def text_or_refusal(factory: lc.Factory, one: Bundle) -> str:
    """What the bundle writes, or why it was not run."""
    try:
        return read_inside(factory, one).text
    except lc.StepError as error:
        return f"refused: {error}"


def plant(one: Bundle, marker: Path) -> None:
    """Modules that would tell, in every place where a Python could look for them."""
    text = f"open('/{marker.name}', 'w').close()\nimport os; os.system('touch /{marker.name}')\n"
    places = ["", "usr/lib/python3.11", "usr/lib/python3/dist-packages", "usr/local/lib/python3.11"]
    places += [path.lstrip("/") for path in sys.path if path.startswith("/")]
    places.append(str(Path(__file__).parents[2]).lstrip("/"))
    for place in places:
        for module in MODULES:
            path = one.rootfs / place / f"{module}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def test_planted_modules_are_not_executed(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(FOREVER, private_rootfs=True, edit=lambda c: c["root"].update(readonly=False))
    marker = one.rootfs / "executed"
    plant(one, marker)
    with create(factory, one) as container:
        container.start()
        with pytest.raises(lc.ExecutableError):
            container.exec(lc.Process(["no-such-program"]))
        with pytest.raises(lc.StepError):
            container.exec(lc.Process(["true"], cwd="/no/such"))
    for change in (
        {"args": ["no-such-program"]},
        {"args": ["/etc/passwd"]},
        {"cwd": "/etc/passwd"},
    ):
        one.process.update({"args": ["true"], "cwd": "/"} | change)
        with pytest.raises(lc.ContainerError), create(factory, one) as container:
            container.start()
    assert not marker.exists()


@pytest.mark.parametrize(
    "path", ["etc/passwd", "etc/group", "etc/nsswitch.conf", "etc/ld.so.cache"]
)
@pytest.mark.timeout(20)
def test_fifo_in_place_of_a_file_hangs_nobody(
    factory: lc.Factory, bundle: BundleMaker, path: str
) -> None:
    one = bundle(["echo", "runs"], private_rootfs=True)
    (one.rootfs / path).unlink(missing_ok=True)
    os.mkfifo(one.rootfs / path)
    one.process["user"] = {"uid": 1000, "gid": 1000}
    assert read_inside(factory, one).text == "runs\n"


@pytest.mark.timeout(20)
def test_fifo_in_place_of_the_program_is_refused(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["/fifo"], private_rootfs=True)
    os.mkfifo(one.rootfs / "fifo", 0o755)
    with pytest.raises(lc.ExecutableError, match="/fifo"), create(factory, one) as container:
        container.start()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("target", ["/home/x", "/tmp"])
def test_fifo_in_place_of_a_mount_point_hangs_nobody(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, target: str
) -> None:
    (tmp_path / "file").write_text("shown\n")
    one = bundle(["cat", target], private_rootfs=True)
    point = one.rootfs / target.lstrip("/")
    if point.is_dir():
        point.rmdir()
    os.mkfifo(point)
    bind(one.config, tmp_path / "file", target)
    assert read_inside(factory, one).text == "shown\n"


@pytest.mark.no_user_namespace("devices cannot be made")
def test_symlinks_of_the_root_lead_nowhere_on_the_host(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    one = bundle(["true"], private_rootfs=True, edit=lambda c: c["root"].update(readonly=False))
    for name, target in (("absolute", str(outside)), ("relative", "../" * 20 + str(outside)[1:])):
        (one.rootfs / name).symlink_to(target)
        one.config["mounts"].append(
            {"destination": f"/{name}/made/point", "type": "tmpfs", "source": "tmpfs"}
        )
        bind(one.config, "/etc/passwd", f"/{name}/made/file")
    one.process["cwd"] = "/absolute/cwd"
    one.linux["devices"] = [{"path": "/absolute/device", "type": "c", "major": 1, "minor": 3}]
    read_inside(factory, one)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("kind", ["node", "file", "symlink"])
@pytest.mark.no_user_namespace("devices are the host's, bound over whatever lies there")
def test_what_lies_in_place_of_a_device_is_never_used(
    factory: lc.Factory, bundle: BundleMaker, kind: str
) -> None:
    # Without a tmpfs on /dev the root's own files lie where the devices belong.
    one = bundle(["stat", "-c", "%F %t:%T", "/dev/null"], private_rootfs=True)
    mounts = one.config["mounts"]
    one.config["mounts"] = [m for m in mounts if not m["destination"].startswith("/dev")]
    null = one.rootfs / "dev/null"
    if kind == "node":
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 1))
    elif kind == "file":
        null.write_text("planted")
    else:
        null.symlink_to("/etc/passwd")
    text = text_or_refusal(factory, one)
    assert text == "character special file 1:3\n" or "/dev/null" in text
    assert (one.rootfs / "etc/passwd").read_text().startswith("root:")


@pytest.mark.privileged_caller("makes a device")
def test_hosts_terminals_are_not_reached_through_a_planted_ptmx(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(["readlink", "/dev/ptmx"], private_rootfs=True)
    mounts = one.config["mounts"]
    one.config["mounts"] = [m for m in mounts if not m["destination"].startswith("/dev")]
    os.mknod(one.rootfs / "dev/ptmx", stat.S_IFCHR | 0o666, os.makedev(5, 2))
    assert read_inside(factory, one).text == "pts/ptmx\n"


def test_masked_and_read_only_paths_may_be_anything(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    one = bundle(["true"], private_rootfs=True)
    (one.rootfs / "loop").symlink_to("loop")
    (one.rootfs / "dangling").symlink_to("/no/such")
    os.mkfifo(one.rootfs / "fifo")
    paths = ["/dangling", "/fifo", "/no/such", "/etc/passwd/below"]
    one.linux["maskedPaths"] = paths
    one.linux["readonlyPaths"] = paths
    assert read_inside(factory, one).code == 0


@pytest.mark.privileged_caller("init cannot be traced until it has become the program")
def test_waiting_init_is_not_dumpable(factory: lc.Factory, bundle: BundleMaker) -> None:
    with create(factory, bundle(FOREVER)) as container:
        pid = container.pid
        # A process that is not dumpable belongs to root, whoever it runs as.
        assert os.stat(f"/proc/{pid}/fd").st_uid == 0
        assert os.stat(f"/proc/{pid}/mem").st_uid == 0
        spied = exec_inside(
            container, sh("cat /proc/1/environ; readlink /proc/1/exe; ls -l /proc/1/fd; true")
        )
    # Not even root inside has the right (CAP_SYS_PTRACE) to look.
    assert "can't open '/proc/1/environ': Permission denied" in spied.text
    for word in ("python", "socket:", "memfd", "->"):
        assert word not in spied.text


@pytest.mark.privileged_caller("init cannot be looked at, for that it is not dumpable")
def test_init_holds_no_descriptor_of_the_host_while_it_waits(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    with create(factory, bundle(FOREVER)) as container:
        root = os.stat(f"/proc/{container.pid}/root")
        for name in os.listdir(f"/proc/{container.pid}/fd"):
            found = os.stat(f"/proc/{container.pid}/fd/{name}")
            if stat.S_ISDIR(found.st_mode):
                assert (found.st_dev, found.st_ino) == (root.st_dev, root.st_ino), name


@pytest.mark.parametrize("count", [1, 2, 30])
def test_failure_is_reported_whatever_descriptors_are_passed(
    factory: lc.Factory, bundle: BundleMaker, count: int
) -> None:
    # They are put in their places before the last things that can fail: not in the line's own.
    one = bundle(FOREVER, private_rootfs=True)
    (one.rootfs / "junk").write_text("neither ELF nor script")
    (one.rootfs / "junk").chmod(0o755)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        passed = [theirs.fileno()] * count
        with create(factory, one) as container:
            container.start()
            with pytest.raises(lc.ExecutableError, match="exec format"):
                container.exec(lc.Process(["/junk"], pass_fds=passed))
            with pytest.raises(lc.StepError, match="/no/such"):
                container.exec(lc.Process(["true"], cwd="/no/such", pass_fds=passed))
        one.process["args"] = ["/junk"]
        with create(factory, one, pass_fds=passed) as container:
            with pytest.raises(lc.ExecutableError, match="exec format"):
                container.start()
            assert container.status == "stopped"
        # And no word of the conversation goes to whoever is at the other end of them.
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(1000)


def test_no_pivot_moves_the_root(factory: lc.Factory, bundle: BundleMaker) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    one = bundle(
        sh("ls -d /proc/1 /bin/busybox; cat /proc/mounts | wc -l; ls /proc | grep -c '^[0-9]'")
    )
    plain, moved = (read_inside(factory, one, no_pivot=no_pivot) for no_pivot in (False, True))
    assert plain.code == moved.code == 0
    assert plain.lines[:2] == moved.lines[:2] == ["/bin/busybox", "/proc/1"]
    assert Path("/proc/self/mountinfo").read_text() == before


def test_state_root_longer_than_a_sockets_path(bundle: BundleMaker, tmp_path: Path) -> None:
    root = Path(tmp_path, *["a-long-name" * 5] * 4)
    assert len(str(root)) > 200
    with lc.Factory(root=root) as factory, create(factory, bundle(["true"])) as container:
        assert container.status == "created"
        container.start()
        assert container.wait(TIMEOUT) == 0


def test_id_of_the_greatest_length(factory: lc.Factory, bundle: BundleMaker) -> None:
    name = "x" * 255
    assert read_inside(factory, bundle(["echo", "runs"]), name).text == "runs\n"


def test_id_of_the_greatest_length_in_the_default_group(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(["echo", "runs"], edit=lambda c: c["linux"].pop("cgroupsPath"))
    assert read_inside(factory, one, "y" * 255).text == "runs\n"


@pytest.mark.parametrize("name", ["-", "--help", "+", "...", "a.b_c+d-e", "state.json"])
def test_odd_names_are_names(factory: lc.Factory, bundle: BundleMaker, name: str) -> None:
    with create(factory, bundle(["true"]), name) as container:
        assert [found.id for found in factory.list()] == [name]
        container.start()
        assert container.wait(TIMEOUT) == 0


def test_large_configuration(factory: lc.Factory, bundle: BundleMaker) -> None:
    # Greater than a packet (208 KiB), and with more mounts than a packet has descriptors (253).
    def enlarge(config: dict[str, Any]) -> None:
        config["process"]["env"] += [f"NAME{number}={'x' * 1000}" for number in range(600)]
        config["annotations"] = {f"key{number}": "y" * 1000 for number in range(300)}
        writable_tmp(config)
        for number in range(300):
            bind(config, "/etc/passwd", f"/tmp/{number}", "ro")

    result = read_inside(factory, bundle(sh("env | grep -c ^NAME; ls /tmp | wc -l"), edit=enlarge))
    assert result.lines == ["600", "300"]


def test_large_configuration_in_a_user_namespace(factory: lc.Factory, bundle: BundleMaker) -> None:
    # There every one of the mounts is a descriptor.
    def enlarge(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        writable_tmp(config)
        for number in range(300):
            bind(config, "/etc/passwd", f"/tmp/{number}", "ro")

    assert read_inside(factory, bundle(sh("ls /tmp | wc -l"), edit=enlarge)).text == "300\n"


def test_hook_cannot_redirect_what_comes_after_it(factory: lc.Factory, bundle: BundleMaker) -> None:
    # Between the mounts and the switch a rival may swap directories for symlinks (CVE-2021-30465).
    one = bundle(["ls", "/proc/1/comm"], private_rootfs=True)
    swap = f"mv {one.rootfs}/etc {one.rootfs}/was; ln -s /usr {one.rootfs}/etc"
    one.config["hooks"] = {"createRuntime": [hook(swap)]}
    one.linux["readonlyPaths"] += ["/etc"]
    one.linux["maskedPaths"] += ["/etc/passwd"]
    before = Path("/proc/self/mountinfo").read_text()
    assert read_inside(factory, one).text == "/proc/1/comm\n"
    assert Path("/proc/self/mountinfo").read_text() == before
