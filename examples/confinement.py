"""What a configuration takes away is gone: three programs, each with and without what it needs.

    python examples/confinement.py [ROOTFS]

As root. ROOTFS is any root file system with sh, ping, hostname and mkdir; without one, busybox's is
made. ping needs CAP_NET_RAW, renaming the host CAP_SYS_ADMIN, and mkdir a filter that lets it pass.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import libpycontainer as lc

REFUSED = "refused"
NO_MKDIR = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
}


def busybox(directory: Path) -> Path:
    program = shutil.which("busybox") or sys.exit("confinement: busybox is missing")
    rootfs = directory / "rootfs"
    (rootfs / "bin").mkdir(parents=True)
    shutil.copy2(program, rootfs / "bin/busybox")
    for applet in subprocess.check_output([program, "--list"], text=True).split():
        if applet != "busybox":
            (rootfs / "bin" / applet).symlink_to("busybox")
    return rootfs


def outcome(factory: lc.Factory, rootfs: Path, script: str, **linux: Any) -> str:
    """What the script says, or that it was refused. ``capabilities`` are all that it has."""
    capabilities = linux.pop("capabilities", [])
    config = lc.Spec.like_runc().to_dict()
    config["root"] = {"path": str(rootfs), "readonly": True}
    config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
    config["process"].update(terminal=False, args=["sh", "-c", script])
    config["process"]["capabilities"] = dict.fromkeys(
        ("bounding", "effective", "permitted"), capabilities
    )
    config["linux"].update(linux)
    with factory.create("confinement", config, stdout=lc.PIPE, stderr=lc.DEVNULL) as container:
        container.start()
        process = container.process
        assert process is not None
        output, _ = process.communicate(timeout=20)
        return (output or b"").decode().strip() if process.returncode == 0 else REFUSED


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="lpc-example-") as name, lc.Factory(name) as factory:
        Path(name).chmod(0o755)
        rootfs = Path(sys.argv[1]) if len(sys.argv) > 1 else busybox(Path(name, "bundle"))
        ping = "ping -c 1 -W 5 127.0.0.1 >/dev/null && echo answered"
        # Nobody may make the harmless kind of ping socket, which needs no capability.
        sysctl = {"net.ipv4.ping_group_range": "1 0"}
        rename = "hostname renamed && hostname"
        mkdir = "mkdir /tmp/new && echo made"
        for what, script, without, granted in (
            ("ping", ping, {}, {"capabilities": ["CAP_NET_RAW"]}),
            ("hostname", rename, {}, {"capabilities": ["CAP_SYS_ADMIN"]}),
            ("mkdir", mkdir, {"seccomp": NO_MKDIR}, {}),
        ):
            more = {"sysctl": sysctl} if what == "ping" else {}
            held = outcome(factory, rootfs, script, **more, **without)
            free = outcome(factory, rootfs, script, **more, **granted)
            print(f"{what:<10} {held:<10} {free}")


if __name__ == "__main__":
    main()
