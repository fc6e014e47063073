"""config.md, mounts: every option of its table, mount points, propagation, id-mapped mounts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import libpycontainer as lc
from tests import ways
from tests.privileged.support import (
    FOREVER,
    Program,
    Result,
    add_user_namespace,
    bind,
    create,
    read_inside,
    sh,
    writable_tmp,
)

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

MOUNTINFO = ("cat", "/proc/self/mountinfo")


class Row(NamedTuple):
    """One line of mountinfo (man 5 proc_pid_mountinfo)."""

    root: str
    options: set[str]
    propagation: set[str]
    kind: str
    source: str
    superblock: set[str]

    def attributes(self) -> set[str]:
        return self.options - {"rw"}


def rows(text: str) -> dict[str, Row]:
    """By mount point; of several on one place, the last is what is seen."""
    table = {}
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        _, _, _, root, point, options, *propagation = fields.split()
        kind, source, superblock = rest.split(" ", 2)
        names = {word.partition(":")[0] for word in propagation}
        table[point] = Row(
            root, set(options.split(",")), names, kind, source, set(superblock.split(","))
        )
    return table


def tmpfs(destination: str, *options: str) -> dict[str, Any]:
    return {
        "destination": destination,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": list(options),
    }


def mounted(factory: lc.Factory, bundle: BundleMaker, *mounts: dict[str, Any]) -> dict[str, Row]:
    """The mounts of a container that has these in a tmpfs of its own at /tmp."""

    def edit(config: dict[str, Any]) -> None:
        writable_tmp(config)
        config["mounts"] += mounts

    result = read_inside(factory, bundle(MOUNTINFO, edit=edit))
    assert result.code == 0, result.text
    return rows(result.text)


def refusal(factory: lc.Factory, one: Bundle) -> str:
    with pytest.raises(lc.errors.ContainerError) as caught:
        create(factory, one)
    assert factory.list() == []
    return str(caught.value)


# ---- the table of options ----------------------------------------------------------------------

RELATIME = {"relatime"}
ATTRIBUTES: dict[str, set[str]] = {
    "": RELATIME,
    "defaults": RELATIME,
    "ro": {"ro", "relatime"},
    "ro,rw": RELATIME,
    "nosuid": {"nosuid", "relatime"},
    "nosuid,suid": RELATIME,
    "nodev": {"nodev", "relatime"},
    "nodev,dev": RELATIME,
    "noexec": {"noexec", "relatime"},
    "noexec,exec": RELATIME,
    "nodiratime": {"nodiratime", "relatime"},
    "nodiratime,diratime": RELATIME,
    "nosymfollow": {"nosymfollow", "relatime"},
    "nosymfollow,symfollow": RELATIME,
    "noatime": {"noatime"},
    "noatime,atime": RELATIME,
    "relatime": RELATIME,
    "norelatime": RELATIME,
    "strictatime": set(),
    "strictatime,nostrictatime": RELATIME,
    "noatime,relatime": RELATIME,
    "ro,nosuid,nodev,noexec,noatime": {"ro", "nosuid", "nodev", "noexec", "noatime"},
}
WITHOUT_EFFECT = ("silent", "loud", "iversion", "noiversion", "acl", "noacl", "async", "nomand")


def test_options_of_a_new_file_system(factory: lc.Factory, bundle: BundleMaker) -> None:
    cases = {**ATTRIBUTES, **dict.fromkeys(WITHOUT_EFFECT, RELATIME)}
    mounts = [tmpfs(f"/tmp/{words or 'none'}", *words.split(",")) for words in cases]
    table = mounted(factory, bundle, *mounts)
    found = {words: table[f"/tmp/{words or 'none'}"].attributes() for words in cases}
    assert found == cases


@pytest.mark.privileged_caller("the host's way to note access times is locked")
def test_options_of_a_bind_mount(factory: lc.Factory, bundle: BundleMaker, tmp_path: Path) -> None:
    source = {"source": str(tmp_path), "type": "none"}
    cases = {**ATTRIBUTES, **dict.fromkeys(WITHOUT_EFFECT, RELATIME)}
    # A directory of the host's: what is not named is taken over from there.
    table = mounted(
        factory,
        bundle,
        *(
            {
                **source,
                "destination": f"/tmp/{words or 'none'}",
                "options": ["bind", *words.split(",")],
            }
            for words in cases
        ),
    )
    host = table["/tmp/none"].attributes()
    assert host <= {"relatime", "noatime", "nodiratime"}
    atime = ("atime", "ro", "defaults")
    for words, wanted in cases.items():
        found = table[f"/tmp/{words or 'none'}"].attributes()
        if any(word in words for word in atime) and "noatime" not in words:
            continue
        assert found - host == wanted - host, words


SUPERBLOCK = ("sync", "dirsync", "lazytime")


def test_options_of_the_superblock(factory: lc.Factory, bundle: BundleMaker) -> None:
    mounts = [tmpfs(f"/tmp/{word}", word) for word in (*SUPERBLOCK, "mand")]
    mounts.append(tmpfs("/tmp/off", "lazytime", "nolazytime", "sync", "async"))
    table = mounted(factory, bundle, *mounts)
    for word in SUPERBLOCK:
        assert word in table[f"/tmp/{word}"].superblock
    assert not table["/tmp/off"].superblock & {*SUPERBLOCK, "mand"}


RECURSIVE: dict[str, tuple[str, bool]] = {
    "rro": ("ro", True),
    "rro,rrw": ("ro", False),
    "rnosuid": ("nosuid", True),
    "rnosuid,rsuid": ("nosuid", False),
    "rnodev": ("nodev", True),
    "rnodev,rdev": ("nodev", False),
    "rnoexec": ("noexec", True),
    "rnoexec,rexec": ("noexec", False),
    "rnodiratime": ("nodiratime", True),
    "rnodiratime,rdiratime": ("nodiratime", False),
    "rnosymfollow": ("nosymfollow", True),
    "rnosymfollow,rsymfollow": ("nosymfollow", False),
    "rnoatime": ("noatime", True),
    "rnoatime,ratime": ("noatime", False),
    "rrelatime": ("relatime", True),
    "rstrictatime": ("relatime", False),
    "rnoatime,rrelatime": ("noatime", False),
    "rstrictatime,rnostrictatime": ("relatime", True),
}


@pytest.mark.privileged_caller("the host's way to note access times is locked")
def test_recursive_options_reach_every_mount_below(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    mounts = [
        {
            "destination": f"/tmp/{words}",
            "source": "/sys",
            "options": ["rbind", *words.split(",")],
        }
        for words in RECURSIVE
    ]
    table = mounted(factory, bundle, *mounts)
    for words, (attribute, wanted) in RECURSIVE.items():
        top = f"/tmp/{words}"
        tree = [point for point in table if point == top or point.startswith(f"{top}/")]
        assert len(tree) > 1
        assert {attribute in table[point].options for point in tree} == {wanted}, words


@pytest.mark.privileged_caller("the host's way to note access times is locked")
def test_an_option_without_r_stays_at_the_top(factory: lc.Factory, bundle: BundleMaker) -> None:
    table = mounted(
        factory,
        bundle,
        {"destination": "/tmp/x", "source": "/sys", "options": ["rbind", "nodiratime"]},
        {"destination": "/tmp/y", "source": "/sys", "options": ["bind"]},
    )
    assert "nodiratime" in table["/tmp/x"].options
    below = [point for point in table if point.startswith("/tmp/x/")]
    assert below
    assert not any("nodiratime" in table[point].options for point in below)
    assert not any(point.startswith("/tmp/y/") for point in table)


def test_a_recursive_option_of_a_new_file_system_is_its_own(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    table = mounted(factory, bundle, tmpfs("/tmp/x", "rnoexec", "rnosymfollow"))
    assert table["/tmp/x"].attributes() == {"noexec", "nosymfollow", "relatime"}


PROPAGATION = {
    "private": set(),
    "rprivate": set(),
    "shared": {"shared"},
    "rshared": {"shared"},
    "slave": set(),
    "rslave": set(),
    "unbindable": {"unbindable"},
    "runbindable": {"unbindable"},
    "slave,shared": {"shared"},
    "shared,slave": {"master"},
}


def test_propagation_of_each_mount(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    mounts = [tmpfs(f"/tmp/{words}", *words.split(",")) for words in PROPAGATION]
    for words in PROPAGATION:
        mounts.append(
            {
                "destination": f"/tmp/b-{words}",
                "source": str(tmp_path),
                "options": ["rbind", *words.split(",")],
            }
        )
    table = mounted(factory, bundle, *mounts)
    # A lone group has nobody to be the slave of: it becomes private.
    lone = {**PROPAGATION, "shared,slave": set()}
    assert {words: table[f"/tmp/{words}"].propagation for words in PROPAGATION} == lone
    for words, wanted in PROPAGATION.items():
        assert table[f"/tmp/b-{words}"].propagation - {"master"} == wanted - {"master"}


@pytest.mark.no_user_namespace("the kernel shows the host's ids")
def test_unknown_options_go_to_the_file_system(factory: lc.Factory, bundle: BundleMaker) -> None:
    table = mounted(factory, bundle, tmpfs("/tmp/x", "size=4m,nr_inodes=20", "uid=7", "mode=0710"))
    assert {"size=4096k", "nr_inodes=20", "uid=7", "mode=710"} <= table["/tmp/x"].superblock


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (tmpfs("/tmp", "bogus=1"), ("mount tmpfs on /tmp", "Unknown parameter 'bogus'")),
        (tmpfs("/tmp", "bogus"), ("mount tmpfs on /tmp", "Unknown parameter 'bogus'")),
        (tmpfs("/tmp", "size=much"), ("mount tmpfs on /tmp", "Bad value for 'size'")),
        (
            {"destination": "/tmp", "type": "no-such", "source": "x"},
            ("mount no-such on /tmp", "this kernel knows no file system of that type"),
        ),
        ({"destination": "/tmp", "type": "ext4", "source": "/dev/null"}, ("mount ext4 on /tmp",)),
        (
            {"destination": "/tmp", "source": "/not/there", "options": ["bind"]},
            ("bind /not/there on /tmp", "No such file or directory"),
        ),
    ],
)
def test_a_mount_that_cannot_be_made_is_named(
    factory: lc.Factory, bundle: BundleMaker, mount: dict[str, Any], words: tuple[str, ...]
) -> None:
    message = refusal(factory, bundle(edit=lambda config: config["mounts"].append(mount)))
    for word in words:
        assert word in message


def test_file_system_options_of_a_bind_mount_are_refused(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(edit=lambda config: bind(config, "/etc", "/tmp", "size=1m"))
    number = len(one.config["mounts"]) - 1
    assert f"$.mounts[{number}].options[1]" in refusal(factory, one)


# ---- mount points ------------------------------------------------------------------------------


def test_mounts_are_made_in_the_listed_order(factory: lc.Factory, bundle: BundleMaker) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["mounts"] += [
            tmpfs("/tmp/hidden"),
            tmpfs("/tmp", "size=1m"),
            tmpfs("/tmp/shown", "size=2m"),
            tmpfs("/tmp/shown", "size=3m"),
        ]

    one = bundle(
        sh("cat /proc/self/mountinfo; ls /tmp >/dev/stderr"), edit=edit, private_rootfs=True
    )
    one.config["root"]["readonly"] = False
    result = read_inside(factory, one)
    points = [line.split()[4] for line in result.lines if " - " in line]
    mine = [point for point in points if point.startswith("/tmp")]
    assert mine == ["/tmp/hidden", "/tmp", "/tmp/shown", "/tmp/shown"]
    assert rows("\n".join(line for line in result.lines if " - " in line))[
        "/tmp/shown"
    ].superblock >= {"size=3072k"}
    assert result.lines[-1] == "shown"


def test_a_relative_destination_counts_from_the_root(
    factory: lc.Factory, bundle: BundleMaker, caplog: pytest.LogCaptureFixture
) -> None:
    one = bundle(MOUNTINFO, edit=lambda config: config["mounts"].append(tmpfs("tmp", "size=1m")))
    assert rows(read_inside(factory, one).text)["/tmp"].superblock >= {"size=1024k"}
    assert "not an absolute path, taken as below /" in caplog.text


def test_mount_points_are_made(factory: lc.Factory, bundle: BundleMaker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("inside\n")
    one = bundle(["cat", "/one/two/three"], private_rootfs=True)
    bind(one.config, tmp_path / "file", "/one/two/three")
    one.config["mounts"].append(tmpfs("/four/five"))
    previous = os.umask(0o077)
    try:
        assert read_inside(factory, one).text == "inside\n"
    finally:
        os.umask(previous)
    modes = {
        path: oct((one.rootfs / path).stat().st_mode & 0o7777)
        for path in ("one", "one/two", "one/two/three", "four", "four/five")
    }
    assert modes == {
        "one": "0o755",
        "one/two": "0o755",
        "one/two/three": "0o644",
        "four": "0o755",
        "four/five": "0o755",
    }


def test_a_file_is_mounted_onto_a_file(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    (tmp_path / "passwd").write_text("mine\n")
    one = bundle(["cat", "/etc/passwd"], edit=lambda c: bind(c, tmp_path / "passwd", "/etc/passwd"))
    assert read_inside(factory, one).text == "mine\n"


@pytest.mark.parametrize(("source", "target"), [("file", "/etc"), ("", "/etc/passwd")])
def test_a_file_and_a_directory_cannot_cover_each_other(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, source: str, target: str
) -> None:
    (tmp_path / "file").touch()
    one = bundle(edit=lambda config: bind(config, tmp_path / source, target))
    assert f"on {target}" in refusal(factory, one)


def test_a_mount_point_below_a_file_is_refused(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(edit=lambda config: config["mounts"].append(tmpfs("/etc/passwd/x")))
    message = refusal(factory, one)
    assert "mount tmpfs on /etc/passwd/x" in message
    assert "Not a directory" in message


@pytest.mark.parametrize("destination", ["/link", "/link/below"])
def test_no_symlink_leads_out(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, destination: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "source").mkdir()
    ways.own(tmp_path / "source")
    look = ["find", "/", "-path", "/proc", "-prune", "-o", "-name", "outside", "-print"]
    one = bundle(look, private_rootfs=True)
    (one.rootfs / "link").symlink_to("../" * 20 + str(outside).lstrip("/"))
    bind(one.config, tmp_path / "source", destination)
    one.config["mounts"].append(tmpfs(f"{destination}/more"))
    assert read_inside(factory, one).lines == [str(outside)]
    assert list(outside.iterdir()) == []
    assert (one.rootfs / str(outside).lstrip("/")).is_dir()


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        # What /proc shows as a link is no path but the host's own file, wherever that lies.
        ("/proc/self/cwd/x", "Too many levels of symbolic links"),
        ("/loop", "Too many levels of symbolic links"),
        ("/loop/x", "Too many levels of symbolic links"),
    ],
)
def test_a_link_that_leads_nowhere_sound_is_refused(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, destination: str, words: str
) -> None:
    one = bundle(private_rootfs=True)
    (one.rootfs / "loop").symlink_to("other")
    (one.rootfs / "other").symlink_to("loop")
    bind(one.config, tmp_path, destination)
    message = refusal(factory, one)
    assert f"on {destination}" in message
    assert words in message


@pytest.mark.parametrize("kind", ["proc", "sysfs"])
def test_proc_and_sysfs_are_mounted_on_plain_directories_only(
    factory: lc.Factory, bundle: BundleMaker, kind: str
) -> None:
    one = bundle(private_rootfs=True)
    (one.rootfs / "link").symlink_to("tmp")
    one.config["mounts"].append({"destination": "/link", "type": kind, "source": kind})
    message = refusal(factory, one)
    assert f"mount {kind} on /link" in message
    assert "symbolic links" in message


def test_a_destination_is_resolved_below_the_mounts_before_it(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    """A volume may bring links of its own: they count from the container's root too."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/link").symlink_to("/tmp/target")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("found\n")
    one = bundle(["cat", "/tmp/target/file"], private_rootfs=True)
    bind(one.config, tmp_path / "volume", "/volume")
    bind(one.config, tmp_path / "source", "/volume/link")
    assert read_inside(factory, one).text == "found\n"
    assert not Path("/tmp/target").exists()


