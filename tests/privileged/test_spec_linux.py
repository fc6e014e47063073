"""config.md and config-linux.md: the document as a whole, names, sysctls, hidden paths, memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    add_user_namespace,
    create,
    exec_inside,
    read_inside,
    sh,
    writable_tmp,
)

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker


def with_linux(**changes: Any) -> Any:
    return lambda config: config["linux"].update(changes)


def refusal(factory: lc.Factory, one: Bundle) -> str:
    with pytest.raises(lc.errors.ContainerError) as caught:
        create(factory, one)
    assert factory.list() == []
    return str(caught.value)


def without_namespace(config: dict[str, Any], type: str) -> None:
    rows = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [row for row in rows if row["type"] != type]


# ---- the document ------------------------------------------------------------------------------


def test_unknown_properties_are_ignored(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["true"])
    one.config["org.example.extension"] = {"deep": [1, {"a": None}]}
    for part in (one.config["root"], one.process, one.process["user"], one.linux):
        part["unknown"] = "value"
    one.config["mounts"][0]["unknown"] = [1]
    # Known, but of Windows.
    one.process["commandLine"] = "cmd.exe"
    one.process["user"]["username"] = "containeradministrator"
    one.linux["namespaces"][0]["unknown"] = {}
    one.config["hooks"] = {"prestop": [{"path": "/bin/false"}]}
    assert read_inside(factory, one).code == 0


def test_values_that_are_null_are_absent(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["true"])
    del one.config["hostname"]
    one.config.update(hostname=None, hooks=None, annotations=None, domainname=None)
    one.linux.update(sysctl=None, seccomp=None, intelRdt=None, devices=None, timeOffsets=None)
    assert read_inside(factory, one).code == 0


@pytest.mark.parametrize("platform", ["solaris", "windows", "vm", "zos", "freebsd"])
def test_parts_for_other_platforms_are_ignored_with_a_warning(
    factory: lc.Factory, bundle: BundleMaker, platform: str, caplog: pytest.LogCaptureFixture
) -> None:
    minimal = {"windows": {"layerFolders": ["x"]}, "vm": {"kernel": {"path": "/x"}}}
    one = bundle(["true"])
    one.config[platform] = minimal.get(platform, {})
    assert read_inside(factory, one).code == 0
    assert f"$.{platform}: for another platform than Linux, ignored" in caplog.text


@pytest.mark.parametrize(
    ("change", "path"),
    [
        pytest.param(
            lambda c: (c.pop("linux"), c.pop("hostname")),
            "$.linux: only Linux containers",
            marks=pytest.mark.privileged_caller("the user namespace is missed first"),
        ),
        (lambda c: c.pop("root"), "$.root"),
        (lambda c: c.pop("process"), "$.process"),
        (lambda c: c.pop("ociVersion"), "$.ociVersion"),
        (lambda c: c.update(ociVersion="2.0.0"), "$.ociVersion"),
        (lambda c: c.update(ociVersion="1.0"), "$.ociVersion"),
        (lambda c: c["root"].update(path="not-there"), "$.root.path"),
        (lambda c: c["root"].update(path="/etc/passwd"), "$.root.path"),
        (lambda c: c["root"].pop("path"), "$.root.path"),
        (lambda c: c["mounts"].append({"type": "tmpfs"}), "destination"),
        (lambda c: c["mounts"].append({"destination": "", "type": "tmpfs"}), "destination"),
        (lambda c: c["linux"].update(rootfsPropagation="sideways"), "$.linux.rootfsPropagation"),
        (lambda c: c["linux"].update(cgroupsPath="/a/../b"), "$.linux.cgroupsPath"),
        (lambda c: c["linux"]["namespaces"].append({"type": "magic"}), "namespaces"),
    ],
)
def test_a_value_that_is_none_is_an_error(
    factory: lc.Factory, bundle: BundleMaker, change: Any, path: str
) -> None:
    assert path in refusal(factory, bundle(edit=change))


def test_annotations_are_in_the_state(factory: lc.Factory, bundle: BundleMaker) -> None:
    annotations = {
        "com.example.key": "value",
        "com.example.empty": "",
        "org.opencontainers.image.stopSignal": "SIGUSR1",
        "org.opencontainers.unknown": "ü",
    }
    one = bundle(FOREVER, edit=lambda config: config.update(annotations=annotations))
    with create(factory, one) as container:
        assert container.state()["annotations"] == annotations
        assert factory.load("one").state()["annotations"] == annotations
    one.config["annotations"] = {}
    with create(factory, one) as container:
        assert container.state().get("annotations", {}) == {}


@pytest.mark.parametrize("annotations", [{"": "x"}, {"key": 1}, {"key": None}, ["key"]])
def test_annotations_are_a_map_of_strings(
    factory: lc.Factory, bundle: BundleMaker, annotations: Any
) -> None:
    one = bundle(edit=lambda config: config.update(annotations=annotations))
    assert "$.annotations" in refusal(factory, one)


def test_an_absolute_root_is_used_as_it_is(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(["cat", "/etc/mark"], private_rootfs=True)
    (one.rootfs / "etc/mark").write_text("marked\n")
    assert read_inside(factory, one).text == "marked\n"
    one.config["root"]["path"] = str(one.rootfs)
    assert read_inside(factory, one).text == "marked\n"


# ---- names and sysctls -------------------------------------------------------------------------


def test_host_and_domain_name(factory: lc.Factory, bundle: BundleMaker) -> None:
    before = (os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text())
    one = bundle(sh("hostname; cat /proc/sys/kernel/domainname"))
    one.config.update(hostname="a" * 64, domainname="example.org")
    assert read_inside(factory, one).lines == ["a" * 64, "example.org"]
    assert (os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()) == before


@pytest.mark.parametrize("name", ["hostname", "domainname"])
def test_a_name_needs_a_uts_namespace(factory: lc.Factory, bundle: BundleMaker, name: str) -> None:
    one = bundle()
    without_namespace(one.config, "uts")
    one.config.update(hostname=None, domainname=None)
    one.config[name] = "mine"
    assert f"$.{name}: cannot be set without a uts namespace" in refusal(factory, one)


@pytest.mark.parametrize(
    "user_namespace",
    [pytest.param(False, marks=pytest.mark.no_user_namespace("is without one")), True],
)
def test_sysctls_of_every_namespace(
    factory: lc.Factory, bundle: BundleMaker, user_namespace: bool
) -> None:
    values = {
        "net.ipv4.ip_forward": "1",
        "net/ipv4/conf/lo/forwarding": "0",
        "net.ipv4.ping_group_range": "5 9",
        "kernel.msgmax": "12345",
        "kernel.shm_rmid_forced": "1",
        "fs.mqueue.msg_max": "20",
    }
    if not user_namespace:
        # Which its root may not write there, and domainname is there for.
        values["kernel.domainname"] = "by.sysctl"
    paths = [f"/proc/sys/{name.replace('.', '/')}" for name in values]
    one = bundle(["cat", *paths], edit=with_linux(sysctl=values))
    if user_namespace:
        add_user_namespace(one.config)
    host = [Path(path).read_text() for path in paths]
    found = [line.replace("\t", " ") for line in read_inside(factory, one).lines]
    assert found == list(values.values())
    assert [Path(path).read_text() for path in paths] == host


@pytest.mark.parametrize(
    ("name", "namespace"),
    [
        ("net.ipv4.ip_forward", "network"),
        ("kernel.msgmax", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.domainname", "uts"),
        ("vm.swappiness", ""),
        ("kernel.hostname", ""),
        ("net/../vm/swappiness", ""),
        ("kernel.pid_max", ""),
    ],
)
def test_sysctls_of_the_host_are_refused(
    factory: lc.Factory, bundle: BundleMaker, name: str, namespace: str
) -> None:
    one = bundle(edit=with_linux(sysctl={name: "1"}))
    one.config.pop("hostname")
    without_namespace(one.config, namespace)
    assert "$.linux.sysctl" in refusal(factory, one)


@pytest.mark.parametrize(
    ("name", "words"),
    [("net.ipv4.not_there", "No such file"), ("net.ipv4.ip_forward", "Invalid argument")],
)
def test_a_sysctl_that_cannot_be_set_is_named(
    factory: lc.Factory, bundle: BundleMaker, name: str, words: str
) -> None:
    message = refusal(factory, bundle(edit=with_linux(sysctl={name: "much"})))
    assert words in message
    assert name in message or name.replace(".", "/") in message


# ---- hidden and read-only paths ----------------------------------------------------------------


@pytest.mark.parametrize("user_namespace", [False, True])
def test_masked_paths_are_empty(
    factory: lc.Factory, bundle: BundleMaker, user_namespace: bool
) -> None:
    masked = ["/etc/passwd", "/home", "/proc/keys", "/tmp/link", "/not/there", "/etc/passwd/x"]

    def edit(config: dict[str, Any]) -> None:
        if user_namespace:
            add_user_namespace(config)
        config["linux"]["maskedPaths"] = masked

    one = bundle(sh("cat /etc/passwd /proc/keys; ls -A /home /var; touch /home/x"), edit=edit)
    result = read_inside(factory, one)
    assert [line for line in result.lines if line not in ("/home:", "/var:", "")] == [
        "touch: /home/x: Read-only file system"
    ]


@pytest.mark.parametrize("user_namespace", [False, True])
def test_read_only_paths_are_read_only(
    factory: lc.Factory, bundle: BundleMaker, user_namespace: bool
) -> None:
    def edit(config: dict[str, Any]) -> None:
        if user_namespace:
            add_user_namespace(config)
        writable_tmp(config)
        config["mounts"] += [
            {"destination": f"/tmp/{name}", "type": "tmpfs", "source": "tmpfs"}
            for name in ("a", "a/below", "b")
        ]
        config["linux"]["readonlyPaths"] = ["/tmp/a", "/proc/sys", "/not/there"]

    script = "cd /tmp; touch a/x; touch a/below/x && echo below; touch b/x && echo b"
    result = read_inside(factory, bundle(sh(script), edit=edit))
    # As of runc, and of mount(8): what is mounted below keeps its own attributes.
    assert result.lines == ["touch: a/x: Read-only file system", "below", "b"]


@pytest.mark.parametrize("name", ["maskedPaths", "readonlyPaths"])
def test_hidden_paths_must_be_absolute(factory: lc.Factory, bundle: BundleMaker, name: str) -> None:
    message = refusal(factory, bundle(edit=with_linux(**{name: ["/proc/keys", "etc"]})))
    assert f"$.linux.{name}[1]: 'etc' is not an absolute path" in message


def test_no_symlink_hides_something_of_the_host(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("host's\n")
    one = bundle(["cat", "/etc/passwd"], private_rootfs=True)
    (one.rootfs / "mask").symlink_to(tmp_path / "secret")
    (one.rootfs / "read-only").symlink_to(tmp_path)
    one.linux.update(maskedPaths=["/mask"], readonlyPaths=["/read-only"])
    assert "root" in read_inside(factory, one).text
    assert (tmp_path / "secret").read_text() == "host's\n"
    (tmp_path / "secret").write_text("still writable\n")


# ---- personality, memory -----------------------------------------------------------------------


@pytest.mark.parametrize(("domain", "wanted"), [("LINUX", "00000000"), ("LINUX32", "00000008")])
def test_personality(factory: lc.Factory, bundle: BundleMaker, domain: str, wanted: str) -> None:
    edit = with_linux(personality={"domain": domain})
    with create(factory, bundle(FOREVER, edit=edit)) as container:
        container.start()
        result = exec_inside(
            container, sh("cat /proc/1/personality /proc/self/personality; uname -m")
        )
    assert result.lines[:2] == [wanted, wanted]
    if os.uname().machine == "x86_64":
        assert result.lines[2] == ("i686" if domain == "LINUX32" else "x86_64")


def test_flags_of_the_personality_are_ignored_with_a_warning(
    factory: lc.Factory, bundle: BundleMaker, caplog: pytest.LogCaptureFixture
) -> None:
    edit = with_linux(personality={"domain": "LINUX", "flags": ["X"]})
    assert read_inside(factory, bundle(edit=edit)).code == 0
    assert "$.linux.personality.flags: not supported, ignored" in caplog.text


@pytest.mark.parametrize("personality", [{}, {"domain": "SOLARIS"}])
def test_a_personality_that_is_none_is_refused(
    factory: lc.Factory, bundle: BundleMaker, personality: dict[str, Any]
) -> None:
    message = refusal(factory, bundle(edit=with_linux(personality=personality)))
    assert "$.linux.personality.domain" in message


@pytest.mark.skipif(not Path("/proc/self/numa_maps").exists(), reason="a kernel without NUMA")
@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ({"mode": "MPOL_DEFAULT"}, "default"),
        ({"mode": "MPOL_LOCAL"}, "local"),
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, "interleave:0"),
        ({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}, "weighted interleave:0"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
        ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}, "prefer (many):0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "bind=static:0"),
        (
            {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]},
            "bind=relative:0",
        ),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}, "bind"),
    ],
)
def test_memory_policy(
    factory: lc.Factory, bundle: BundleMaker, policy: dict[str, Any], wanted: str
) -> None:
    one = bundle(["cat", "/proc/self/numa_maps"], edit=with_linux(memoryPolicy=policy))
    result = read_inside(factory, one)
    assert result.code == 0
    # A mode's name may have a space in it.
    found = {line.partition(" ")[2].partition(" ") for line in result.lines}
    assert any(" ".join((word, rest)).startswith(wanted) for word, _, rest in found), result.text


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"mode": "MPOL_BIND", "nodes": "900"}, "set the memory policy MPOL_BIND 900: "),
        ({"mode": "MPOL_BIND"}, "$.linux.memoryPolicy.nodes"),
        ({"mode": "MPOL_LOCAL", "nodes": "0"}, "$.linux.memoryPolicy.nodes"),
        ({"mode": "MPOL_MAGIC"}, "$.linux.memoryPolicy.mode"),
        ({"nodes": "0"}, "$.linux.memoryPolicy.mode"),
        ({"mode": "MPOL_BIND", "nodes": "x"}, "$.linux.memoryPolicy.nodes"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_X"]}, "memoryPolicy.flags[0]"),
    ],
)
def test_a_memory_policy_that_is_none_is_refused(
    factory: lc.Factory, bundle: BundleMaker, policy: dict[str, Any], words: str
) -> None:
    assert words in refusal(factory, bundle(edit=with_linux(memoryPolicy=policy)))


# ---- what is refused whole ---------------------------------------------------------------------


@pytest.mark.skipif(Path("/sys/fs/selinux").exists(), reason="this kernel has SELinux")
def test_a_mount_label_without_selinux_is_refused(factory: lc.Factory, bundle: BundleMaker) -> None:
    edit = with_linux(mountLabel="system_u:object_r:container_file_t:s0")
    message = refusal(factory, bundle(edit=edit))
    assert "$.linux.mountLabel: SELinux is not enabled on this host" in message


def test_mounts_without_a_mount_namespace_are_refused(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle()
    without_namespace(one.config, "mount")
    one.linux.update(maskedPaths=[], readonlyPaths=[])
    before = Path("/proc/self/mountinfo").read_text()
    assert "$.mounts: without a mount namespace" in refusal(factory, one)
    one.config["mounts"] = []
    assert "$.root.readonly: without a mount namespace" in refusal(factory, one)
    assert Path("/proc/self/mountinfo").read_text() == before


def test_the_same_cgroups_path_is_the_same_place(factory: lc.Factory, bundle: BundleMaker) -> None:
    """config-linux.md#cgroups-path: consistently, for one container after the other."""
    one = bundle(FOREVER)
    places = []
    for id in ("first", "second"):
        with create(factory, one, id) as container:
            places.append(Path(f"/proc/{container.pid}/cgroup").read_text())
    assert places[0] == places[1]
    assert one.linux["cgroupsPath"] in places[0]


@pytest.mark.privileged_caller("the groups are the caller's")
def test_the_groups_keep_their_owner(factory: lc.Factory, bundle: BundleMaker) -> None:
    """config-linux.md#cgroup-ownership lets a runtime give them to the container's user."""

    def edit(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        config["linux"]["namespaces"].append({"type": "cgroup"})

    one = bundle(FOREVER)
    without_namespace(one.config, "cgroup")
    edit(one.config)
    with create(factory, one) as container:
        container.start()
        owners = {
            place.stat().st_uid
            for top in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir())
            if (place := Path(f"{top}{one.linux['cgroupsPath']}")).is_dir()
        }
        assert owners == {0}
