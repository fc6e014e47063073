"""A world for the clients that ends with this run: mounts, network, processes, /run, an image.

Daemons, bridges, firewall rules and mounts are made in namespaces of their own, whose first process
is this program: when it ends, the kernel ends whatever is left. Only cgroups outlive that; they are
removed here.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.clients import remains

MARK = "LPC_TEST_CLIENTS_INSIDE"
PACKAGES = {
    "podman": "podman",
    "conmon": "conmon",
    "netavark": "netavark",
    "aardvark-dns": "aardvark-dns",
    "catatonit": "catatonit",
    "slirp4netns": "slirp4netns",
    "newuidmap": "uidmap",
    "dockerd": "docker.io",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "busybox": "busybox-static",
    "setpriv": "util-linux",
}
PLACES = "/usr/bin:/usr/sbin:/bin:/sbin:/usr/lib/podman:/usr/libexec/podman:/usr/lib/cni"
"""Debian's own programs, not those of the same name in /usr/local."""
IMAGE = "localhost/box:latest"
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1000:\nstaff:x:50:app\n"
DIRECTORIES = ("dev", "etc", "home", "home/app", "proc", "root", "run", "sys", "tmp", "var", "data")


def program(name: str) -> str:
    """The path of one of Debian's programs."""
    found = shutil.which(name, path=PLACES)
    if found is None:
        raise FileNotFoundError(f"{name} (Debian's package {PACKAGES.get(name, name)})")
    return found


def install_what_is_missing() -> None:
    missing = {PACKAGES[each] for each in PACKAGES if shutil.which(each, path=PLACES) is None}
    if not missing:
        return
    print(f"installing {', '.join(sorted(missing))}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", *sorted(missing)]):
        subprocess.run(["apt-get", "-q", *words], check=True, env=environment)


def enter(words: Sequence[str]) -> int:
    """Run this program once more, in namespaces of its own; give back its exit status."""
    parents = {path for path in _parent_groups() if path.exists()}
    namespaces = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = ["unshare", *namespaces, *words]
    process = subprocess.Popen(command, env={**os.environ, MARK: "1"})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return process.wait()
    finally:
        # With it goes the first process of its namespace, and with that one everything inside.
        process.kill()
        process.wait()
        for parent in _parent_groups():
            if parent not in parents:
                _remove_groups(parent)


def furnish() -> None:
    """In the new namespaces: what the clients write to, and a network of their own."""
    # As on a host that systemd has started: volumes with propagation need it.
    _command("mount", "--make-rshared", "/")
    for path in ("/run", "/var/lib/containers", "/var/lib/cni", "/etc/cni"):
        if Path(path).is_dir():
            _command("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", path)
    Path("/run/lock").mkdir()
    # slirp4netns opens it as the ordinary user, and not every host lets her.
    if Path("/dev/net").is_dir():
        _command("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/dev/net")
        os.mknod("/dev/net/tun", stat.S_IFCHR | 0o666, os.makedev(10, 200))
        os.chmod("/dev/net/tun", 0o666)
    _command("ip", "link", "set", "lo", "up")


def be_first_process() -> int | None:
    """Fork. None in the child, which goes on; in the first process its exit status, at its end.

    Whatever loses its parent becomes a child of the first process, which must wait for it.
    """
    child = os.fork()
    if child == 0:
        return None
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def write_wrapper(path: Path, command: str) -> Path:
    """A program of the name that clients are told, wherever the real one lies."""
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)
    return path


def make_image(directory: Path) -> Path:
    """An archive that every client loads: busybox, root and the user ``app``, a directory /data."""
    layer = _layer(Path(program("busybox")), directory)
    digest = hashlib.sha256(layer.read_bytes()).hexdigest()
    configuration = json.dumps(
        {
            "architecture": os.uname()
            .machine.replace("x86_64", "amd64")
            .replace("aarch64", "arm64"),
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/bin:/bin:/sbin", "FROM_IMAGE=yes"],
                "Cmd": ["/bin/sh"],
                "Labels": {"box": "busybox"},
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created_by": "the client tests"}],
        }
    ).encode()
    name = hashlib.sha256(configuration).hexdigest()
    manifest: list[dict[str, Any]] = [
        {"Config": f"{name}.json", "RepoTags": [IMAGE], "Layers": [f"{digest}/layer.tar"]}
    ]
    archive = directory / "box.tar"
    with tarfile.open(archive, "w") as tar:
        _add(tar, f"{name}.json", configuration)
        _add(tar, f"{digest}/layer.tar", layer.read_bytes())
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    return archive


def _layer(busybox: Path, directory: Path) -> Path:
    path = directory / "layer.tar"
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    with tarfile.open(path, "w") as tar:
        for name in ("bin", *DIRECTORIES):
            mode = 0o1777 if name == "tmp" else 0o755
            _add(tar, name, None, mode=mode, owner=1000 if name == "home/app" else 0)
        _add(tar, "bin/busybox", busybox.read_bytes(), mode=0o755)
        for applet in sorted({*applets.stdout.split()} - {"busybox"}):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        _add(tar, "etc/passwd", PASSWD.encode())
        _add(tar, "etc/group", GROUP.encode())
        _add(tar, "data/from-image", b"seen\n")
    return path


def _add(
    tar: tarfile.TarFile, name: str, content: bytes | None, *, mode: int = 0o644, owner: int = 0
) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.uid, entry.gid = mode, owner, owner
    if content is None:
        entry.type = tarfile.DIRTYPE
    else:
        entry.size = len(content)
    tar.addfile(entry, None if content is None else io.BytesIO(content))


def _parent_groups() -> list[Path]:
    parents = (remains.PARENT, remains.PODMANS_PARENT)
    return [Path(f"{each}{parent}") for each in remains.hierarchies() for parent in parents]


def _remove_groups(parent: Path) -> None:
    for directory, _, _ in os.walk(parent, topdown=False):
        for _ in range(50):
            try:
                os.rmdir(directory)
                break
            except FileNotFoundError:
                break
            except OSError:
                # The kernel takes a moment to let go of one whose last process has just ended.
                time.sleep(0.05)


def _command(*words: str) -> None:
    subprocess.run(words, check=True)
