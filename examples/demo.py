"""A container from a real busybox bundle, shown step by step with the time that each step takes.

Needs root and Debian's busybox-static. What it prints is read back from inside the container.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import libpycontainer as lc

MEMORY = 64 << 20
CGROUP = "/libpycontainer/demo"
T = TypeVar("T")
PROBE = """\
echo "hostname:     $(hostname)"
echo "user:         $(id)"
echo "memory limit: $(cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null \
    || cat /sys/fs/cgroup/memory.max 2>/dev/null || echo 'no memory controller here')"
echo "pids limit:   $(cat /sys/fs/cgroup/pids/pids.max 2>/dev/null \
    || cat /sys/fs/cgroup/pids.max 2>/dev/null || echo 'no pids controller here')"
echo "processes:"; ps
echo "mounts:";    mount | cut -c1-110
echo "end of report"
exec sleep 1000
"""


def make_bundle(directory: Path) -> Path:
    """A root filesystem of nothing but busybox, and a config.json."""
    busybox = shutil.which("busybox") or sys.exit("demo: busybox is missing (busybox-static)")
    programs = directory / "rootfs" / "bin"
    programs.mkdir(parents=True)
    shutil.copy2(busybox, programs / "busybox")
    for applet in subprocess.check_output([busybox, "--list"], text=True).split():
        if applet != "busybox":
            (programs / applet).symlink_to("busybox")
    (directory / "rootfs" / "probe").write_text(PROBE, encoding="ascii")
    config: dict[str, Any] = lc.Spec.like_runc().to_dict()
    config["hostname"] = "demo"
    config["process"].update(terminal=False, args=["sh", "/probe"])
    config["linux"]["cgroupsPath"] = CGROUP
    config["linux"]["resources"].update(memory={"limit": MEMORY}, pids={"limit": 32})
    (directory / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return directory


def timed(what: str, action: Callable[[], T]) -> T:
    started = time.perf_counter()
    result = action()
    print(f"\n--- {what}: {(time.perf_counter() - started) * 1000:.1f} ms", flush=True)
    return result


def through_the_library(bundle: Path, state: Path) -> None:
    print("=== through the library")
    spec = timed("load and check config.json", lambda: lc.Spec.load(bundle / "config.json"))
    factory = lc.Factory(root=state)
    container = timed(
        "create: init is up and waits",
        lambda: factory.create("demo", spec, bundle=bundle, stdout=lc.PIPE),
    )
    with container:
        print(f"status {container.status}, init is process {container.pid}")
        timed("start: the program runs", container.start)
        show(container)
        probe = lc.Process(["sh", "-c", "echo pid $$; cat /proc/1/cmdline"], stdout=lc.PIPE)
        with timed("exec: a second process inside", lambda: container.exec(probe)):
            output, _ = probe.communicate(timeout=10)
            print((output or b"").replace(b"\0", b" ").decode().strip())
        stats = timed("stats", container.stats)
        print(f"CPU {stats.cpu.usage / 1e6:.1f} ms" if stats.cpu else "no CPU statistics")
        if stats.memory and stats.memory.usage:
            print(f"memory {stats.memory.usage >> 10} KiB")
        print(f"processes on the host: {container.processes()}")
        timed("delete, whatever still runs", lambda: container.delete(force=True))


def show(container: lc.Container) -> None:
    """Print what the program reports, up to the moment when it becomes "sleep"."""
    process = container.process
    assert process is not None
    assert process.stdout is not None
    for line in process.stdout:
        if line == b"end of report\n":
            break
        print("  ", line.decode().rstrip())


def through_the_command(bundle: Path, state: Path) -> None:
    print("\n=== through pyrunc")
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    config["process"]["args"] = ["sh", "-c", "echo hello from $(hostname); exit 3"]
    (bundle / "config.json").write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "libpycontainer", "--root", str(state)]
    command += ["run", "--bundle", str(bundle), "demo"]
    print("$ pyrunc run --bundle", bundle, "demo", flush=True)
    done = timed("run", lambda: subprocess.run(command))
    print(f"exit code {done.returncode}")
    if done.returncode != 3:
        sys.exit("demo: the exit code should have been 3")


def in_one_call() -> None:
    print("\n=== lc.run: the host's own files, read-only")
    program = "import os; print('I am', os.uname().nodename, 'and see', os.listdir('/tmp'))"
    python = sys.executable if sys.prefix == sys.base_prefix else sys.base_prefix + "/bin/python3"
    done = timed(
        "run",
        lambda: lc.run([python, "-c", program], memory="256M", cpus=1, pids=64, timeout=10),
    )
    print(f"exit code {done.returncode}")


def main() -> None:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="libpycontainer-demo-") as directory:
        bundle = make_bundle(Path(directory))
        state = Path(directory) / "state"
        through_the_library(bundle, state)
        through_the_command(bundle, state)
    in_one_call()
    print(f"\nall of it: {time.perf_counter() - started:.2f} s, and nothing is left behind")


if __name__ == "__main__":
    main()