# ---- what is mounted ---------------------------------------------------------------------------


@pytest.mark.privileged_caller("what is mounted below may not be uncovered")
def test_rbind_takes_the_mounts_below_along_and_bind_does_not(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    table = mounted(
        factory,
        bundle,
        {"destination": "/tmp/whole", "source": "/sys", "options": ["rbind"]},
        {"destination": "/tmp/alone", "source": "/sys", "options": ["bind"]},
    )
    assert any(point.startswith("/tmp/whole/") for point in table)
    assert not any(point.startswith("/tmp/alone/") for point in table)


def test_the_type_of_a_bind_mount_means_nothing(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("read\n")
    for type in ("none", "bind", "ext4", "tmpfs", "cgroup", ""):
        one = bundle(["cat", "/tmp/file"])
        one.config["mounts"].append(
            {"destination": "/tmp", "type": type, "source": str(tmp_path), "options": ["bind"]}
        )
        assert read_inside(factory, one).text == "read\n", type


def test_a_message_queue_file_system_is_the_containers_own(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    script = "touch /dev/mqueue/queue && ls /dev/mqueue; cat /dev/mqueue/queue; mount | grep mqueue"
    for edit in (lambda config: None, add_user_namespace):
        result = read_inside(factory, bundle(sh(script), edit=edit))
        assert result.lines[0] == "queue"
        assert result.lines[1].startswith("QSIZE:0")
        assert "nosuid" in result.lines[2]


@pytest.mark.no_user_namespace("the kernel shows the host's ids")
def test_each_devpts_is_an_instance_of_its_own(factory: lc.Factory, bundle: BundleMaker) -> None:
    table = rows(read_inside(factory, bundle(MOUNTINFO)).text)
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= table["/dev/pts"].superblock
    listing = read_inside(factory, bundle(["ls", "/dev/pts"])).text
    assert listing.split() == ["ptmx"]


def test_an_overlay_of_many_layers(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    """Longer than the 255 bytes that fsconfig takes for one value."""
    layers = [tmp_path / f"layer-{number:030}" for number in range(12)]
    for number, layer in enumerate(layers):
        layer.mkdir()
        (layer / f"file{number}").touch()
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
        ways.own(tmp_path / name)
    one = bundle(sh("ls /mnt/overlay | wc -l; touch /mnt/overlay/new"), private_rootfs=True)
    one.config["mounts"].append(
        {
            "destination": "/mnt/overlay",
            "type": "overlay",
            "source": "overlay",
            "options": [
                "lowerdir=" + ":".join(map(str, layers)),
                f"upperdir={tmp_path}/upper",
                f"workdir={tmp_path}/work",
                "nosuid",
            ],
        }
    )
    assert read_inside(factory, one).lines == ["12"]
    assert (tmp_path / "upper/new").exists()


@pytest.mark.privileged_caller("gives files away")
def test_tmpcopyup_starts_with_what_it_covers(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = bundle(private_rootfs=True)
    source = one.rootfs / "data"
    (source / "deep").mkdir(parents=True)
    source.chmod(0o1750)
    (source / "deep/file").write_text("content\n")
    ways.own_tree(source)
    ways.own(source / "deep/file", 5, 6)
    (source / "deep/file").chmod(0o4755)
    os.utime(source / "deep/file", (1_000_000_000, 1_000_000_000))
    (source / "link").symlink_to("deep/file")
    os.mkfifo(source / "fifo", 0o600)
    script = (
        "cd /data; stat -c '%n %a %u:%g %Y' deep/file; stat -c %a .; readlink link; "
        "stat -c %F fifo; cat link; rm deep/file; echo new >deep/file; cat link"
    )
    one.process["args"] = sh(script)
    one.config["mounts"].append(tmpfs("/data", "tmpcopyup", "nosuid"))
    result = read_inside(factory, one)
    assert result.lines == [
        "deep/file 4755 5:6 1000000000",
        "1750",
        "deep/file",
        "fifo",
        "content",
        "new",
    ]
    assert (source / "deep/file").read_text() == "content\n"


@pytest.mark.privileged_caller("gives files away")
def test_tmpcopyup_leaves_what_the_mount_s_options_say(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(sh("stat -c '%a %u:%g' /told /plain /fresh"), private_rootfs=True)
    for name in ("told", "plain"):
        (one.rootfs / name).mkdir(mode=0o750)
        ways.own(one.rootfs / name, 3, 4)
    one.config["mounts"] += [
        tmpfs("/told", "tmpcopyup", "mode=1700", "uid=7"),
        tmpfs("/plain", "tmpcopyup"),
        tmpfs("/fresh", "tmpcopyup"),
    ]
    assert read_inside(factory, one).lines == ["1700 7:4", "750 3:4", "1777 0:0"]


# ---- remount -----------------------------------------------------------------------------------


@pytest.mark.no_user_namespace("what may be locked is kept")
def test_a_mount_is_made_anew_with_other_options(factory: lc.Factory, bundle: BundleMaker) -> None:
    table = mounted(
        factory,
        bundle,
        tmpfs("/tmp/a", "nosuid", "size=1m"),
        {"destination": "/tmp/a", "options": ["bind", "remount", "ro", "noexec"]},
        tmpfs("/tmp/b", "nosuid", "size=1m"),
        tmpfs("/tmp/b", "remount", "noexec", "size=2m"),
        tmpfs("/tmp/c", "nosuid", "size=1m"),
        tmpfs("/tmp/c", "remount", "rshared"),
    )
    found = {point: (table[point].attributes(), table[point].superblock) for point in table}
    assert found["/tmp/a"][0] == {"ro", "noexec", "relatime"}
    assert found["/tmp/a"][1] >= {"size=1024k", "rw"}
    assert found["/tmp/b"][0] == {"noexec", "relatime"}
    assert found["/tmp/b"][1] >= {"size=2048k"}
    assert found["/tmp/c"][0] == {"relatime"}
    assert found["/tmp/c"][1] >= {"size=1024k"}
    assert table["/tmp/c"].propagation == {"shared"}


def test_what_is_not_mounted_cannot_be_remounted(factory: lc.Factory, bundle: BundleMaker) -> None:
    mount = {"destination": "/etc", "type": "tmpfs", "options": ["remount", "ro"]}
    message = refusal(factory, bundle(edit=lambda config: config["mounts"].append(mount)))
    assert "remount /etc (remount,ro): mount_setattr: Invalid argument" in message


def test_a_remount_in_a_user_namespace_keeps_what_is_locked(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    def edit(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        bind(config, "/dev/shm", "/tmp", "ro")
        config["mounts"].append({"destination": "/tmp", "options": ["bind", "remount", "noexec"]})

    table = rows(read_inside(factory, bundle(MOUNTINFO, edit=edit)).text)
    assert {"noexec"} <= table["/tmp"].attributes()


# ---- propagation to and from the host ----------------------------------------------------------

PROPAGATE = """
import subprocess
from libpycontainer import syscalls
syscalls.unshare({clone_newns})
def sh(script):
    return subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout
place = bundle + "/place"
sh(f"mount --make-rprivate /; mkdir {{place}}; mount -t tmpfs place {{place}}")
sh(f"mount --make-shared {{place}}; mkdir {{place}}/in {{place}}/out")
with create() as container:
    container.start()
    sh(f"mount -t tmpfs fromhost {{place}}/in")
    probe = lc.Process(["sh", "-c", "mount -t tmpfs inner /place/out; cat /proc/self/mountinfo"],
                       stdout=lc.PIPE, capabilities=["CAP_SYS_ADMIN"])
    inside = container.exec(probe).communicate()[0].decode()
    say(json.dumps([" fromhost " in inside, " inner " in sh("cat /proc/self/mountinfo")]))
"""


@pytest.mark.parametrize(
    ("option", "root", "wanted"),
    [
        ("rshared", "rshared", [True, True]),
        ("rslave", "rslave", [True, False]),
        ("rprivate", "rprivate", [False, False]),
        ("shared", "shared", [True, True]),
        ("slave", "", [True, False]),
    ],
)
@pytest.mark.no_user_namespace("nothing is passed to a mount namespace with more privilege")
def test_propagation_between_host_and_container(
    bundle: BundleMaker, state_root: str, option: str, root: str, wanted: list[bool]
) -> None:
    from libpycontainer import kernel

    one = bundle(FOREVER, private_rootfs=True)
    one.process["capabilities"]["bounding"].append("CAP_SYS_ADMIN")
    bind(one.config, f"{one}/place", "/place", option)
    if root:
        one.linux["rootfsPropagation"] = root
    one.save()
    source = PROPAGATE.format(clone_newns=kernel.CLONE_NEWNS)
    with Program(state_root, one, source) as program:
        import json

        assert json.loads(program.rest() or "null") == wanted


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("shared", {"shared"}),
        ("rshared", {"shared"}),
        ("private", set()),
        ("rprivate", set()),
        ("unbindable", {"unbindable"}),
        pytest.param(
            "runbindable",
            {"unbindable"},
            marks=pytest.mark.no_user_namespace("devices are bound, from unbindable mounts then"),
        ),
    ],
)
def test_the_root_has_the_propagation_that_was_asked_for(
    factory: lc.Factory, bundle: BundleMaker, word: str, wanted: set[str]
) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["linux"]["rootfsPropagation"] = word
        # Of unbindable mounts, as all the host's then are, nothing can be shown inside.
        config["mounts"] = [each for each in config["mounts"] if each["type"] != "cgroup"]
        config["linux"].update(readonlyPaths=[], maskedPaths=[])

    one = bundle(MOUNTINFO, edit=edit)
    assert rows(read_inside(factory, one).text)["/"].propagation == wanted


# ---- id-mapped mounts --------------------------------------------------------------------------


def mapping(first: int, shown: int, size: int = 1) -> list[dict[str, int]]:
    return [{"containerID": first, "hostID": shown, "size": size}]


def owners(result: Result) -> list[str]:
    return result.text.split()


@pytest.fixture
def owned(tmp_path: Path) -> Path:
    os.chown(tmp_path, 0, 0)
    tmp_path.chmod(0o777)
    for uid in (0, 7, 1000):
        (tmp_path / str(uid)).touch()
        os.chown(tmp_path / str(uid), uid, uid)
    return tmp_path


@pytest.mark.no_user_namespace("the ids are the host's")
def test_an_id_mapped_mount_has_its_own_mappings(
    factory: lc.Factory, bundle: BundleMaker, owned: Path
) -> None:
    one = bundle(sh("cd /tmp; stat -c %u:%g 0 7 1000; touch new && stat -c %u:%g new"))
    one.config["mounts"].append(
        {
            "destination": "/tmp",
            "source": str(owned),
            "options": ["bind", "idmap"],
            "uidMappings": [*mapping(0, 0), *mapping(1000, 5000)],
            "gidMappings": [*mapping(0, 0), *mapping(7, 6000)],
        }
    )
    assert owners(read_inside(factory, one)) == [
        "0:0",
        "65534:6000",
        "5000:65534",
        "0:0",
    ]
    assert (owned / "new").stat().st_uid == 0
    assert (owned / "1000").stat().st_uid == 1000


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
@pytest.mark.privileged_caller("id-mapped mounts are root's to make")
def test_an_id_mapped_mount_takes_the_user_namespaces_mappings(
    factory: lc.Factory, bundle: BundleMaker, owned: Path, option: str
) -> None:
    def edit(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        config["mounts"].append(
            {"destination": "/tmp", "source": str(owned), "options": ["rbind", option]}
        )

    one = bundle(sh("cd /tmp; stat -c %u:%g 0 7 1000; touch new"), edit=edit)
    assert owners(read_inside(factory, one)) == ["0:0", "7:7", "1000:1000"]
    assert (owned / "new").stat().st_uid == 0


@pytest.mark.no_user_namespace("the ids are the host's")
def test_mappings_alone_are_enough_for_an_id_mapped_mount(
    factory: lc.Factory, bundle: BundleMaker, owned: Path
) -> None:
    one = bundle(sh("stat -c %u:%g /tmp/0"))
    one.config["mounts"].append(
        {
            "destination": "/tmp",
            "source": str(owned),
            "options": ["bind"],
            "uidMappings": mapping(0, 33),
            "gidMappings": mapping(0, 34),
        }
    )
    assert owners(read_inside(factory, one)) == ["33:34"]


ID_MAP = """
import subprocess
from libpycontainer import syscalls
syscalls.unshare({clone_newns})
def sh(script):
    subprocess.run(["sh", "-c", script], check=True)
place = bundle + "/place"
sh(f"mount --make-rprivate /; mkdir {{place}}; mount -t tmpfs place {{place}}; mkdir {{place}}/sub")
sh(f"mount -t tmpfs sub {{place}}/sub; touch {{place}}/file {{place}}/sub/file")
with create(stdout=lc.PIPE) as container:
    container.start()
    say(container.process.communicate()[0].decode().replace(chr(10), " "))
"""


@pytest.mark.parametrize(("option", "wanted"), [("idmap", "33 0"), ("ridmap", "33 33")])
@pytest.mark.no_user_namespace("the ids are the host's")
def test_ridmap_goes_for_the_mounts_below(
    bundle: BundleMaker, state_root: str, option: str, wanted: str
) -> None:
    from libpycontainer import kernel

    one = bundle(["stat", "-c", "%u", "/tmp/file", "/tmp/sub/file"])
    one.config["mounts"].append(
        {
            "destination": "/tmp",
            "source": f"{one}/place",
            "options": ["rbind", option],
            "uidMappings": mapping(0, 33),
            "gidMappings": mapping(0, 34),
        }
    )
    one.save()
    with Program(state_root, one, ID_MAP.format(clone_newns=kernel.CLONE_NEWNS)) as program:
        assert program.rest() == wanted


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"options": ["bind", "idmap"]}, "needs mappings, or a user namespace"),
        ({"options": ["rbind", "ridmap"]}, "needs mappings, or a user namespace"),
        ({"options": ["bind", "idmap"], "uidMappings": mapping(0, 1)}, "gidMappings"),
        ({"options": ["bind"], "gidMappings": mapping(0, 1)}, "uidMappings"),
        ({"options": ["idmap"], "type": "tmpfs"}, "only bind mounts can be id-mapped"),
    ],
)
@pytest.mark.no_user_namespace("there is a user namespace")
def test_an_id_mapped_mount_that_cannot_be_made_is_refused(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    mount = {"destination": "/tmp", "source": str(tmp_path), **more}
    one = bundle(edit=lambda config: config["mounts"].append(mount))
    message = refusal(factory, one)
    assert f"$.mounts[{len(one.config['mounts']) - 1}]" in message
    assert words in message


@pytest.mark.privileged_caller("id-mapped mounts are root's to make")
def test_a_file_system_that_cannot_be_id_mapped_is_named(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    mount: dict[str, Any] = {"destination": "/tmp", "source": "/proc", "options": ["bind", "idmap"]}
    mount |= {"uidMappings": mapping(0, 1), "gidMappings": mapping(0, 1)}
    message = refusal(factory, bundle(edit=lambda config: config["mounts"].append(mount)))
    assert "cannot id-map the mounts at /proc" in message


# ---- the host's own views in a user namespace --------------------------------------------------


@pytest.mark.privileged_caller("mounts on the host")
def test_a_user_namespace_keeps_what_the_host_has_locked(
    factory: lc.Factory, bundle: BundleMaker, workspace: Path
) -> None:
    """A bind mount in a user namespace adds a restriction without taking the source's away."""
    source = workspace / "locked"
    source.mkdir()

    def edit(config: dict[str, Any]) -> None:
        add_user_namespace(config)
        config["mounts"].append(
            {"destination": "/tmp", "source": str(source), "options": ["bind", "ro"]}
        )

    locked = "nosuid,nodev,noexec"
    subprocess.run(["mount", "-t", "tmpfs", "-o", locked, "locked", source], check=True)
    try:
        table = rows(read_inside(factory, bundle(MOUNTINFO, edit=edit)).text)
        assert {"ro", *locked.split(",")} <= table["/tmp"].options
    finally:
        subprocess.run(["umount", source], check=True)
        source.rmdir()


def test_sysfs_and_cgroups_in_a_user_namespace(factory: lc.Factory, bundle: BundleMaker) -> None:
    table = rows(read_inside(factory, bundle(MOUNTINFO, edit=add_user_namespace)).text)
    assert table["/sys"].kind == "sysfs"
    assert "ro" in table["/sys"].options
    assert any(row.kind in ("cgroup", "cgroup2") for row in table.values())


@pytest.mark.parametrize("namespace", [False, True])
def test_the_cgroup_mount_shows_the_containers_own_groups(
    factory: lc.Factory, bundle: BundleMaker, namespace: bool
) -> None:
    def edit(config: dict[str, Any]) -> None:
        others = [n for n in config["linux"]["namespaces"] if n["type"] != "cgroup"]
        config["linux"]["namespaces"] = others + [{"type": "cgroup"}] * namespace
        # sysfs of the default configuration is read-only, and so is the mount.

    one = bundle(sh("cat /proc/self/mountinfo; echo; cat /proc/self/cgroup"), edit=edit)
    result = read_inside(factory, one)
    mounts, _, groups = result.text.partition("\n\n")
    table = {p: row for p, row in rows(mounts).items() if row.kind in ("cgroup", "cgroup2")}
    assert table
    own = one.linux["cgroupsPath"]
    for point, row in table.items():
        assert point.startswith("/sys/fs/cgroup")
        assert "ro" in row.options
        assert row.root == ("/" if namespace else own), point
    paths = {line.split(":", 2)[2] for line in groups.splitlines()}
    assert paths == {"/"} if namespace else own in paths
