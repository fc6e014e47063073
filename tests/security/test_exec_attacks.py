"""A process inside against those who run others beside it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libpycontainer as lc
from tests.privileged.support import (
    FOREVER,
    TIMEOUT,
    add_user_namespace,
    create,
    exec_inside,
    sh,
    writable_tmp,
)
from tests.security.support import grant

if TYPE_CHECKING:
    from tests.conftest import Bundle, BundleMaker, Pyrunc

HOLD = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    printf("%ld\n", ptrace(PTRACE_SEIZE, argc > 1 ? atoi(argv[1]) : 0, 0, 0));
    fflush(stdout);
    return sleep(1000);
}
"""


@pytest.mark.attack("a traced zombie", "holds whoever waits for a process beyond his timeout")
def test_a_tracer_inside_holds_nobody_outside(
    factory: lc.Factory, bundle: BundleMaker, tmp_path: Path
) -> None:
    """What is traced ends for its tracer first, who may never take note."""
    (tmp_path / "hold.c").write_text(HOLD)
    done = subprocess.run(["gcc", "-static", "hold.c", "-o", "hold"], cwd=tmp_path, check=False)
    if done.returncode:
        pytest.skip("gcc cannot link statically here")
    one = bundle(FOREVER, private_rootfs=True)
    shutil.copy(tmp_path / "hold", one.rootfs / "hold")
    with create(factory, one) as container:
        container.start()
        victim = lc.Process(["sh", "-c", "read line; exit 7"], stdin=lc.PIPE, stdout=lc.DEVNULL)
        find = "/hold $(ps -o pid,args | grep '[r]ead line' | awk '{print $1}')"
        tracer = lc.Process(sh(f"exec {find}"), stdin=lc.DEVNULL, stdout=lc.PIPE)
        with container.exec(victim), container.exec(tracer):
            assert tracer.stdout is not None
            assert tracer.stdout.readline() == b"0\n"
            assert victim.stdin is not None
            victim.stdin.write(b"\n")
            victim.stdin.close()
            began = time.monotonic()
            with pytest.raises(lc.TimeoutExpired):
                victim.wait(timeout=0.3)
            assert victim.poll() is None
            assert container.status == "running"
            assert time.monotonic() - began < TIMEOUT / 2
            tracer.kill()
            assert victim.wait(TIMEOUT) == 7
            tracer.wait(TIMEOUT)


HUNT = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Looks at one entry of /proc/PID: what it leads to, or what it holds. */
static void try_file(int pid, const char *name, int flags)
{
    char path[600], target[600], text[600];
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    long size = readlink(path, target, sizeof target - 1);
    if (size < 0)
        size = snprintf(target, sizeof target, "?");
    target[size] = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    int fd = open(path, flags | O_NONBLOCK);
    if (fd < 0)
        return;
    long got = flags == O_RDONLY ? read(fd, text, sizeof text - 1) : 0;
    for (long i = 0; i < got; i++)
        if (text[i] < 32)
            text[i] = ' ';
    printf("%s of %s: %.*s\n", name, target, got > 0 ? (int)got : 0, text);
    close(fd);
}
static void links(int pid, const char *where)
{
    char path[600], target[600];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, where);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/%s/%.200s", pid, where, e->d_name);
        long size = readlink(path, target, sizeof target - 1);
        if (size > 0) {
            printf("%s -> %.*s\n", where, (int)size, target);
            int fd = strcmp(where, "fd") ? open(path, O_WRONLY | O_NONBLOCK) : -1;
            if (fd >= 0) {
                printf("%s w %.*s\n", where, (int)size, target);
                close(fd);
            }
        }
    }
    if (d)
        closedir(d);
}
static void hunt(int pid)
{
    char buffer[64], name[64], target[600];
    try_file(pid, "environ", O_RDONLY);
    try_file(pid, "maps", O_RDONLY);
    try_file(pid, "mem", O_RDWR);
    try_file(pid, "exe", O_WRONLY);
    links(pid, "fd");
    links(pid, "map_files");
    int handle = syscall(SYS_pidfd_open, pid, 0);
    for (int number = 0; handle >= 0 && number < 40; number++) {
        int fd = syscall(SYS_pidfd_getfd, handle, number, 0);
        if (fd < 0)
            continue;
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        long size = readlink(name, target, sizeof target - 1);
        printf("taken %.*s\n", (int)(size > 0 ? size : 0), target);
        close(fd);
    }
    if (handle >= 0)
        close(handle);
    struct iovec mine = {buffer, 16}, theirs = {(void *)0x400000, 16};
    if (process_vm_readv(pid, &mine, 1, &theirs, 1, 0) >= 0)
        puts("memory read");
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
        snprintf(name, sizeof name, "/proc/%d/exe", pid);
        long size = readlink(name, target, sizeof target - 1);
        printf("traced %.*s\n", (int)(size > 0 ? size : 0), target);
        ptrace(PTRACE_INTERRUPT, pid, 0, 0);
        waitpid(pid, 0, __WALL);
        ptrace(PTRACE_DETACH, pid, 0, 0);
    }
}
int main(int argc, char **argv)
{
    long seen = 0;
    int me = getpid();
    puts("watching");
    fflush(stdout);
    while (access("/dev/shm/end", F_OK) < 0) {
        DIR *proc = opendir("/proc");
        if (!proc)
            continue;
        for (struct dirent *e; (e = readdir(proc));) {
            int pid = atoi(e->d_name);
            if (pid <= 1 || pid == me)
                continue;
            seen++;
            if (argc > 1)
                kill(pid, atoi(argv[1]));
            else
                hunt(pid);
        }
        closedir(proc);
    }
    printf("seen %ld\n", seen);
    return 0;
}
"""
"""Tries on every newcomer what could get hold of it; with a number, sends it that signal instead.

