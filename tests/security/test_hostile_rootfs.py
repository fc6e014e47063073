"""A root filesystem made to catch the interpreter: what it would load by path lies there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from tests import ways
from tests.privileged.support import (
    FOREVER,
    REPOSITORY,
    TIMEOUT,
    create,
    exec_inside,
    read_inside,
)

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

MARK = "/planted-code-ran"
# What a failing step, a traceback, a codec or a start of Python would load late.
MODULES = (
    "os",
    "io",
    "abc",
    "site",
    "sitecustomize",
    "usercustomize",
    "warnings",
    "linecache",
    "traceback",
    "tokenize",
    "codecs",
    "stat",
    "posixpath",
    "errno",
    "select",
    "marshal",
    "encodings/__init__",
    "encodings/ascii",
    "encodings/idna",
    "encodings/latin_1",
    "encodings/utf_8",
    "libpycontainer/__init__",
    "libpycontainer/init/__init__",
    "libpycontainer/init/steps",
    "_cffi_backend",
)
PLANTED = f"""
import os
fd = os.open({MARK!r}, os.O_CREAT | os.O_WRONLY)
os.write(fd, b"ran")
os._exit(99)
"""
PLANTED_LINE = f"import os; os.close(os.open({MARK!r}, os.O_CREAT)); os._exit(99)\n"
HOSTILE_ENVIRONMENT = (
    "PYTHONPATH=/:/lib/python",
    "PYTHONHOME=/",
    "PYTHONSTARTUP=/os.py",
    "PYTHONINSPECT=1",
    "PYTHONWARNINGS=error",
    "LD_PRELOAD=/planted.so",
    "LD_LIBRARY_PATH=/",
    "LD_AUDIT=/planted.so",
    "GCONV_PATH=/",
    "LOCPATH=/",
    "MALLOC_TRACE=/planted-trace",
)


def plant(one: Bundle) -> None:
    """Modules wherever the host's interpreter has its own, and libraries for the loader."""
    library = sysconfig.get_paths()["stdlib"]
    package = str(Path(lc.__file__).parents[1])
    places = {"/", "/root", "/tmp", library, f"{library}/site-packages", package, *sys.path[1:]}
    for place in places:
        for name in MODULES:
            path = one.rootfs / f"{place}/{name}.py".lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(PLANTED)
        (one.rootfs / f"{place}/planted.pth".lstrip("/")).write_text(PLANTED_LINE)
    (one.rootfs / "etc/ld.so.preload").write_text("/planted.so\n")
    (one.rootfs / "planted.so").write_bytes(b"\x7fELF" + bytes(100))
    for name in (
        "libc.so.6",
        "libpython3.so",
        "libffi.so.8",
        "libseccomp.so.2",
        "libnss_files.so.2",
    ):
        for place in ("lib", "lib64", "lib/x86_64-linux-gnu", "usr/lib"):
            target = one.rootfs / place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"\x7fELF" + bytes(100))
    one.process["env"] += HOSTILE_ENVIRONMENT


def hostile(bundle: BundleMaker, program: Sequence[str]) -> Bundle:
    one = bundle(program, private_rootfs=True)
    one.config["root"]["readonly"] = False
    plant(one)
    return one


@pytest.mark.attack("planted modules", "has the interpreter load code from the root filesystem")
def test_nothing_planted_runs(factory: lc.Factory, bundle: BundleMaker) -> None:
    one = hostile(bundle, FOREVER)
    with create(factory, one) as container:
        container.start()
        # Static busybox minds neither the preload file nor the variables.
        assert exec_inside(container, ["echo", "on"]).text == "on\n"
    assert not (one.rootfs / MARK.lstrip("/")).exists()


@pytest.mark.attack("planted modules", "has the interpreter load code from the root filesystem")
@pytest.mark.parametrize(
    "process",
    [
        {"args": ["/no/such/program"]},
        {"args": ["/etc/passwd"]},
        {"args": ["/etc"]},
        {"args": ["true"], "cwd": "/etc/passwd"},
        {"args": ["true"], "user": {"uid": 4_000_000_000, "gid": 4_000_000_000}},
        {"args": ["caf\udce9"]},
    ],
)
def test_nothing_planted_runs_when_a_step_fails(
    factory: lc.Factory, bundle: BundleMaker, process: dict[str, Any]
) -> None:
    one = hostile(bundle, ["true"])
    one.process.update(process)
    try:
        assert read_inside(factory, one).code != 99
    except (lc.ContainerError, UnicodeError):
        pass
    for container in factory.list():
        container.delete(force=True)
    assert not (one.rootfs / MARK.lstrip("/")).exists()


@pytest.mark.attack("planted modules", "has the interpreter load code from the root filesystem")
@pytest.mark.parametrize("args", [["/no/such"], ["/etc/passwd"], ["true"]])
def test_nothing_planted_runs_on_exec(
    factory: lc.Factory, bundle: BundleMaker, args: list[str]
) -> None:
    one = hostile(bundle, FOREVER)
    with create(factory, one) as container:
        container.start()
        try:
            assert exec_inside(container, args, cwd="/tmp").code == 0
        except lc.ContainerError:
            assert args != ["true"]
    assert not (one.rootfs / MARK.lstrip("/")).exists()


@pytest.mark.attack("CVE-2019-14271", "has the runtime load a library of the root filesystem")
@pytest.mark.parametrize("user", [None, "1000:1000", "60000"])
def test_cve_2019_14271_names_are_looked_up_without_the_containers_libraries(
    factory: lc.Factory, bundle: BundleMaker, user: str | None
) -> None:
    """A name service's, a codec's, the resolver's: "docker cp" took those of the container."""
    one = hostile(bundle, FOREVER)
    (one.rootfs / "etc/nsswitch.conf").write_text("passwd: planted files\ngroup: planted files\n")
    source, target = one.path / "planted.c", one.rootfs / "lib/libnss_planted.so.2"
    code = f'__attribute__((constructor)) void run(void) {{ creat("{MARK}", 0644); }}\n'
    source.write_text("int creat(const char *, unsigned);\n" + code)
    if subprocess.run(["cc", "-shared", "-fPIC", source, "-o", target]).returncode:
        pytest.skip("cc makes no library here")
    for name in ("libnss_files.so.2", "libc.so.6", "libgcc_s.so.1"):
        for place in ("lib", "lib/x86_64-linux-gnu", "lib64", "usr/lib"):
            shutil.copy(target, one.rootfs / place / name)
    with create(factory, one) as container:
        container.start()
        assert exec_inside(container, ["echo", "on"], user=user).text == "on\n"
        with pytest.raises(lc.ContainerError):
            exec_inside(container, ["/no/such"], user=user)
    assert not (one.rootfs / MARK.lstrip("/")).exists()
    assert not os.path.exists(MARK)


SHADOWED = ("os", "json", "marshal", "select", "encodings/__init__", "libpycontainer/__init__")
CALLERS_ENVIRONMENT = {
    "PYTHONSTARTUP": "/dev/stdin",
    "PYTHONINSPECT": "1",
    "PYTHONPATH": ".",
    "PYTHONUSERBASE": ".",
    "GCONV_PATH": ".",
    "LOCPATH": ".",
}


@pytest.mark.attack("planted modules", "has the interpreter load code from the root filesystem")
@pytest.mark.parametrize("place", ["bundle", "rootfs"])
def test_a_caller_may_stand_in_a_hostile_directory(
    bundle: BundleMaker, pyrunc: Pyrunc, place: str
) -> None:
    """An engine calls from inside the bundle; the installed command imports nothing from there."""
    one = bundle(["echo", "on"], private_rootfs=True)
    where = one.path if place == "bundle" else one.rootfs
    mark = one.path / MARK.lstrip("/")
    for name in SHADOWED:
        path = where / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"open({str(mark)!r}, 'w').close()\n")
    start = "import sys;sys.path.insert(0,sys.argv.pop(1));"
    start += "from libpycontainer.cli.main import entry;sys.exit(entry())"
    command = [sys.executable, "-I", "-c", start, str(REPOSITORY)]
    done = subprocess.run(
        [*command, "--root", pyrunc.root, "run", "--bundle", one.path, "one"],
        cwd=where,
        env={**os.environ, **CALLERS_ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stdout) == (0, "on\n"), done.stderr
    assert not mark.exists()


@pytest.mark.attack("planted /proc", "has a planted directory taken for the kernel's files")
@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_planted_kernel_tree_is_covered_or_refused(
    factory: lc.Factory, bundle: BundleMaker, name: str
) -> None:
    one = bundle(["cat", f"/{name}/planted"], private_rootfs=True)
    (one.rootfs / name / "planted").write_text("planted\n")
    result = read_inside(factory, one)
    assert result.code != 0
    assert "planted\n" not in result.lines


@pytest.mark.attack("the host's /dev", "has nodes and links made in the host's own /dev")
def test_a_root_that_holds_the_hosts_dev_changes_nothing_of_it(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    """The host's own tree as the root, and nothing mounted over its /dev."""

    def nodes() -> dict[str, tuple[int, ...]]:
        found = {each.name: each.stat(follow_symlinks=False) for each in os.scandir("/dev")}
        return {
            name: (node.st_ino, node.st_mode, node.st_rdev, node.st_uid, node.st_gid)
            for name, node in found.items()
        }

    before = nodes()
    one = bundle([sys.executable, "-c", ""])
    one.config["root"] = {"path": "/", "readonly": True}
    mounts = one.config["mounts"]
    one.config["mounts"] = [each for each in mounts if not each["destination"].startswith("/dev")]
    one.linux["devices"] = [
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "uid": 9, "fileMode": 0o640},
        {"path": "/dev/full", "type": "c", "major": 1, "minor": 7, "uid": 7, "fileMode": 0o600},
    ]
    if ways.WAY == "root":
        # In a user namespace it would be the host's of that name, which has none.
        one.linux["devices"].append(
            {"path": "/dev/planted", "type": "c", "major": 1, "minor": 3},
        )
    assert read_inside(factory, one).code == 0
    assert nodes() == before