What it finds of a program that already runs is the container's own.
"""


@pytest.fixture(scope="session")
def hunter(workspace: Path) -> Path:
    place = workspace / "hunter"
    place.mkdir()
    (place / "hunt.c").write_text(HUNT)
    command = ["gcc", "-w", "-static", "hunt.c", "-o", "hunt"]
    if shutil.which("gcc") is None or subprocess.run(command, cwd=place, check=False).returncode:
        pytest.skip("gcc cannot link statically here")
    return place / "hunt"


def hunting(bundle: BundleMaker, hunter: Path, *args: str) -> Bundle:
    one = bundle(["/hunt", *args], private_rootfs=True)
    shutil.copy(hunter, one.rootfs / "hunt")
    return one


@pytest.mark.attack("CVE-2016-9962", "gets at the descriptors of a process that is joining")
@pytest.mark.parametrize("user_namespace", [False, True])
def test_thirty_joining_processes_give_nothing_away(
    factory: lc.Factory, bundle: BundleMaker, hunter: Path, tmp_path: Path, user_namespace: bool
) -> None:
    """By ptrace, pidfd_getfd, process_vm_readv and every file of /proc/PID that shows something.

    It writes to a file: on a full pipe it would wait, with a process that it traces and holds.
    """
    one = hunting(bundle, hunter)
    if user_namespace:
        # There these reach no further than the namespace, which a joining process is not of.
        add_user_namespace(one.config)
        grant(one, "CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE")
    file = tmp_path / "found"
    with file.open("wb") as output, create(factory, one, stdout=output) as container:
        container.start()
        deadline = time.monotonic() + TIMEOUT
        while not file.stat().st_size:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for _ in range(30):
            assert exec_inside(container, ["true"]).code == 0
        exec_inside(container, ["sleep", "0.1"])
        exec_inside(container, ["touch", "/dev/shm/end"])
        container.wait(TIMEOUT)
    *found, seen = file.read_text(errors="replace").splitlines()
    assert int(seen.removeprefix("seen ")) >= 30
    # It does find what there is to find, once the program runs.
    for trophy in ("traced /bin/busybox", "taken ", "environ of /bin/busybox"):
        assert [line for line in found if line.startswith(trophy)], trophy
    for word in ("socket:", "memfd:", "python", "libpycontainer", "cgroup", ".so", " of /:", "w /"):
        assert not [line for line in found if word in line], word
    assert not [line for line in found if line in ("traced /", "taken /")]


@pytest.mark.attack("signals from inside", "holds or breaks a caller by signals to who joins")
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_signals_to_who_joins_break_nobody(
    factory: lc.Factory, bundle: BundleMaker, pyrunc: Pyrunc, hunter: Path, number: int
) -> None:
    """Who is root inside may stop whoever joins; the container's end is the end of that, too."""
    one = hunting(bundle, hunter, str(int(number)))
    with create(factory, one, stdout=lc.PIPE) as container:
        container.start()
        hunts = container.process
        assert hunts is not None
        assert hunts.stdout is not None
        assert hunts.stdout.readline() == b"watching\n"
        joining = [
            subprocess.Popen(
                pyrunc.argv("exec", container.id, "sleep", "1000"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(3)
        ]
        if number == signal.SIGKILL:
            ends = [each.communicate(timeout=TIMEOUT) for each in joining]
        else:
            time.sleep(1)
            assert [each.poll() for each in joining] == [None, None, None]
            assert container.status == "running"
        container.signal(signal.SIGKILL)
        assert container.wait(TIMEOUT) == -signal.SIGKILL
        if number != signal.SIGKILL:
            ends = [each.communicate(timeout=TIMEOUT) for each in joining]
    for each, (_, errors) in zip(joining, ends, strict=True):
        assert each.returncode not in (0, None)
        assert "Traceback" not in errors


FAKE_PROC = {
    "unmounted": "umount -l /proc",
    "an empty tmpfs": "mount -t tmpfs none /proc",
    "a planted tree": (
        "mount -t tmpfs none /proc && mkdir -p /proc/self/fd /proc/self/attr /proc/1/ns "
        "/proc/thread-self/attr && for name in attr/exec attr/current oom_score_adj setgroups "
        "uid_map gid_map status mountinfo cgroup; do echo planted >/proc/self/$name; done && "
        "mkfifo /proc/mounts && ln -s / /proc/self/root && ln -s /bin/planted /proc/self/exe"
    ),
    "fifos": (
        "mount -t tmpfs none /proc && mkdir -p /proc/self/attr && for name in attr/exec status "
        "oom_score_adj mountinfo cgroup; do mkfifo /proc/self/$name; done"
    ),
    "itself elsewhere": "mount --bind /tmp /proc",
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            script,
            marks=pytest.mark.attack("CVE-2015-1334", "has who joins write to a /proc of its own"),
        )
        for script in FAKE_PROC.values()
    ],
    ids=FAKE_PROC,
)
def test_exec_minds_no_proc_of_the_containers(
    factory: lc.Factory, bundle: BundleMaker, script: str
) -> None:
    one = bundle(FOREVER)
    writable_tmp(one.config)
    grant(one, "CAP_SYS_ADMIN")
    one.process["oomScoreAdj"] = 300
    with create(factory, one) as container:
        container.start()
        done = exec_inside(container, sh(f"{script}; echo $?"))
        assert done.lines[-1] == "0", done.text
        process = lc.Process(["sleep", "1000"], stdin=lc.DEVNULL, stdout=lc.DEVNULL)
        with container.exec(process):
            groups = Path(f"/proc/{process.pid}/cgroup").read_text()
            assert one.linux["cgroupsPath"] in groups
            assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "300\n"
            assert os.readlink(f"/proc/{process.pid}/exe") == "/bin/busybox"
            process.kill()
            process.wait(TIMEOUT)


REPLACED_PROGRAM = {
    "fifo": "mkfifo /bin/planted",
    "directory": "mkdir /bin/planted",
    "loop": "ln -s planted /bin/planted",
    "host's path": "ln -s /../../../../../usr/bin/env /bin/planted",
    "init": "ln -s /proc/1/exe /bin/planted",
    "descriptor": "ln -s /proc/self/fd/3 /bin/planted",
}


@pytest.mark.attack("planted programs", "has exec hang, or run what is not the container's")
@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            script,
            marks=pytest.mark.no_user_namespace("makes a device inside")
            if name == "device"
            else (),
        )
        for name, script in REPLACED_PROGRAM.items()
    ],
    ids=REPLACED_PROGRAM,
)
def test_exec_of_what_was_replaced(factory: lc.Factory, bundle: BundleMaker, script: str) -> None:
    one = bundle(FOREVER, private_rootfs=True)
    one.config["root"]["readonly"] = False
    grant(one, "CAP_MKNOD")
    with create(factory, one) as container:
        container.start()
        exec_inside(container, sh(script))
        assert os.path.lexists(one.rootfs / "bin/planted")
        try:
            code = exec_inside(container, ["planted"]).code
        except lc.ExecutableError:
            pass
        else:
            # Busybox by another name than one of its applets'.
            assert code == 127
        assert exec_inside(container, ["echo", "on"]).text == "on\n"
